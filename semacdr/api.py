"""The Python API: the steps of the command as functions, with the same files and the same guarantees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semacdr.data.convert import convert as _convert
from semacdr.data.dataset import Dataset
from semacdr.data.schema import SplitName
from semacdr.embedding.build import build_table, read_profiles
from semacdr.embedding.build_ids import build_ids
from semacdr.embedding.encoder import SentenceEncoder
from semacdr.embedding.id_input import table_input
from semacdr.embedding.id_settings import id_settings
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import EmbeddingTable
from semacdr.evaluation.evaluate import evaluate as _evaluate
from semacdr.evaluation.negatives import DEFAULT_SEED
from semacdr.evaluation.ratings import RATING, evaluate_ratings
from semacdr.evaluation.results import write_results
from semacdr.local_models import EMBEDDED
from semacdr.models.recbole_own import is_own
from semacdr.models.registry import rates
from semacdr.rating_run import is_rating_run, load_rating_run
from semacdr.run import load_run, read_run
from semacdr.serving.build_index import build_index
from semacdr.serving.index import SearchIndex
from semacdr.serving.index_settings import index_settings
from semacdr.serving.recommender import RunRecommender
from semacdr.training.rating import train_rating
from semacdr.training.trainer import train as _train

PathLike = str | Path


def convert(format_name: str, output: PathLike, source: PathLike | None = None) -> Dataset:
    """Converts raw data of a known format into a data set folder and opens it.

    Args:
        format_name: for example ``movielens``, ``abxi``, ``amazon``, ``table``; see ``semacdr data list``.
        output: the folder to write.
        source: the raw data; may be left out for ``movielens``, which ships with RecBole.
    """
    _convert(format_name, None if source is None else Path(source), Path(output))
    return Dataset.load(output)


def load(path: PathLike) -> Dataset:
    """Opens a data set folder."""
    return Dataset.load(path)


def embed(dataset: Dataset, out: PathLike, profiles: PathLike | None = None, encoder: str = EMBEDDED) -> EmbeddingTable:
    """Text vectors of the items, or of the users whose profiles are given; a table of the same inputs is reused.

    Args:
        dataset: the data.
        out: the table's folder.
        profiles: a file from ``semacdr profile export``; without it, content is the only view.
        encoder: a local sentence-transformers folder or hub name; the small embedded one by default.
    """
    found = None if profiles is None else read_profiles(Path(profiles))
    summary = build_table(dataset, SentenceEncoder(encoder), Path(out), found)
    return EmbeddingTable.load(out, summary["subject"])


def semantic_ids(table: EmbeddingTable, out: PathLike, dataset: Dataset | None = None, **settings: Any) -> SemanticIds:
    """Short code sequences of the items of a table, in one space for all domains; ids of the same inputs are reused.

    Args:
        table: text vectors of the items.
        out: the folder of the ids.
        dataset: names the items' domains.
        settings: of :class:`~semacdr.embedding.id_settings.IdSettings`, for example ``levels=4, method="rq-vae"``.
    """
    chosen = id_settings(settings)
    build_ids(table_input(table, chosen.views), Path(out), chosen, dataset)
    return SemanticIds.load(out)


def train(
    model: str,
    dataset: Dataset,
    out: PathLike,
    table: EmbeddingTable | None = None,
    users: EmbeddingTable | None = None,
    ids: SemanticIds | None = None,
    **settings: Any,
) -> Path:
    """Trains a model by name into a run folder and returns the folder; the same call again resumes or reuses it.

    Args:
        model: its name.
        dataset: the data.
        out: the run folder.
        table: text vectors of the items, for models that read text.
        users: text vectors of the users' profiles, for models that read them.
        ids: semantic ids of the items, for models that know items by them.
        settings: the model's and the trainer's. A rating model wants ``domain``, and no table.
    """
    items, profiles, codes = (None if given is None else given.path for given in (table, users, ids))
    if is_own(model):
        from semacdr.recbole.own import train as train_own

        return train_own(model, dataset.path, out, settings)
    if rates(model, settings):
        return train_rating(model, dataset.path, out, settings, items or profiles or codes)
    return _train(model, dataset.path, out, items, settings, profiles, codes)


def evaluate(
    run: PathLike, protocol: str | None = None, on: SplitName = "test", coverage_at: Sequence[int] = ()
) -> dict[str, dict[str, float]]:
    """``{domain: {metric: value}}`` of a finished run, the domain ``all`` first; the run folder keeps it.

    The protocol is ``full`` for a run that ranks and ``rating`` for one that predicts ratings, if none is given.
    ``coverage_at=(10, 100)`` adds ``coverage@10`` and ``coverage@100``, under ``full``.
    """
    if is_rating_run(Path(run)):
        rated = load_rating_run(run)
        result = evaluate_ratings(rated.model, rated.dataset, rated.data, protocol or RATING, on)
        write_results(rated.path, rated.manifest, [result], DEFAULT_SEED)
        return result.metrics
    if is_own(read_run(Path(run))["model"]):
        from semacdr.recbole.own_model import load_run as load_own

        loaded = load_own(run)
    else:
        loaded = load_run(run)
    result = _evaluate(loaded.model, loaded.dataset, loaded.split, protocol or "full", on=on, coverage_at=coverage_at)
    write_results(loaded.path, loaded.manifest, [result], DEFAULT_SEED)
    return result.metrics


def index(run: PathLike, out: PathLike | None = None, kind: str = "exact", **settings: Any) -> SearchIndex:
    """An index over a run's item vectors, in ``RUN/index`` by default; one of the same inputs is reused.

    Args:
        run: a finished run of a model that scores by an inner product.
        out: the folder.
        kind: ``exact``, ``flat``, ``ivf-pq`` or ``hnsw``.
        settings: of :class:`~semacdr.serving.index_settings.IndexSettings`.
    """
    folder = Path(run) / "index" if out is None else Path(out)
    build_index(load_run(run), folder, index_settings({"kind": kind, **settings}))
    return SearchIndex.load(folder)


def recommender(run: PathLike, index: PathLike | None = None) -> RunRecommender:
    """Opens a finished run for recommendations; ``index`` is a folder of ``semacdr index`` to search in."""
    return RunRecommender.load(run, index=index)

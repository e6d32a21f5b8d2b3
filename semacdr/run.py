"""The run folder: everything needed to load, judge and repeat a training.

run.json            model, data, settings, seed, environment, status and result
metrics.jsonl       one line a validation
model.safetensors   the best weights
checkpoint.safetensors  where an unfinished training stands; gone once it is done
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

from semacdr import __version__
from semacdr.config import build
from semacdr.data.dataset import Dataset
from semacdr.data.review_texts import event_reviews
from semacdr.data.schema import StrArray
from semacdr.data.splits import Split, make_split
from semacdr.device import pick_device
from semacdr.errors import InputError
from semacdr.files import read_json
from semacdr.models.base import ItemCodes, Recommender, SideData
from semacdr.models.registry import model_class

if TYPE_CHECKING:
    from semacdr.embedding.semantic_ids import SemanticIds
    from semacdr.embedding.table import EmbeddingTable

# Goes up when older weights would load wrongly, or are not what the same data and settings would give any more.
FORMAT_VERSION = 2
RUN = "run.json"
WEIGHTS = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
LOG = "metrics.jsonl"


def run_is_done(folder: Path) -> bool:
    """Whether a run folder's training has ended."""
    return (folder / RUN).is_file() and read_json(folder / RUN)["status"] == "done"


@dataclass(frozen=True)
class LoadedRun:
    """A finished training, ready to score."""

    path: Path
    manifest: dict[str, Any]
    dataset: Dataset
    split: Split
    table: EmbeddingTable | None
    model: Recommender
    users: EmbeddingTable | None = None
    ids: SemanticIds | None = None


def read_run(path: Path) -> dict[str, Any]:
    """A run folder's manifest.

    Raises:
        InputError: not a run folder, one of another version, or its training has not ended.
    """
    if not (path / RUN).is_file():
        raise InputError(
            "not a run folder (no run.json)", where=str(path), fix="train one: semacdr train --out RUN ..."
        )
    manifest: dict[str, Any] = read_json(path / RUN)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError("trained by another version of semacdr", where=str(path), fix="train again")
    if manifest["status"] != "done":
        raise InputError(
            "its training has not ended", where=str(path), fix="repeat the train command: it goes on where it stopped"
        )
    return manifest


def load_run(
    path: str | Path,
    dataset: str | Path | None = None,
    embeddings: str | Path | None = None,
    device: str = "cpu",
    user_embeddings: str | Path | None = None,
    ids: str | Path | None = None,
) -> LoadedRun:
    """Loads a finished run with its data, in any process.

    Args:
        path: the run folder.
        dataset: where the data set folder is now, if it moved.
        embeddings: where the embedding table is now, if it moved.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for a GPU if there is one.
        user_embeddings: where the table of the users is now, if it moved.
        ids: where the semantic ids are now, if they moved.

    Raises:
        InputError: missing or changed data, or an unfinished run.
    """
    path = Path(path)
    place = pick_device(device)
    manifest = read_run(path)
    if "domain" in manifest["training"]:
        raise InputError("this run predicts ratings and ranks nothing", where=str(path))
    data = dataset_of(path, manifest, dataset)
    split = make_split(data, manifest["training"]["split"])
    table = _table(path, manifest, "embeddings", embeddings)
    users = _table(path, manifest, "user_embeddings", user_embeddings)
    codes = _ids(path, manifest, ids)
    model = build_model(manifest["model"], manifest["config"], data, split, table, users, codes)
    model.load_state(load_file(path / WEIGHTS))
    model.to(place).eval()
    model.prepare()
    return LoadedRun(path, manifest, data, split, table, model, users, codes)


def _table(run: Path, manifest: Mapping[str, Any], key: str, moved: str | Path | None) -> EmbeddingTable | None:
    """The table that run.json names under ``key``, if it names one; older runs have no key for users."""
    if manifest.get(key) is None:
        return None
    from semacdr.embedding.table import ITEMS, USERS, EmbeddingTable

    option = "--" + key.replace("_", "-")
    place = _found(run, moved or manifest[key], option)
    table = EmbeddingTable.load(place, ITEMS if key == "embeddings" else USERS)
    _unchanged(run, manifest, key, table.fingerprint)
    return table


def _ids(run: Path, manifest: Mapping[str, Any], moved: str | Path | None) -> SemanticIds | None:
    """The semantic ids that run.json names, if it names some."""
    if manifest.get("ids") is None:
        return None
    from semacdr.embedding.semantic_ids import SemanticIds

    ids = SemanticIds.load(_found(run, moved or manifest["ids"], "--ids"))
    _unchanged(run, manifest, "ids", ids.fingerprint)
    return ids


def _unchanged(run: Path, manifest: Mapping[str, Any], key: str, found: str) -> None:
    if found != manifest[f"{key}_fingerprint"]:
        what = key.replace("_", " ")
        raise InputError(f"the {what} have changed since this run was trained", where=str(run), fix="train again")


def dataset_of(run: Path, manifest: Mapping[str, Any], moved: str | Path | None = None) -> Dataset:
    """The data set that a run was trained on.

    Raises:
        InputError: it is gone or has changed.
    """
    data = Dataset.load(_found(run, moved or manifest["dataset"], "--dataset"))
    if data.fingerprint != manifest["dataset_fingerprint"]:
        raise InputError("the data set has changed since this run was trained", where=str(data.path), fix="train again")
    return data


def _found(run: Path, path: str | Path, option: str) -> Path:
    """A folder named in run.json: as it stands, or relative to the run folder."""
    for candidate in (Path(path), run / path):
        if candidate.is_dir():
            return candidate
    raise InputError(f"{path} is gone", where=str(run), fix=f"say where it is now with {option} DIR")


def build_model(
    name: str,
    config: Mapping[str, Any],
    dataset: Dataset,
    split: Split,
    table: EmbeddingTable | None,
    users: EmbeddingTable | None = None,
    ids: SemanticIds | None = None,
) -> Recommender:
    """Makes an untrained model.

    Args:
        name: of the model.
        config: its settings; unknown keys are errors.
        dataset: the data.
        split: how they are divided; gives the training counts.
        table: text embeddings, or None.
        users: embeddings of the users' profiles, or None.
        ids: semantic ids of the items, or None.

    Raises:
        InputError: wrong settings, or no semantic ids for a model that knows items by them.
    """
    cls = model_class(name)
    settings = build(cls.Config, config, where=f"settings of {name}")
    text = None
    if table is not None and cls.reads_text:
        text = {view: torch.from_numpy(matrix) for view, matrix in table.aligned(dataset.item_ids).items()}
    catalogue = dataset.catalogue(split.train_count)
    if not cls.reads_side():
        return cls(settings, catalogue, text)
    codes = None
    if cls.needs_codes(settings):
        codes = item_codes(ids, dataset.item_ids, name)
    return cls(settings, catalogue, text, side=replace(side_data(cls, dataset, split, users), codes=codes))


def item_codes(ids: SemanticIds | None, item_ids: StrArray, model: str, option: str = "--ids") -> ItemCodes:
    """The semantic ids of a catalogue's items, padding first.

    Raises:
        InputError: there are none, or an item has none.
    """
    if ids is None:
        fix = f"make them with: semacdr ids --embeddings DIR --out IDS; then give {option} IDS"
        raise InputError(f"{model} knows items by their semantic ids, and none are given", fix=fix)
    codes = np.pad(ids.codes_of(item_ids[1:]), ((1, 0), (0, 0)))
    sizes = tuple(len(book) for book in ids.quantiser.codebooks)
    return ItemCodes(torch.from_numpy(codes.astype(np.int64)), sizes)


def side_data(cls: type[Recommender], dataset: Dataset, split: Split, users: EmbeddingTable | None) -> SideData:
    """What a class reads beside item vectors; what it does not read stays None."""
    vectors = texts = None
    if users is not None and cls.reads_users:
        vectors = torch.from_numpy(users.aligned_users(dataset.user_ids))
    if cls.reads_item_texts:
        from semacdr.embedding.content import content_texts

        texts = ["", *(text or "" for text in content_texts(dataset.item_frame()))]
    return SideData(
        num_users=dataset.num_users,
        user_vectors=vectors,
        item_texts=texts,
        train=split.train if cls.reads_sequences else None,
        reviews=event_reviews(dataset, split) if cls.reads_reviews else None,
    )


def environment() -> dict[str, Any]:
    """Versions and hardware that a result depends on."""
    packages = {}
    for name in ("torch", "numpy", "transformers", "sentence-transformers", "recbole"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "semacdr": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",  # asked for: semacdr/__init__.py
        "packages": packages,
    }

"""What RecBole trained, evaluated by our protocols: full with seen items masked, sampled lists, domains, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recbole.quick_start import quick_start

from semacdr.data.dataset import Dataset
from semacdr.data.schema import SplitName
from semacdr.data.splits import Split
from semacdr.errors import InputError
from semacdr.evaluation import evaluate as evaluation
from semacdr.evaluation.metrics import DEFAULT_METRICS
from semacdr.files import fingerprint
from semacdr.recbole.data import Events
from semacdr.recbole.models import RecboleModel
from semacdr.recbole.runner import without_arguments


def evaluate(
    model_file: str | Path, protocol: str = "full", on: SplitName = "test", metrics: Sequence[str] = DEFAULT_METRICS
) -> evaluation.Result:
    """Evaluates a checkpoint that RecBole wrote (``saved/SemaCDR-....pth``).

    A checkpoint of RecBole's is a pickle: load only files that you trust.

    Args:
        model_file: the checkpoint; its data are where its config says.
        protocol: see :mod:`semacdr.evaluation.protocols`.
        on: ``test`` or ``valid``.
        metrics: see :func:`semacdr.evaluation.metrics.metric_values`.

    Raises:
        InputError: no such file, a model of RecBole's own, or an unknown protocol or metric.
    """
    if not Path(model_file).is_file():
        raise InputError("no such checkpoint", where=str(model_file))
    with without_arguments():
        config, model, _, *loaders = quick_start.load_data_and_model(str(model_file))
    if not isinstance(model, RecboleModel):
        raise InputError(f"{config['model']} is not a model of semacdr", where=str(model_file))
    dataset, split = plain_data(model, *(loader._dataset for loader in loaders))
    return evaluation.evaluate(model.inner, dataset, split, protocol, on, metrics)


def plain_data(model: RecboleModel, train: Any, valid: Any, test: Any) -> tuple[Dataset, Split]:
    """RecBole's divided data set as ours, under RecBole's item ids, which are those of ``model.inner``.

    Args:
        model: trained on ``train``.
        train: the parts, as ``dataset.build()`` gives them or as a data loader's ``_dataset``.
        valid: see ``train``.
        test: see ``train``.
    """
    events, items = Events(train, valid, test), model.inner.catalogue
    user_ids = np.asarray(train.field2id_token[train.uid_field]).astype(object)[events.user]
    content = [user_ids.tolist(), events.offsets.tolist(), items.item_ids[events.items].tolist()]
    manifest = {
        "name": train.dataset_name,
        "order": "total",
        "time_unit": "second",
        "domains": list(items.domains),
        "fingerprint": fingerprint([*content, items.item_ids.tolist(), items.item_domain.tolist()]),
    }
    dataset = Dataset(
        path=Path(train.config["checkpoint_dir"]),
        manifest=manifest,
        item_ids=items.item_ids,
        item_domain=items.item_domain,
        domains=items.domains,
        user_ids=user_ids,
        offsets=events.offsets,
        items=events.items,
        timestamps=None,
        targets=None,
    )
    name = f"RecBole {train.config['eval_args']['split']}"
    counts = items.train_count
    return dataset, Split(name, Events(train).sequences(), events.examples(1), events.examples(2), counts)

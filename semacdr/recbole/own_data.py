"""A data set of ours as RecBole has it for a model of its own: exported, read, divided, and compared with our split."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from recbole.config import Config
from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.utils import get_model, init_seed
from torch import nn

from semacdr.config import Settings
from semacdr.data.dataset import Dataset
from semacdr.data.split_names import LEAVE_ONE_OUT
from semacdr.data.splits import Split
from semacdr.device import pick_device
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.pairs import ranges
from semacdr.files import fingerprint, write_text
from semacdr.models.recbole_own import OwnTraining
from semacdr.recbole.data import Events
from semacdr.recbole.export import export
from semacdr.recbole.runner import without_arguments

VALID_METRIC = "NDCG@10"
_NAME = "data"  # RecBole has settings of its own for some names of data sets
# What is the same for all of them: the data as they are exported, and the evaluation that early stopping follows.
_FIXED: dict[str, Any] = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
    "metrics": ["NDCG"],
    "topk": [10],
    "valid_metric": VALID_METRIC,
    "metric_decimal_place": 8,
    "show_progress": False,
    "state": "ERROR",
}


class SplitDataset(SequentialDataset):
    """RecBole's data set, but for users of three events.

    RecBole always trains on a user's first target, so that of three events it would train on the validation target.
    """

    def _split_index_by_leave_one_out(self, grouped_index: Any, leave_one_num: int) -> list[list[int]]:
        parts: list[list[int]] = [[] for _ in range(leave_one_num + 1)]
        for index in map(list, grouped_index):
            held_out = leave_one_num if len(index) >= leave_one_num else 0
            parts[0] += index[: len(index) - held_out]
            for part, row in zip(parts[1:], index[len(index) - held_out :]):
                part.append(row)
        return parts


@dataclass(frozen=True)
class Side:
    """A data set of ours as RecBole has it.

    Attributes:
        config: RecBole's.
        loaders: RecBole's, of training, validation and test.
        items: (N+1,) RecBole's index of each of our items.
        users: (U,) RecBole's index of each of our users.
    """

    config: Any
    loaders: tuple[Any, Any, Any]
    items: np.ndarray
    users: np.ndarray

    @property
    def train(self) -> Any:
        """The training part."""
        return self.loaders[0]._dataset

    def model(self) -> nn.Module:
        """RecBole's model, its weights drawn by the seed."""
        init_seed(self.config["seed"], True)
        made: nn.Module = get_model(self.config["model"])(self.config, self.train).to(self.config["device"])
        return made


def open_side(
    name: str, settings: Settings, training: OwnTraining, dataset: Dataset, split: Split, scratch: Path
) -> Side:
    """Exports a data set, reads it with RecBole, and compares the parts with our split.

    Args:
        name: of the model, in RecBole's words.
        settings: of :func:`semacdr.models.recbole_own.own_settings`.
        training: seed and device.
        dataset: the data.
        split: leave-one-out on the merged sequence.
        scratch: an empty folder.

    Raises:
        InputError: a split that RecBole cannot make, or settings that it refuses.
    """
    check_split(dataset, split)
    device = pick_device(training.device)
    export(dataset.path, scratch, _NAME)
    values = {**settings.model_dump(), **_FIXED, "seed": training.seed, "data_path": str(scratch)}
    values |= {"checkpoint_dir": str(scratch / "saved"), "gpu_id": "" if device.type == "cpu" else "0"}
    if values.get("loss_type") != "CE" and values["train_neg_sample_args"] is None:
        del values["train_neg_sample_args"]  # RecBole's default: one drawn item for each right one
    # As a file: of a dict RecBole would evaluate every text as Python.
    write_text(scratch / "settings.yaml", yaml.safe_dump(values))
    with quietly(), refusals(name):
        config = Config(model=name, dataset=_NAME, config_file_list=[str(scratch / "settings.yaml")])
        config["device"] = device
        init_seed(training.seed, True)
        whole = SplitDataset(config)
        loaders = data_preparation(config, whole)
    items, users = whole.field2token_id["item_id"], whole.field2token_id["user_id"]
    side = Side(
        config,
        loaders,
        np.array([0, *(items[item] for item in dataset.item_ids[1:].tolist())], np.int64),
        np.array([users[user] for user in dataset.user_ids.tolist()], np.int64),
    )
    check_parts(side, dataset, split)
    return side


def check_parts(side: Side, dataset: Dataset, split: Split) -> None:
    """Compares RecBole's parts with a split of ours, event by event.

    Raises:
        SemacdrError: they differ: RecBole has read the exported files otherwise than they are meant.
    """
    theirs = Events(*(loader._dataset for loader in side.loaders))
    length = np.diff(dataset.offsets)
    users = np.flatnonzero(length >= 2)  # of one event RecBole makes no row
    users = users[np.argsort(side.users[users])]
    part = np.zeros(len(dataset.items), np.int64)
    part[dataset.offsets[:-1][length > 0]] = -1  # predicted by no row
    part[split.valid.stop], part[split.test.stop] = 1, 2  # positions of the targets in ``dataset.items``
    _, at = ranges(dataset.offsets[users], dataset.offsets[users + 1])
    pairs = (
        (theirs.user, side.users[users]),
        (theirs.items, side.items[dataset.items[at]]),
        (theirs.part, part[at]),
    )
    if not all(np.array_equal(one, other) for one, other in pairs):
        raise SemacdrError("RecBole has divided the data otherwise than we do, so nothing is trained on them")


def check_split(dataset: Dataset, split: Split) -> None:
    """An :class:`InputError` where RecBole cannot divide a data set as a split does."""
    if split.name != LEAVE_ONE_OUT:
        what = (
            f"RecBole divides by leave-one-out on the merged sequence, and this data set has the split {split.name!r}"
        )
        raise InputError(
            what, where=str(dataset.path), fix="in a bench: name the line's data sets with datasets: [...]"
        )
    if not len(split.valid):
        raise InputError("no validation targets, by which RecBole stops", where=str(dataset.path))


def items_fingerprint(side: Side) -> str:
    """Of RecBole's numbers of our items, which the rows of the weights go by."""
    return fingerprint(side.items.tolist())


@contextlib.contextmanager
def refusals(name: str) -> Iterator[None]:
    """What RecBole's model ``name`` raises over its settings, as an :class:`InputError`.

    RecBole checks few settings itself: PyTorch, or Python, then says what is wrong where they are first used.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = str(error) or type(error).__name__
        raise InputError(f"RecBole refuses them: {said}", where=f"settings of recbole:{name}") from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps RecBole from reading the program's arguments, from standard output, and from changing what the process has
    set.
    """
    visible, anomaly = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.is_anomaly_enabled()
    get_model("GRU4Rec")  # imports the package, which turns anomaly detection on
    torch.autograd.set_detect_anomaly(False)
    try:
        with without_arguments(), warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore", FutureWarning)  # what RecBole does will end with pandas 3
            yield
    finally:
        torch.autograd.set_detect_anomaly(anomaly)
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible

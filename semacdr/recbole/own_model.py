"""A trained model of RecBole's own as one that our protocols can rank with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from safetensors.torch import load_file
from torch import Tensor, nn

from semacdr import run as run_folder
from semacdr.config import Settings, build
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.models.base import Recommender
from semacdr.models.recbole_own import LENGTH, OwnTraining, own_name, own_settings
from semacdr.recbole.own_data import Side, items_fingerprint, open_side, quietly


class OwnModel(Recommender):
    """A model of RecBole's own as one of ours that scores: all items of all domains at once, (B, N) floats."""

    Config = Settings
    inner: Any  # RecBole's module, which has a method that nn.Module has not

    def __init__(self, inner: nn.Module, side: Side, catalogue: Catalogue) -> None:
        super().__init__(Settings(), catalogue)
        self.inner, self.side_config = inner, side.config
        self.register_buffer("theirs", torch.from_numpy(side.items), persistent=False)
        self.register_buffer("users", torch.from_numpy(side.users), persistent=False)

    @property
    def max_seq_len(self) -> int:
        """L: RecBole's ``MAX_ITEM_LIST_LENGTH``."""
        return int(self.side_config[LENGTH])

    def encode(self, batch: Batch) -> Tensor:
        """(B, N+1) scores in the order of RecBole's items.

        Raises:
            InputError: an empty history, for which RecBole has no row.
        """
        if not bool((batch.length > 0).all()):
            raise InputError("RecBole's models say nothing to a user without history")
        theirs, config = self.get_buffer("theirs"), self.side_config
        history = torch.zeros(len(batch.items), self.max_seq_len, dtype=torch.long, device=batch.items.device)
        history[:, : batch.items.shape[1]] = theirs[batch.items]
        fields = {
            config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]: history,
            config["ITEM_LIST_LENGTH_FIELD"]: batch.length,
        }
        if batch.user is not None:
            fields[config["USER_ID_FIELD"]] = self.get_buffer("users")[batch.user]
        with torch.no_grad():
            scores: Tensor = self.inner.full_sort_predict(Interaction(fields))
        return scores.view(len(history), -1).float()

    def score(self, encoded: Tensor, items: Tensor) -> Tensor:
        """Picks the scores of our items."""
        column = self.get_buffer("theirs")[items]
        return encoded[:, column] if items.dim() == 1 else encoded.gather(1, column)


def load_run(path: str | Path, dataset: str | Path | None = None, device: str = "cpu") -> run_folder.LoadedRun:
    """Loads a finished run of a model of RecBole's own, as :func:`semacdr.run.load_run` does one of ours.

    Raises:
        InputError: missing or changed data, an unfinished run, or RecBole numbers the items otherwise than in training.
    """
    path = Path(path)
    manifest = run_folder.read_run(path)
    name = own_name(manifest["model"])
    data = run_folder.dataset_of(path, manifest, dataset)
    split = make_split(data)
    config = build(own_settings(manifest["model"]), manifest["config"], f"settings of {manifest['model']}")
    training = OwnTraining(**{**manifest["training"], "device": device})
    with tempfile.TemporaryDirectory() as scratch, quietly():
        side = open_side(name, config, training, data, split, Path(scratch))
        inner = side.model()
    if items_fingerprint(side) != manifest["items_fingerprint"]:
        raise InputError("RecBole numbers the items otherwise than in the training", where=str(path), fix="train again")
    inner.load_state_dict(load_file(path / run_folder.WEIGHTS))
    # The class has the model's name, since results are told by it.
    named = type(manifest["model"], (OwnModel,), {"__doc__": OwnModel.__doc__})
    model = named(inner, side, data.catalogue(split.train_count)).to(side.config["device"]).eval()
    return run_folder.LoadedRun(path, manifest, data, split, None, model)

"""Our models as RecBole's: the same module inside, RecBole's methods outside.

RecBole finds a model, its data set and its trainer by name: ``recbole.model.<kind>.<name in small letters>``,
``recbole.data.dataset.<Name>Dataset``. :func:`register` adds these names, and changes none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.models.registry import MODELS, model_class
from semacdr.recbole.data import CrossDomainDataset, Events, catalogue, side_data, text_tables
from semacdr.recbole.settings import DOMAIN_KNOWN, read_settings

_INNER = "inner."


class RecboleModel(SequentialRecommender):
    """A model of ours that RecBole can train, save, load and evaluate.

    Attributes:
        plain: name of the model in our registry.
        inner: the module itself; it has RecBole's item ids.
    """

    plain: ClassVar[str]
    input_type = InputType.POINTWISE  # rows as they are; negatives are refused in settings.py

    def __init__(self, config: Any, dataset: Any) -> None:
        """Builds the module from the training part of a RecBole data set; a counting model is fitted at once."""
        super().__init__(config, dataset)
        cls, settings = model_class(self.plain), read_settings(config)
        train = Events(dataset).sequences()
        items = catalogue(config, dataset, train)
        text = text_tables(config, items.item_ids) if cls.reads_text else None
        side = {"side": side_data(cls, config, dataset, items.item_ids, train)} if cls.reads_side() else {}
        self.inner = cls(settings, items, text, **side)
        self.domain_known = config[DOMAIN_KNOWN] is not False
        self.whole_sequences = hasattr(dataset, "every_row")
        self._prepared = False
        if not cls.trained_by_gradient:
            self.inner.fit(train)
            self.untrained = nn.Parameter(torch.zeros(1))  # RecBole's optimiser wants something to optimise

    def train(self, mode: bool = True) -> RecboleModel:
        """Switches mode; what was cached of the items is dropped, since weights may have changed in between."""
        self._prepared = False
        super().train(mode)
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> None:
        """Takes the weights of a RecBole checkpoint."""
        self._prepared = False
        self.inner.load_state({key[len(_INNER) :]: v for key, v in state_dict.items() if key.startswith(_INNER)})

    def calculate_loss(self, interaction: Any) -> Tensor:
        """The training loss of RecBole's rows: their item is the target of the last event.

        With ``semacdr_whole_sequences`` each event before is the target of the one before it.
        """
        if not self.inner.trained_by_gradient:
            return self.untrained.sum() * 0
        batch = self._batch(interaction)
        targets = torch.zeros_like(batch.items)
        if self.whole_sequences:
            targets[:, :-1] = batch.items[:, 1:]
        targets.scatter_(1, (batch.length - 1).unsqueeze(1), interaction[self.ITEM_ID].unsqueeze(1))
        return self.inner.loss(replace(batch, targets=targets)).total

    @torch.no_grad()
    def predict(self, interaction: Any) -> Tensor:
        """(B,) score of each row's item, for the domain of that item."""
        self._prepare()
        items = interaction[self.ITEM_ID]
        return self._score(self._batch(interaction), self._domain_of(items), items.unsqueeze(1)).squeeze(1)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """(B, N+1) scores of all items of all domains, padding in column 0.

        All for one domain, that of the row's item, as in our protocol ``full-all``. Where the row has no item, or with
        ``semacdr_domain_known: false``, each item for its own domain.
        """
        self._prepare()
        batch = self._batch(interaction)
        every = torch.arange(self.n_items, device=batch.items.device)
        if self.domain_known and self.ITEM_ID in interaction:
            return self._score(batch, self._domain_of(interaction[self.ITEM_ID]), every)
        scores = torch.zeros(len(batch.items), self.n_items, device=batch.items.device)
        for domain in range(len(self.inner.catalogue.domains)):
            members = every[self._domain_of(every) == domain]
            scores[:, members] = self._score(batch, torch.full_like(batch.length, domain), members)
        return scores

    def _batch(self, interaction: Any) -> Batch:
        length = interaction[self.ITEM_SEQ_LEN]
        named = self.USER_ID in interaction
        user = interaction[self.USER_ID] if named else None
        return Batch(interaction[self.ITEM_SEQ][:, : int(length.max())], length, user=user)

    def _domain_of(self, items: Tensor) -> Tensor:
        return self.inner.get_buffer("item_domain")[items]

    def _score(self, batch: Batch, domain: Tensor, items: Tensor) -> Tensor:
        encoded = self.inner.encode(replace(batch, target_domain=domain))
        # RecBole writes into the scores, so they must be an array of their own.
        return self.inner.score(encoded, items).contiguous().to(batch.items.device)

    def _prepare(self) -> None:
        if self.training or not self._prepared:
            self.inner.prepare()
            self._prepared = True


def recbole_name(plain: str) -> str:
    """The name under which RecBole knows a model.

    SemaCDR and SemaCDRGen as they are, the others after ``Semacdr``, since RecBole has a SASRec and others of its own.
    """
    return plain if plain.startswith("SemaCDR") else f"Semacdr{plain}"


def _wrap(plain: str) -> type[RecboleModel]:
    text = f"{plain} of :mod:`{MODELS[plain]}` as a RecBole model."
    return type(recbole_name(plain), (RecboleModel,), {"plain": plain, "__module__": __name__, "__doc__": text})


WRAPPED = {recbole_name(plain): _wrap(plain) for plain in MODELS}
"""RecBole's name of a model -> its class. Each is also an attribute of this module, where pickles look for it."""
globals().update(WRAPPED)


def register() -> None:
    """Makes RecBole find every model of :data:`WRAPPED` by name."""
    datasets = import_module("recbole.data.dataset")
    for name in WRAPPED:
        # "general_recommender" is where RecBole looks first; the kind of model is taken from the class.
        sys.modules.setdefault(f"recbole.model.general_recommender.{name.lower()}", sys.modules[__name__])
        if not hasattr(datasets, f"{name}Dataset"):
            setattr(datasets, f"{name}Dataset", CrossDomainDataset)

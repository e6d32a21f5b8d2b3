"""The dual-LLM model inside RecBole is the plain module: RecBole's users, the items' texts from a data set folder."""

from __future__ import annotations

from pathlib import Path

import torch

import semacdr.recbole as ours
from semacdr.data.batches import Batch
from semacdr.models.base import SideData
from semacdr.models.dual_llm import DualLLM, DualLLMConfig
from tests.recbole.conftest import World


def test_same_weights_loss_and_users(world: World, tmp_path: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    settings = world.settings(tmp_path, semacdr_item_texts=str(world.dataset.path), max_tokens=32, cotrain_after=0)
    config = Config(model="SemacdrDualLLM", dataset="planted", config_dict=settings)
    loader = data_preparation(config, create_dataset(config))[0]
    torch.manual_seed(7)
    wrapped = ours.WRAPPED["SemacdrDualLLM"](config, loader._dataset).train()

    item_ids = wrapped.inner.catalogue.item_ids
    titles = dict(zip(world.dataset.item_frame()["item_id"], world.dataset.item_frame()["title"]))
    texts = [titles.get(str(item), "") for item in item_ids]
    plain_settings = {key: settings[key] for key in DualLLMConfig.model_fields if key in settings}
    torch.manual_seed(7)
    users = SideData(int(loader._dataset.user_num), None, texts)
    plain = DualLLM(DualLLMConfig(**plain_settings), wrapped.inner.catalogue, side=users).train()
    state = plain.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in wrapped.inner.state_dict().items())

    for module in (wrapped.inner, plain):
        torch.manual_seed(1)
        module.table.weight.data[1:].normal_()  # type: ignore[operator]
    rows = next(iter(loader))
    length = rows["item_length"]
    items = rows["item_id_list"][:, : int(length.max())]
    targets = torch.zeros_like(items).scatter_(1, (length - 1)[:, None], rows["item_id"][:, None])
    torch.manual_seed(2)
    theirs = wrapped.calculate_loss(rows)
    torch.manual_seed(2)
    found = plain.loss(Batch(items, length, targets, user=rows["user_id"]))
    assert theirs.item() == found.total.item()
    assert set(found.parts) == {"next", "items", "mlm", "reconstruction", "contrast"}
    torch.manual_seed(2)
    assert plain.loss(Batch(items, length, targets)).parts["next"] != found.parts["next"]  # the users do count

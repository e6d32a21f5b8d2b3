"""RecBole's path and ours are the same model on the same data: weights, loss, scores and metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import semacdr.recbole as ours
from semacdr import run as run_folder
from semacdr.data.batches import Batch, TrainBatches
from semacdr.data.dataset import Dataset
from semacdr.data.splits import Split, make_split
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import EmbeddingTable
from semacdr.evaluation.evaluate import evaluate
from semacdr.models.base import Recommender
from semacdr.models.registry import model_class
from semacdr.recbole.models import RecboleModel
from tests.recbole.conftest import TOPK, World

OURS = [f"{metric}@{k}" for k in TOPK for metric in ("hr", "ndcg")] + ["mrr"]
TEXT = {"views": ["content"], "item_loss_weight": 0.2, "sequence_loss_weight": 0.3}


@dataclass
class Sides:
    """A RecBole model that trained for a few steps, and our data under the same item indices."""

    config: Any
    model: RecboleModel
    trainer: Any
    loaders: tuple[Any, Any, Any]
    dataset: Dataset
    split: Split
    table: EmbeddingTable

    def plain(self) -> Recommender:
        """Our model, built from our own data set folder, with the same seed."""
        torch.manual_seed(7)
        name, cls = self.model.plain, model_class(self.model.plain)
        config = {key: self.config[key] for key in cls.Config.model_fields if key in self.config}
        ids = SemanticIds.load(self.config["semacdr_ids"]) if cls.reads_codes else None
        return run_folder.build_model(name, config, self.dataset, self.split, self.table, ids=ids)


def both_sides(world: World, folder: Path, name: str = "SemaCDR", epochs: int = 2, **others: Any) -> Sides:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    settings = world.settings(folder, semacdr_embeddings=str(world.vectors), epochs=epochs, **others)
    config = Config(model=name, dataset="planted", config_dict=settings)
    init_seed(3, True)
    loaders = data_preparation(config, create_dataset(config))
    torch.manual_seed(7)
    model = ours.WRAPPED[name](config, loaders[0]._dataset)
    trainer = Trainer(config, model)
    if epochs:
        trainer.fit(loaders[0], loaders[1], show_progress=False)
    dataset = renumbered(world.dataset, model.inner.catalogue.item_ids)
    return Sides(config, model, trainer, loaders, dataset, make_split(dataset), EmbeddingTable.load(world.vectors))


def renumbered(dataset: Dataset, item_ids: np.ndarray) -> Dataset:
    """The data set with its items in RecBole's order."""
    old = np.array([0, *(dataset.item_index[item] for item in item_ids[1:])])
    new = np.argsort(old)
    return replace(
        dataset,
        item_ids=dataset.item_ids[old],
        item_domain=dataset.item_domain[old],
        items=new[dataset.items].astype(np.int32),
    )


def test_same_catalogue(world: World, tmp_path: Path) -> None:
    sides = both_sides(world, tmp_path, epochs=0)
    catalogue = sides.model.inner.catalogue
    assert catalogue.domains == sides.dataset.domains
    np.testing.assert_array_equal(catalogue.item_domain, sides.dataset.item_domain)
    np.testing.assert_array_equal(catalogue.train_count, sides.split.train_count)
    assert (catalogue.train_count[1:] == 0).any()  # the items that nobody had are there too


@pytest.mark.parametrize(
    "name",
    [
        "SemaCDR",
        "SemaCDRGen",
        "SemacdrLLM4CDSR",
        "SemacdrLoID",
        "SemacdrSASRec",
        "SemacdrSASRecSingle",
        "SemacdrUniSRec",
        "SemacdrABXI",
        "SemacdrC2DSR",
        "SemacdrCoNet",
        "SemacdrSCoNet",
        "SemacdrDGRec",
        "SemacdrCDAN",
    ],
)
def test_same_weights_and_loss(name: str, world: World, tmp_path: Path) -> None:
    sides = both_sides(world, tmp_path, name, epochs=0, **(TEXT if name == "SemaCDR" else {}))
    plain = sides.plain()
    state = sides.model.inner.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    interaction = next(iter(sides.loaders[0]))
    histories = [row[:length].tolist() for row, length in zip(interaction["item_id_list"], interaction["item_length"])]
    length = torch.tensor([len(history) for history in histories])
    items = torch.zeros(len(histories), int(length.max()), dtype=torch.long)
    targets = items.clone()
    for row, history in enumerate(histories):
        items[row, : len(history)] = torch.tensor(history)
        targets[row, len(history) - 1] = interaction["item_id"][row]
    sides.model.train()
    plain.train()
    torch.manual_seed(11)
    theirs = sides.model.calculate_loss(interaction)
    torch.manual_seed(11)
    assert theirs.item() == plain.loss(Batch(items, length, targets)).total.item()
    theirs.backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in sides.model.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "SemaCDR",
        "SemaCDRGen",
        "SemacdrLLM4CDSR",
        "SemacdrSASRec",
        "SemacdrMarkov",
        "SemacdrItemKNN",
        "SemacdrTextKNN",
        "SemacdrCoNet",
        "SemacdrDGRec",
    ],
)
def test_recboles_metrics_are_full_all(name: str, world: World, tmp_path: Path) -> None:
    sides = both_sides(world, tmp_path, name)
    plain = sides.plain()
    if plain.trained_by_gradient:
        checkpoint = torch.load(sides.trainer.saved_model_file, weights_only=False)["state_dict"]
        plain.load_state({key.removeprefix("inner."): value for key, value in checkpoint.items()})
    else:
        plain.fit(sides.split.train)
    for on, loader in (("valid", sides.loaders[1]), ("test", sides.loaders[2])):
        theirs = sides.trainer.evaluate(loader)
        result = evaluate(plain, sides.dataset, sides.split, "full-all", on, OURS, resamples=2)
        mine = result.metrics["all"]
        if name != "SemacdrMarkov":  # ties are broken at random there
            assert (result.per_user["ties"] == 0).all()
            for k in TOPK:
                assert mine[f"hr@{k}"] == pytest.approx(theirs[f"hit@{k}"], abs=1e-6)
                assert mine[f"ndcg@{k}"] == pytest.approx(theirs[f"ndcg@{k}"], abs=1e-6)
            assert mine["mrr"] == pytest.approx(theirs[f"mrr@{TOPK[-1]}"], abs=1e-6)
            assert 0 < mine["ndcg@10"] < 1
        converted = ours.evaluate(sides.trainer.saved_model_file, "full-all", on, OURS).metrics
        assert list(converted) == list(result.metrics)
        for domain, values in result.metrics.items():
            assert converted[domain] == pytest.approx(values, abs=1e-9)


def test_converted_data_mask_the_whole_history(world: World, tmp_path: Path) -> None:
    """RecBole cuts histories; the items that do not compete under ``full`` are those of the whole history."""
    sides = both_sides(world, tmp_path, epochs=1, max_seq_len=3)
    dataset, split = ours.plain_data(sides.model, *(loader._dataset for loader in sides.loaders))
    order = {user: index for index, user in enumerate(dataset.user_ids)}
    back = np.array([order[user] for user in sides.dataset.user_ids])
    for mine, reference in ((split.valid, sides.split.valid), (split.test, sides.split.test)):
        row = {int(user): index for index, user in enumerate(mine.user)}
        assert len(mine) == len(reference)
        for index, user in enumerate(reference.user):
            at = row[int(back[user])]
            assert mine.target[at] == reference.target[index]
            np.testing.assert_array_equal(mine.history(at), reference.history(index))
    plain = sides.plain()
    plain.load_state(sides.model.inner.state_dict())
    expected = evaluate(plain, sides.dataset, sides.split, "full", resamples=2).metrics
    found = evaluate(sides.model.inner, dataset, split, "full", resamples=2).metrics
    for domain, values in expected.items():
        assert found[domain] == pytest.approx(values)
    sampled = evaluate(sides.model.inner, dataset, split, "sampled-100", resamples=2)
    assert (sampled.per_user["candidates"] < 24).all()  # all that a domain of 24 items has unseen
    assert list((tmp_path / "saved" / "negatives").iterdir())  # kept beside RecBole's checkpoints


@pytest.mark.parametrize("length", [3, 4, 12])
def test_whole_sequences_are_our_trainers_batches(length: int, world: World, tmp_path: Path) -> None:
    exact = {
        "dropout": 0.0,
        "adapter_dropout": 0.0,
        "id_dropout": 0.0,
        "item_loss_weight": 0.0,
        "sequence_loss_weight": 0.0,
    }
    whole = {"semacdr_whole_sequences": True, "max_seq_len": length, "train_batch_size": 10_000}
    sides = both_sides(world, tmp_path, epochs=0, **exact, **whole)
    (batch,) = TrainBatches(sides.split.train, 10_000, length, 0).epoch(0)
    (interaction,) = sides.loaders[0]
    assert len(interaction) == len(batch.items)
    mine = sides.plain().loss(replace(batch, first_target=None)).total.item()
    assert sides.model.calculate_loss(interaction).item() == pytest.approx(mine, rel=1e-6)
    np.testing.assert_array_equal(sides.model.inner.catalogue.train_count, sides.split.train_count)
    dataset, split = ours.plain_data(sides.model, *(loader._dataset for loader in sides.loaders))
    assert len(dataset.items) == len(sides.dataset.items)
    assert len(split.test) == len(sides.split.test)

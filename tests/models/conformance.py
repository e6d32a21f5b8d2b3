"""The suite that every ranking model inherits: subclass, set ``model``, and the whole list of promises is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from semacdr.data.batches import Batch, TrainBatches, history_batch
from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.embedding.build_ids import build_ids
from semacdr.embedding.id_input import table_input
from semacdr.embedding.id_settings import id_settings
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import EmbeddingTable
from semacdr.errors import InputError
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.ranker import rank
from semacdr.models.base import Recommender
from semacdr.models.registry import model_class
from semacdr.run import build_model, load_run
from semacdr.training.settings import TrainSettings
from semacdr.training.trainer import train
from tests.planted import write_planted, write_vectors

TINY = {"embedding_dim": 32, "num_layers": 1, "num_heads": 2, "ffn_dim": 64, "max_seq_len": 12, "dropout": 0.1}
FAST = {"epochs": 12, "batch_size": 32, "learning_rate": 5e-3, "warmup_steps": 5, "patience": 12}

AUXILIARY_WEIGHTS = (
    "item_loss_weight",
    "sequence_loss_weight",
    "user_loss_weight",
    "item_weight",
    "mlm_weight",
    "reconstruction_weight",
    "contrast_weight",
    "shared_loss_weight",
)


class RankingConformance:
    """Promises of a ranking model. ``settings`` are the model's, small; ``extra`` those that only it has."""

    model: ClassVar[str]
    extra: ClassVar[dict[str, Any]] = {}
    views: ClassVar[tuple[str, ...]] = ("content", "domain_specific", "domain_agnostic")
    beats_popularity_by: ClassVar[float] = 2.0
    protocol: ClassVar[str] = "full-all"  # full: for models that put what a user has had above all else
    planted: ClassVar[bool] = True  # whether the model can learn transitions at all

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp(self.model)

    @pytest.fixture(scope="class")
    def dataset(self, folder: Path) -> Dataset:
        return write_planted(folder / "data")

    @pytest.fixture(scope="class")
    def table(self, folder: Path, dataset: Dataset) -> Path | None:
        return self.vectors(folder / "table", dataset)

    def vectors(self, folder: Path, dataset: Dataset) -> Path | None:
        cls = model_class(self.model)
        return write_vectors(folder, dataset, self.views) if cls.reads_text or cls.reads_codes else None

    def text(self, table: Path | None) -> Path | None:
        """The table, for a model that reads it itself and not only the ids that are made of it."""
        return table if model_class(self.model).reads_text else None

    def ids(self, table: Path | None) -> Path | None:
        """Semantic ids beside the table, made at the first call, for a model that knows items by them."""
        cls = model_class(self.model)
        if table is None or not cls.needs_codes(cls.Config(**self.settings())):
            return None
        folder = table.with_name(f"{table.name}-ids")
        settings = id_settings({"levels": 2, "codes": 8, "kmeans": "scikit-learn"})
        build_ids(table_input(EmbeddingTable.load(table)), folder, settings)
        return folder

    def settings(self) -> dict[str, Any]:
        fields = model_class(self.model).Config.model_fields
        return {**{key: value for key, value in TINY.items() if key in fields}, **self.extra}

    def untrained(self, dataset: Dataset, table: Path | None, **changes: Any) -> Recommender:
        torch.manual_seed(0)
        loaded = EmbeddingTable.load(table) if table else None
        split = make_split(dataset)
        folder = self.ids(table)
        ids = SemanticIds.load(folder) if folder else None
        model = build_model(self.model, {**self.settings(), **changes}, dataset, split, loaded, ids=ids)
        if not model.trained_by_gradient:
            model.fit(split.train)
        return model.eval()

    @pytest.fixture(scope="class")
    def trained(self, folder: Path, dataset: Dataset, table: Path | None) -> Path:
        gradient = model_class(self.model).trained_by_gradient
        settings = {**self.settings(), **(FAST if gradient else {})}
        return train(self.model, dataset.path, folder / "run", self.text(table), settings, ids=self.ids(table))

    @pytest.fixture(scope="class")
    def model_trained(self, trained: Path) -> Recommender:
        return load_run(trained).model

    def all_scores(self, model: Recommender, batch: Batch) -> torch.Tensor:
        model.prepare()
        with torch.no_grad():
            return model.score(model.encode(batch), torch.arange(1, model.num_items + 1))

    def histories(self, dataset: Dataset, count: int = 6) -> list[np.ndarray]:
        return [dataset.user_items(user) for user in range(8, 8 + count)]

    def test_a_batch_scores_as_its_rows_alone_whatever_the_padding(
        self, dataset: Dataset, model_trained: Recommender
    ) -> None:
        histories = [*self.histories(dataset), dataset.user_items(0)[:1]]
        domains = [row % len(dataset.domains) for row in range(len(histories))]
        together = self.all_scores(model_trained, history_batch(histories, domains, model_trained.max_seq_len))
        for row, history in enumerate(histories):
            alone = self.all_scores(model_trained, history_batch([history], [domains[row]], model_trained.max_seq_len))
            torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)

    def test_only_the_newest_events_count(self, dataset: Dataset, model_trained: Recommender) -> None:
        limit = model_trained.max_seq_len
        if limit > 1000:
            return
        long = np.concatenate([dataset.user_items(user) for user in range(20, 30)])
        a = self.all_scores(model_trained, history_batch([long], [0], limit))
        b = self.all_scores(model_trained, history_batch([long[-limit:]], [0], limit))
        assert torch.equal(a, b)

    def test_hard_histories_give_finite_scores(self, dataset: Dataset, model_trained: Recommender) -> None:
        tea = np.flatnonzero(dataset.item_domain == 0).astype(np.int32)
        unseen = tea[-1:]
        assert dataset.catalogue(make_split(dataset).train_count).train_count[unseen[0]] == 0
        empty = np.zeros(0, np.int32)
        batch = history_batch([empty, tea[:1], tea[:5], unseen], [0, 1, 1, 0], model_trained.max_seq_len)
        assert torch.isfinite(self.all_scores(model_trained, batch)).all()

    def test_pair_scores_equal_shared_scores(self, dataset: Dataset, model_trained: Recommender) -> None:
        batch = history_batch(self.histories(dataset), [0] * 6, model_trained.max_seq_len)
        model_trained.prepare()
        with torch.no_grad():
            encoded = model_trained.encode(batch)
            items = torch.randint(1, model_trained.num_items + 1, (6, 7))
            every = model_trained.score(encoded, torch.arange(model_trained.num_items + 1))
            torch.testing.assert_close(model_trained.score(encoded, items), every.gather(1, items))

    def test_loads_in_a_fresh_process_with_the_same_scores(
        self, dataset: Dataset, trained: Path, model_trained: Recommender
    ) -> None:
        program = (
            "import sys, json, torch\n"
            "from semacdr.run import load_run\n"
            "from semacdr.data.batches import history_batch\n"
            "run = load_run(sys.argv[1]); m = run.model\n"
            "b = history_batch([run.dataset.user_items(9)], [1], m.max_seq_len)\n"
            "with torch.no_grad(): s = m.score(m.encode(b), torch.arange(1, m.num_items + 1))\n"
            "print(json.dumps(s[0].tolist()))\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(trained)], capture_output=True, text=True, check=True)
        batch = history_batch([dataset.user_items(9)], [1], model_trained.max_seq_len)
        here = self.all_scores(model_trained, batch)[0]
        torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), here, rtol=1e-6, atol=1e-7)

    def test_learns_the_planted_transitions(
        self, dataset: Dataset, model_trained: Recommender, table: Path | None
    ) -> None:
        if not self.planted:
            return
        split = make_split(dataset)
        popularity = build_model("Popularity", {}, dataset, split, None)

        def ndcg(model: Recommender) -> float:
            ranks = rank(model, split.test, dataset.item_domain, self.protocol)
            return float(metric_values(ranks.greater, ranks.ties, ["ndcg@10"])["ndcg@10"].mean())

        own, bar = ndcg(model_trained), self.beats_popularity_by * ndcg(popularity)
        assert own > bar, (
            f"ndcg@10 under {self.protocol}: {own:.3f}, {self.beats_popularity_by:g} x Popularity is {bar:.3f}"
        )

    def test_unknown_settings_are_refused_with_the_nearest_name(self, dataset: Dataset, folder: Path) -> None:
        with pytest.raises(InputError, match="unknown key"):
            train(self.model, dataset.path, folder / "nothing", None, {"embeding_dim": 8})
        assert not (folder / "nothing").exists()

    def test_settings_survive_a_round_trip(self) -> None:
        config = model_class(self.model).Config
        settings = config(**self.settings())
        assert config(**json.loads(settings.model_dump_json())) == settings
        with pytest.raises(ValidationError):
            config(**{**self.settings(), "no_such_key": 1})

    def test_one_and_three_domains(self, tmp_path: Path) -> None:
        for domains in (1, 3):
            dataset = write_planted(tmp_path / f"{domains}", domains, items=10, users=30, single_domain_users=0)
            table = self.vectors(tmp_path / f"{domains}-table", dataset)
            model = self.untrained(dataset, table)
            if model.trained_by_gradient:
                batch = next(TrainBatches(make_split(dataset).train, 16, model.max_seq_len, 0).epoch(0))
                model.train()
                loss = model.loss(batch).total
                loss.backward()
                assert torch.isfinite(loss)
                model.eval()
            batch = history_batch(self.histories(dataset, 3), [domains - 1] * 3, model.max_seq_len)
            assert torch.isfinite(self.all_scores(model, batch)).all()


class GradientConformance(RankingConformance):
    """Further promises of models that are trained by gradient on whole sequences."""

    falls_within: ClassVar[int] = 3  # epochs in which the loss falls

    def test_no_setting_has_the_name_of_one_of_the_trainer(self) -> None:
        assert not set(model_class(self.model).Config.model_fields) & set(TrainSettings.model_fields)

    def without_regularisation(self) -> dict[str, Any]:
        """Settings that leave the recommendation loss alone."""
        fields = model_class(self.model).Config.model_fields
        return {name: 0 for name in AUXILIARY_WEIGHTS if name in fields}

    def step_losses(self, dataset: Dataset, table: Path | None, **changes: Any) -> list[float]:
        model = self.untrained(dataset, table, **changes).train()
        batches = TrainBatches(make_split(dataset).train, 32, model.max_seq_len, 0)
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        losses = []
        for epoch in range(self.falls_within):
            for step, batch in enumerate(batches.epoch(epoch)):
                torch.manual_seed(100 * epoch + step)
                loss = model.loss(batch).total
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(float(loss.detach()))
        return losses

    def test_the_loss_falls(self, dataset: Dataset, table: Path | None) -> None:
        losses = self.step_losses(dataset, table)
        assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1

    def test_runs_without_text(self, dataset: Dataset) -> None:
        assert np.isfinite(self.step_losses(dataset, None)[:1]).all()

    def test_later_events_do_not_change_earlier_positions(self, dataset: Dataset, table: Path | None) -> None:
        """The gradient of one position's loss with respect to the inputs must be the same whatever comes later."""
        model = self.untrained(dataset, table)
        items = torch.from_numpy(dataset.user_items(12).astype(np.int64))[None, :8]
        changed = items.clone()
        changed[0, 5:] = changed[0, 5:].flip(0)
        targets = torch.zeros_like(items)
        targets[0, 3] = items[0, 4]
        length = torch.tensor([items.shape[1]])
        domain = model.item_domain[items]
        same_domains = domain[0, 5:].tolist() == model.item_domain[changed[0, 5:]].tolist()
        if not same_domains:  # positions are counted from the end inside each thread: keep the counts
            changed = items.clone()
            for at in range(5, items.shape[1]):
                members = (model.item_domain == domain[0, at]).nonzero().squeeze(1)
                changed[0, at] = members[(members == items[0, at]).nonzero().item() - 1]
        model = self.untrained(dataset, table, **self.without_regularisation())
        assert not torch.equal(items, changed)
        with torch.no_grad():
            torch.manual_seed(0)  # the same negatives for both, where they are sampled
            a = model.loss(Batch(items, length, targets)).total
            torch.manual_seed(0)
            b = model.loss(Batch(changed, length, targets)).total
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)

    def test_an_earlier_event_does_change_later_positions(self, dataset: Dataset, table: Path | None) -> None:
        """The guard of the test above: without it, a model that ignores its input would pass."""
        model = self.untrained(dataset, table)
        items = torch.from_numpy(dataset.user_items(12).astype(np.int64))[None, :8]
        changed = items.clone()
        changed[0, 3] = items[0, 3] % model.num_items + 1
        targets = torch.zeros_like(items)
        targets[0, 3] = items[0, 4]
        length = torch.tensor([items.shape[1]])
        torch.manual_seed(0)
        a = model.loss(Batch(items, length, targets)).total
        torch.manual_seed(0)
        b = model.loss(Batch(changed, length, targets)).total
        assert abs(float(a.detach()) - float(b.detach())) > 1e-6

    def test_training_loss_equals_scoring(self, dataset: Dataset, table: Path | None) -> None:
        """The loss of one prefix is the softmax of the scores that the ranker sees for it."""
        model = self.untrained(dataset, table, **self.without_regularisation())
        history = dataset.user_items(12)[:6].astype(np.int64)
        target = int(dataset.user_items(12)[6])
        domain = int(dataset.item_domain[target])
        targets = torch.zeros(1, 6, dtype=torch.long)
        targets[0, 5] = target
        with torch.no_grad():
            loss = model.loss(Batch(torch.from_numpy(history)[None], torch.tensor([6]), targets)).total
        scores = self.all_scores(model, history_batch([history.astype(np.int32)], [domain], model.max_seq_len))[0]
        count = torch.from_numpy(model.catalogue.train_count[1:])
        rivals = (count > 0) & (model.item_domain[1:] == domain)
        expected = torch.logsumexp(scores[rivals], 0) - scores[target - 1]
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)

    def test_the_same_seed_gives_the_same_weights_and_a_resumed_run_too(
        self, dataset: Dataset, table: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = {**self.settings(), **FAST, "epochs": 3}
        first = train(self.model, dataset.path, tmp_path / "a", self.text(table), settings, ids=self.ids(table))
        again = train(self.model, dataset.path, tmp_path / "b", self.text(table), settings, ids=self.ids(table))
        assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()

        from semacdr.training import trainer

        often = {**settings, "checkpoint_s": 1e-6}
        steps = {"left": 0}
        plain_step = trainer.Trainer._step

        def dying_step(self: trainer.Trainer, *args: Any) -> float:
            steps["left"] -= 1
            if steps["left"] < 0:
                raise KeyboardInterrupt
            return plain_step(self, *args)

        monkeypatch.setattr(trainer.Trainer, "_step", dying_step)
        for _ in range(2):  # dies twice, in the middle of an epoch
            steps["left"] = 6
            with pytest.raises(KeyboardInterrupt):
                train(self.model, dataset.path, tmp_path / "c", self.text(table), often, ids=self.ids(table))
        monkeypatch.undo()
        resumed = train(self.model, dataset.path, tmp_path / "c", self.text(table), often, ids=self.ids(table))
        assert (first / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()

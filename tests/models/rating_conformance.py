"""The suite that every rating model inherits: subclass, set ``model``, and the whole list of promises is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from semacdr.data.dataset import Dataset
from semacdr.data.rating_batches import Histories, RatingBatch, RatingBatches, pair_batches
from semacdr.data.ratings import RatingData, load_ratings
from semacdr.errors import InputError
from semacdr.evaluation.ratings import predict
from semacdr.models.rating import RatingRecommender
from semacdr.models.registry import rating_model_class
from semacdr.rating_run import build_rating_model, load_rating_run
from semacdr.training.rating import train_rating
from tests.planted_reviews import write_reviews

FAST = {"epochs": 12, "batch_size": 16, "learning_rate": 3e-3, "warmup_steps": 5, "patience": 12}


class RatingConformance:
    """Promises of a rating model. ``settings`` are the model's, small."""

    model: ClassVar[str]
    extra: ClassVar[dict[str, Any]] = {}
    beats_the_mean_by: ClassVar[float] = 0.7  # share of the mean's MSE that is left, at most

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp(self.model)

    @pytest.fixture(scope="class")
    def dataset(self, folder: Path) -> Dataset:
        return write_reviews(folder / "data")

    @pytest.fixture(scope="class")
    def data(self, dataset: Dataset) -> RatingData:
        return load_ratings(dataset, "tea")

    @pytest.fixture(scope="class")
    def settings(self, folder: Path) -> dict[str, Any]:
        return dict(self.extra)

    @pytest.fixture(scope="class")
    def trained(self, folder: Path, dataset: Dataset, settings: dict[str, Any]) -> Path:
        fast = FAST if rating_model_class(self.model).trained_by_gradient else {}
        return train_rating(self.model, dataset.path, folder / "run", {**settings, **fast, "domain": "tea"})

    @pytest.fixture(scope="class")
    def model_trained(self, trained: Path) -> RatingRecommender:
        return load_rating_run(trained).model

    def untrained(self, data: RatingData, settings: dict[str, Any]) -> RatingRecommender:
        torch.manual_seed(0)
        model = build_rating_model(self.model, settings, data)
        if not model.trained_by_gradient:
            model.fit(data.catalogue().train)
        return model

    def whole(self, model: RatingRecommender, data: RatingData) -> RatingBatch:
        histories = Histories(model.catalogue, model.history_size)
        pairs = data.ratings.select(data.rows("test"))
        return next(pair_batches(histories, pairs, len(pairs), model.reads_own_review))[1]

    def losses(self, model: RatingRecommender, epochs: int) -> list[float]:
        """Trains for a few epochs; the loss of each step."""
        batches = RatingBatches(Histories(model.catalogue, model.history_size), 32, 0, model.reads_own_review)
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
        losses = []
        for epoch in range(epochs):
            for step, batch in enumerate(batches.epoch(epoch)):
                torch.manual_seed(100 * epoch + step)
                loss = model.loss(batch).total
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(float(loss.detach()))
        return losses

    def scores(self, model: RatingRecommender, batch: RatingBatch) -> torch.Tensor:
        model.prepare()
        with torch.no_grad():
            return model.predict(batch)

    def test_a_batch_predicts_as_its_rows_alone(self, data: RatingData, model_trained: RatingRecommender) -> None:
        batch = self.whole(model_trained, data)
        together = self.scores(model_trained, batch)
        for row in range(0, len(together), 5):
            one = {name: value[row : row + 1] for name, value in vars(batch).items() if value is not None}
            alone = self.scores(model_trained, RatingBatch(**one))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)

    def test_padding_reviews_means_nothing(self, data: RatingData, model_trained: RatingRecommender) -> None:
        batch = self.whole(model_trained, data)
        empty = torch.zeros(len(batch.user), 3, dtype=torch.long)
        wider = replace(
            batch,
            user_texts=torch.cat([batch.user_texts, empty], 1),
            item_texts=torch.cat([batch.item_texts, empty], 1),
        )
        torch.testing.assert_close(
            self.scores(model_trained, wider), self.scores(model_trained, batch), rtol=1e-4, atol=1e-5
        )

    def test_unknown_users_and_items_without_any_review_get_finite_ratings(
        self, dataset: Dataset, model_trained: RatingRecommender, settings: dict[str, Any], data: RatingData
    ) -> None:
        batch = self.whole(model_trained, data)
        nothing = torch.zeros_like(batch.user_texts)
        unknown = replace(batch, user_texts=nothing, item_texts=nothing, user=batch.user * 0, item=batch.item * 0)
        assert torch.isfinite(self.scores(model_trained, unknown)).all()
        train = replace(data, part=np.where(np.arange(len(data.part)) < 12, 0, 2).astype(np.int8))
        assert np.isfinite(predict(self.untrained(train, settings).eval(), train, "test")).all()

    def test_held_out_ratings_and_their_reviews_are_never_read(
        self, data: RatingData, model_trained: RatingRecommender
    ) -> None:
        if model_trained.reads_own_review:
            return
        held = data.part > 0
        ratings = replace(
            data.ratings,
            rating=np.where(held, 1, data.ratings.rating).astype(np.float32),
            text=np.where(held, 0, data.ratings.text).astype(np.int32),
        )
        blind = predict(model_trained, replace(data, ratings=ratings), "test")
        np.testing.assert_array_equal(blind, predict(model_trained, data, "test"))

    def other_words(self, text: str) -> str:
        """In place of a held-out review: words that no training review has, as often as any word."""
        return "rugs not pans zebra " * 10

    def test_held_out_ratings_and_reviews_have_no_part_in_what_is_built_and_trained(
        self, data: RatingData, settings: dict[str, Any]
    ) -> None:
        """Vocabularies, graphs and means are made when a model is built, so two are: with other held-out data."""
        held = data.part > 0
        of_held = set(data.ratings.text[held].tolist()) - set(data.ratings.text[~held].tolist())
        texts = tuple(self.other_words(text) if at in of_held else text for at, text in enumerate(data.texts))
        ratings = replace(data.ratings, rating=np.where(held, 1, data.ratings.rating).astype(np.float32))
        assert texts != data.texts
        models = [self.untrained(seen, settings) for seen in (data, replace(data, texts=texts, ratings=ratings))]
        for model in models:
            if model.trained_by_gradient:
                self.losses(model.train(), epochs=2)
        one, other = (model.eval() for model in models)
        held_by = [dict([*model.named_parameters(), *model.named_buffers()]) for model in models]
        assert held_by[0].keys() == held_by[1].keys()
        for name, tensor in held_by[0].items():
            assert torch.equal(held_by[1][name], tensor), name
        if not one.reads_own_review:
            batch = self.whole(one, data)
            assert torch.equal(self.scores(other, batch), self.scores(one, batch))

    def test_ratings_are_float32_under_autocast(self, data: RatingData, model_trained: RatingRecommender) -> None:
        batch = self.whole(model_trained, data)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = self.scores(model_trained, batch)
        model_trained.prepare()
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, self.scores(model_trained, batch), rtol=0.05, atol=0.05)

    def test_loads_in_a_fresh_process_with_the_same_ratings(
        self, data: RatingData, trained: Path, model_trained: RatingRecommender
    ) -> None:
        program = (
            "import sys, json\n"
            "from semacdr.rating_run import load_rating_run\n"
            "from semacdr.evaluation.ratings import predict\n"
            "run = load_rating_run(sys.argv[1])\n"
            "print(json.dumps(predict(run.model, run.data, 'test').tolist()))\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(trained)], capture_output=True, text=True, check=True)
        here = predict(model_trained, data, "test")
        np.testing.assert_allclose(json.loads(done.stdout), here, rtol=1e-5, atol=1e-5)

    def test_learns_what_is_planted(self, data: RatingData, model_trained: RatingRecommender) -> None:
        rating = data.ratings.rating[data.rows("test")]
        mean = float(data.catalogue().train.rating.mean())
        error = predict(model_trained, data, "test") - rating
        assert np.square(error).mean() < self.beats_the_mean_by * np.square(rating - mean).mean() + 1e-6

    def test_unknown_settings_and_a_missing_domain_are_refused(self, dataset: Dataset, folder: Path) -> None:
        for wrong, message in (
            ({"domain": "tea", "no_such_key": 1}, "unknown key"),
            ({}, "say which"),
            ({"domain": "te"}, "did you mean 'tea'"),
        ):
            with pytest.raises(InputError, match=message):
                train_rating(self.model, dataset.path, folder / "nothing", wrong)
        assert not (folder / "nothing").exists()

    def test_settings_survive_a_round_trip(self, settings: dict[str, Any]) -> None:
        config = rating_model_class(self.model).Config
        made = config(**settings)
        assert config(**json.loads(made.model_dump_json())) == made
        with pytest.raises(ValidationError):
            config(**{**settings, "no_such_key": 1})


class RatingGradientConformance(RatingConformance):
    """Further promises of rating models that are trained by gradient."""

    own_review_is_an_answer: ClassVar[bool] = False  # what the loss asks for beside the rating

    def with_review(self, model: RatingRecommender, row: int) -> RatingRecommender:
        """The model over training reviews of which one is another; most models hold none."""
        return model

    def alone(self, model: RatingRecommender, row: int, other_review: bool) -> RatingBatch:
        """One training pair with its history, whole or drawn; ``other_review``: as if its review were another."""
        train = model.catalogue.train
        if other_review:
            text = train.text.copy()
            text[row] = train.text[np.flatnonzero(train.rating != train.rating[row])[0]]
            train = replace(train, text=text)
        catalogue = replace(model.catalogue, train=train)
        histories = Histories(catalogue, model.history_size, model.leaks)
        texts = histories.of_training_rows(np.array([row]), np.random.default_rng(0))
        user, item, rating = train.user[[row]], train.item[[row]], torch.from_numpy(train.rating[[row]])
        return RatingBatch(*(torch.from_numpy(side.astype(np.int64)) for side in (user, item, *texts)), rating)

    def reads_its_own_review(self, model: RatingRecommender, row: int) -> bool:
        """Whether a training pair's prediction, or its loss, depends on the pair's own review."""
        seen = []
        for other_review in (False, True):
            instance = self.with_review(model, row) if other_review else model
            batch = self.alone(instance, row, other_review)
            predicted = self.scores(instance.eval(), batch)
            torch.manual_seed(0)
            loss = instance.train().loss(batch)
            instance.eval()
            part = loss.parts["rec"] if self.own_review_is_an_answer else float(loss.total.detach())
            seen.append([float(predicted), part])
        return not np.allclose(*seen, rtol=1e-5, atol=1e-5)

    def test_a_pairs_own_review_says_nothing_in_training_unless_faithful(
        self, model_trained: RatingRecommender, data: RatingData, settings: dict[str, Any]
    ) -> None:
        if model_trained.reads_own_review:
            return
        if not (model_trained.history_size or self.own_review_is_an_answer):
            pytest.skip("reads no reviews; of a graph without them, the pair's own edge is its test's matter")
        rows = range(0, len(model_trained.catalogue.train), 20)
        assert not any(self.reads_its_own_review(model_trained, row) for row in rows)
        if "faithful" in type(model_trained).Config.model_fields:
            leaky = self.untrained(data, {**settings, "faithful": True})
            leaky.load_state({name: value.clone() for name, value in model_trained.state_dict().items()})
            assert leaky.leaks
            assert any(self.reads_its_own_review(leaky, row) for row in rows)

    def test_the_loss_falls(self, data: RatingData, settings: dict[str, Any]) -> None:
        losses = self.losses(self.untrained(data, settings).train(), epochs=4)
        assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])

    def test_the_same_seed_gives_the_same_weights_and_a_resumed_run_too(
        self, dataset: Dataset, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values = {**settings, **FAST, "epochs": 2, "batch_size": 32, "domain": "tea"}
        first = train_rating(self.model, dataset.path, tmp_path / "a", values)
        again = train_rating(self.model, dataset.path, tmp_path / "b", values)
        assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()

        from semacdr.training import trainer

        steps = {"left": 0}
        plain_step = trainer.Trainer._step

        def dying_step(self: trainer.Trainer, *args: Any) -> float:
            steps["left"] -= 1
            if steps["left"] < 0:
                raise KeyboardInterrupt
            return plain_step(self, *args)

        monkeypatch.setattr(trainer.Trainer, "_step", dying_step)
        values["checkpoint_s"] = 1e-6
        for _ in range(2):  # dies twice, in the middle of an epoch
            steps["left"] = 5
            with pytest.raises(KeyboardInterrupt):
                train_rating(self.model, dataset.path, tmp_path / "c", values)
        monkeypatch.undo()
        resumed = train_rating(self.model, dataset.path, tmp_path / "c", values)
        assert (first / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.evaluation.evaluate import Result, evaluate, subsets
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.results import format_table
from semacdr.evaluation.validate import validation_score
from semacdr.models.base import Recommender
from semacdr.training.settings import TrainSettings
from semacdr.training.tasks import RankingTask
from tests.evaluation.small import Scores, random_vectors
from tests.planted import write_planted


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted") / "data")


def popularity(dataset: Dataset) -> Recommender:
    count = torch.from_numpy(make_split(dataset).train_count).float()
    return Scores(dataset.catalogue(), count.expand(len(count), -1))


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> Result:
    return evaluate(popularity(dataset), dataset, make_split(dataset), resamples=200)


def test_overall_is_the_mean_over_targets(dataset: Dataset, result: Result) -> None:
    per_user = result.per_user
    values = metric_values(per_user["greater"].to_numpy(), per_user["ties"].to_numpy(), ["ndcg@10", "mrr"])
    assert list(result.metrics) == ["all", *dataset.domains]
    for name, value in values.items():
        assert result.metrics["all"][name] == pytest.approx(value.mean())
        for domain in dataset.domains:
            inside = (per_user["domain"] == domain).to_numpy()
            assert result.metrics[domain][name] == pytest.approx(value[inside].mean())


def test_per_user_tells_each_target(dataset: Dataset, result: Result) -> None:
    split = make_split(dataset)
    for row in (0, 1, 77, 159):
        told = result.per_user.iloc[row]
        events = dataset.user_items(int(split.test.user[row]))
        target, history = int(events[-1]), events[:-1]
        domain = dataset.item_domain[target]
        assert told["user_id"] == dataset.user_ids[split.test.user[row]]
        assert told["item_id"] == dataset.item_ids[target]
        assert told["domain"] == dataset.domains[domain]
        assert told["history_length"] == len(history)
        assert told["domain_history_length"] == (dataset.item_domain[history] == domain).sum()
        assert told["item_train_count"] == split.train_count[target]
        seen = {int(item) for item in history if dataset.item_domain[item] == domain} - {target}
        assert told["candidates"] == (dataset.item_domain == domain).sum() - 1 - len(seen)


def test_subsets_divide_the_targets() -> None:
    per_user = pd.DataFrame(
        {
            "item_train_count": [0, 1, 5, 6, 20, 21],
            "domain_history_length": [0, 1, 2, 3, 5, 6],
            "strict": [True, False, True, False, True, False],
        }
    )
    found = {name: np.flatnonzero(inside).tolist() for name, inside in subsets(per_user, strict=True).items()}
    assert found == {
        "all": [0, 1, 2, 3, 4, 5],
        "strict": [0, 2, 4],
        "item 0": [0],
        "item 1-5": [1, 2],
        "item 6-20": [3, 4],
        "item >20": [5],
        "user 0": [0],
        "user 1-2": [1, 2],
        "user 3-5": [3, 4],
        "user >5": [5],
    }
    assert "strict" not in subsets(per_user, strict=False)


def test_rows_hold_intervals_and_counts(dataset: Dataset, result: Result) -> None:
    rows = result.rows()
    assert {row["subset"] for row in rows} >= {"all", "strict", "item >20", "user >5"}
    for row in rows:
        assert row["ci_low"] <= row["mean"] + 1e-9
        assert row["mean"] <= row["ci_high"] + 1e-9
    whole = [row for row in rows if row["subset"] == "all" and row["domain"] == "all"]
    assert {row["n_users"] for row in whole} == {len(make_split(dataset).test)}
    assert whole[0] | {"dataset": "planted", "split": "leave-one-out", "on": "test", "protocol": "full"} == whole[0]
    parts = [row["n_targets"] for row in rows if row["metric"] == "mrr" and row["domain"] == "all"]
    names = [row["subset"] for row in rows if row["metric"] == "mrr" and row["domain"] == "all"]
    for kind in ("item ", "user "):
        assert sum(count for name, count in zip(names, parts, strict=True) if name.startswith(kind)) == parts[0]


def test_a_user_with_two_targets_counts_once(dataset: Dataset) -> None:
    split = make_split(dataset)
    twice = split.test.select(np.repeat(np.arange(len(split.test)), 2))
    found = evaluate(popularity(dataset), dataset, dataclasses.replace(split, test=twice), resamples=50)
    row = found.rows()[0]
    assert (row["n_users"], row["n_targets"]) == (len(split.test), 2 * len(split.test))


def test_too_few_negatives_are_said(dataset: Dataset) -> None:
    result = evaluate(popularity(dataset), dataset, make_split(dataset), "sampled-100", resamples=50)
    assert result.rows()[0]["candidates_max"] < 24
    table = format_table(result)
    assert "tea: only " in table
    assert "all unseen items there are" in table


def test_validation_score_reads_validation_targets(dataset: Dataset) -> None:
    split, model = make_split(dataset), random_vectors(dataset, 0)
    scores = validation_score(model, split.valid, dataset)
    expected = evaluate(model, dataset, split, on="valid", metrics=["ndcg@10"], resamples=10).metrics
    assert scores == pytest.approx({domain: means["ndcg@10"] for domain, means in expected.items()})
    assert scores != validation_score(model, split.test, dataset)


def test_early_stopping_follows_its_protocol_on_validation_targets(dataset: Dataset) -> None:
    """Under full-cold the new items alone compete, by the training counts that the model was made with."""
    split, model = make_split(dataset, "cold-item-40"), random_vectors(dataset, 0)
    model.catalogue = dataset.catalogue(split.train_count)
    followed = {}
    for protocol in ("full", "full-cold", "sampled-100"):
        settings = TrainSettings(split="cold-item-40", valid_protocol=protocol)
        followed[protocol] = RankingTask(model, dataset, split, settings).validate()
        expected = evaluate(model, dataset, split, protocol, on="valid", metrics=["ndcg@10"], resamples=10).metrics
        assert followed[protocol] == pytest.approx({place: means["ndcg@10"] for place, means in expected.items()})
    assert followed["full-cold"]["all"] > followed["full"]["all"]


def test_wrong_input_ends_it_before_the_work(dataset: Dataset, tmp_path: Path) -> None:
    model, split = popularity(dataset), make_split(dataset)
    with pytest.raises(InputError, match="unknown metric 'ncdg@10'"):
        evaluate(model, dataset, split, metrics=["ncdg@10"])
    empty = dataclasses.replace(split, test=split.test.select(np.zeros(0, np.int64)))
    with pytest.raises(InputError, match="no test targets"):
        evaluate(model, dataset, empty)

"""Rows by hand: means and spread over seeds, intervals over users, notes, published numbers apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semacdr.bench.config import Published
from semacdr.bench.leaderboard import COLUMNS, failed_row, published_rows, system_rows
from semacdr.bench.markdown import tables
from semacdr.bench.significance import best_against_others
from semacdr.bench.systems import System, stopped_early
from semacdr.errors import InputError
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval
from tests.bench.tiny import fake_run

HIT, MISS = 0, 50


def test_mean_and_spread_over_seeds_by_hand(tmp_path: Path) -> None:
    first = fake_run(tmp_path / "0", 0, [HIT, HIT, HIT, MISS, MISS, MISS])  # 3 of 6
    second = fake_run(tmp_path / "1", 1, [HIT, HIT, HIT, HIT, HIT, MISS])  # 5 of 6
    rows = {
        (row["subset"], row["domain"]): row for row in system_rows(System("six", "ours", (first, second), 4), "full")
    }
    row = rows["all", "all"]
    assert tuple(row) == COLUMNS
    assert row["mean"] == pytest.approx(4 / 6)
    assert row["std"] == pytest.approx(np.std([3 / 6, 5 / 6], ddof=1))
    assert (row["seeds"], row["trials"], row["status"], row["source"]) == (2, 4, "ok", "measured")
    assert (row["train_seconds"], row["train_cpu_seconds"], row["peak_rss_bytes"]) == (2.5, 1.5, 101)
    assert (row["epochs"], row["huge_pages"]) == ("3 of 5, best 1 to 2", True)
    assert rows["all", "x"]["mean"] == pytest.approx((2 / 3 + 3 / 3) / 2)
    assert rows["strict", "all"]["mean"] == pytest.approx((2 / 5 + 4 / 5) / 2)


def test_the_interval_of_several_seeds_resamples_users_of_the_averaged_values(tmp_path: Path) -> None:
    runs = (
        fake_run(tmp_path / "0", 0, [HIT, HIT, MISS, MISS, MISS, MISS]),
        fake_run(tmp_path / "1", 1, [HIT, MISS, HIT, MISS, MISS, MISS]),
    )
    found = {(row["subset"], row["domain"]): row for row in system_rows(System("six", "ours", runs), "full")}
    averaged = np.array([1.0, 0.5, 0.5, 0.0, 0.0, 0.0])
    user, x = np.array([0, 0, 1, 2, 3, 4], np.int32), np.array([1, 0, 1, 1, 0, 0], np.bool_)
    strict = np.array([1, 0, 1, 1, 1, 1], np.bool_)
    inside = np.stack([np.ones(6, np.bool_), x, strict], axis=1)
    low, high = percentile_interval(bootstrap_means(user, averaged[:, None], inside))
    for at, key in enumerate([("all", "all"), ("all", "x"), ("strict", "all")]):
        assert (found[key]["ci_low"], found[key]["ci_high"]) == pytest.approx((low[at, 0], high[at, 0]))


def test_one_seed_has_no_spread_and_keeps_its_own_interval(tmp_path: Path) -> None:
    (row, *_) = system_rows(System("six", "ours", (fake_run(tmp_path / "0", 0, [HIT] * 6),)), "full")
    assert (row["std"], row["ci_low"], row["ci_high"], row["seeds"]) == (None, 0.0, 1.0, 1)


@pytest.mark.parametrize(
    ("split", "head"),
    [
        ("leave-one-out", "## six, full"),
        ("published", "## six, full"),
        ("random 8:1:1", "## six, full"),
        ("cold-user-20", "## six, cold-user-20, full"),
        ("transfer-80:x", "## six, transfer-80:x, full"),
    ],
)
def test_a_table_names_the_split_that_hides_events(tmp_path: Path, split: str, head: str) -> None:
    rows = system_rows(System("six", "ours", (fake_run(tmp_path / "0", 0, [HIT] * 6),)), "full")
    told = tables([{**row, "split": split} for row in rows], [], lambda _: "ndcg@10").splitlines()
    assert told[0] == head


def test_a_capped_run_says_so(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "0", 0, [HIT] * 6, cap_cpu_s=60.0)
    assert stopped_early([run]) is None
    text = (run / "run.json").read_text().replace('"epochs": 3', '"epochs": 3, "stopped_by": "cap"')
    (run / "run.json").write_text(text)
    assert stopped_early([run]) == "capped at 60 CPU s, after 3 epochs"
    assert stopped_early([run, fake_run(tmp_path / "1", 1, [HIT] * 6)]) == (
        "1 of 2 seeds capped at 60 CPU s, after 3 epochs"
    )


def test_the_best_is_tested_against_every_other_and_the_table_corrected_as_one_family(tmp_path: Path) -> None:
    systems = [
        System("six", "low", (fake_run(tmp_path / "low", 0, [HIT, MISS, MISS, MISS, MISS, MISS]),)),
        System("six", "high", (fake_run(tmp_path / "high", 0, [HIT, HIT, HIT, HIT, MISS, MISS]),)),
        System("six", "mid", (fake_run(tmp_path / "mid", 0, [HIT, HIT, HIT, MISS, HIT, MISS]),)),
    ]
    tests = best_against_others(systems, "full", "hr@10")
    assert [(test["domain"], test["best"], test["model"]) for test in tests] == [
        ("x", "high", "low"),
        ("x", "high", "mid"),
        ("y", "mid", "low"),
        ("y", "mid", "high"),
        ("all", "high", "low"),
        ("all", "high", "mid"),
    ]
    assert {test["family"] for test in tests} == {6}
    smallest = min(test["p_value"] for test in tests)
    assert min(test["p_holm"] for test in tests) == pytest.approx(min(1.0, 6 * smallest))
    first = tests[4]
    assert (first["mean"], first["best_mean"]) == pytest.approx((1 / 6, 4 / 6))
    assert first["difference"] == pytest.approx(-0.5)
    assert first["relative"] == pytest.approx(-0.75)
    # three users differ, by 1 each: all signs equal in 2 of 8 flips
    assert first["p_value"] == pytest.approx(2 / 8, abs=0.02)
    gaps = np.array([-0.5, -1.0, -1.0, 0.0, 0.0])  # of the five users, means of their targets
    assert first["effect_size"] == pytest.approx(gaps.mean() / gaps.std(ddof=1))


def test_other_targets_are_not_compared(tmp_path: Path) -> None:
    import pandas as pd

    first, second = (fake_run(tmp_path / name, 0, [HIT] * 6) for name in "ab")
    pd.read_parquet(second / "ranks-full-test.parquet").iloc[::-1].reset_index(drop=True).to_parquet(
        second / "ranks-full-test.parquet"
    )
    with pytest.raises(InputError, match="other targets"):
        best_against_others([System("six", "a", (first,)), System("six", "b", (second,))], "full", "hr@10")


def test_ratings_of_two_seeds_by_hand(tmp_path: Path) -> None:
    import pandas as pd

    from semacdr.files import write_json

    runs = []
    for seed, predicted in enumerate(([3.0, 5.0, 2.0], [4.0, 5.0, 4.0])):
        run = fake_run(tmp_path / str(seed), seed, [HIT] * 6)
        (run / "ranks-full-test.parquet").unlink()
        frame = pd.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "y", "x"], "domain": "tea"})
        frame = frame.assign(rating=[4.0, 5.0, 2.0], prediction=predicted, item_train_count=3, user_train_count=1)
        frame.to_parquet(run / "predictions-rating-test.parquet")
        squares = (frame["prediction"] - frame["rating"]) ** 2
        means = {"mse": squares.mean(), "rmse": squares.mean() ** 0.5}
        base = {"split": "random 8:1:1", "protocol": "rating", "subset": "all", "ci_low": 0.0, "ci_high": 9.0}
        both = [{**base, "domain": place, "n_users": 3, "n_targets": 3} for place in ("all", "tea")]
        rows = [{**row, "metric": name, "mean": float(mean)} for row in both for name, mean in means.items()]
        write_json(run / "metrics_long.json", rows)
        write_json(run / "evaluation.json", {"run": "x", "protocols": {"rating": {}}})
        runs.append(run)
    ours = System("shop", "ours", tuple(runs), domain="tea")
    found = {row["metric"]: row for row in system_rows(ours, "rating")}
    assert {row["domain"] for row in found.values()} == {"tea"}  # one of its domains is not all of them
    assert found["mse"]["mean"] == pytest.approx((1 / 3 + 4 / 3) / 2)
    assert found["rmse"]["mean"] == pytest.approx(((1 / 3) ** 0.5 + (4 / 3) ** 0.5) / 2)
    assert found["rmse"]["ci_high"] == pytest.approx(found["mse"]["ci_high"] ** 0.5)
    assert found["mse"]["ci_high"] > found["mse"]["mean"]
    theirs = System("shop", "theirs", tuple(runs[1:]), domain="tea")
    (test,) = best_against_others([ours, theirs], "rating", "mse")
    assert (test["best"], test["model"], test["domain"]) == ("ours", "theirs", "tea")  # the lowest error is the best
    alone = System("shop", "alone", tuple(runs[1:]), domain="pans")
    assert best_against_others([ours, alone], "rating", "mse") == []


def test_published_and_failed_rows_stand_apart(tmp_path: Path) -> None:
    ours = System("six", "ours", (fake_run(tmp_path / "0", 0, [HIT] * 3 + [MISS] * 3),))
    other = System("six", "other", (fake_run(tmp_path / "1", 0, [MISS] * 6),))
    theirs = Published(
        model="ours", dataset="six", protocol="full", cite="a paper", seeds=5, values={"all": {"hr@10": (0.9, 0.01)}}
    )
    rows = [
        *system_rows(ours, "full"),
        *system_rows(other, "full"),
        failed_row("six", "broken", 1, "no GPU"),
        *published_rows([theirs]),
    ]
    text = tables(rows, best_against_others([ours, other], "full", "hr@10"), lambda _: "hr@10")
    lines = text.splitlines()
    (measured,) = [line for line in lines if line.startswith("| ours | ") and "[" in line]
    assert "**0.5000**" in measured  # .9 is higher, and published: it takes no part
    (published,) = [line for line in lines if line.startswith("| *ours, published: a paper*")]
    assert "0.9000 ±0.0100 |" in published
    assert "**" not in published
    assert lines.index(published) > lines.index(measured)
    assert "- broken, seed 1: no GPU" in lines
    assert [row["source"] for row in rows].count("published") == 1


def test_strict_is_explained_where_it_is_a_column(tmp_path: Path) -> None:
    rows = system_rows(System("six", "ours", (fake_run(tmp_path / "a", 0, [HIT] * 6),)), "full")
    loose = [row for row in rows if row["subset"] != "strict"]
    seldom = [*loose, {**loose[0], "subset": "item 0"}]
    for some, said in ((rows, True), (seldom, False)):
        text = tables(some, [], lambda _: "hr@10")
        assert "of subsets of the targets" in text
        assert ("strict (a later day than the event before)" in text) is said

"""The plan's price, against sums made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.local_models import ModelFolder
from semacdr.profiling import cost
from semacdr.profiling.cost import PlanCost, total_cost
from semacdr.profiling.engines.base import Message, Request
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore, RunRecord
from tests.profiling.small import FakeEngine, write_dataset

PROMPT = load_prompts()[0]


def ran(prompt: str = PROMPT.label, engine: str = "fake", model: str = "fake-model", **numbers: float) -> RunRecord:
    given = {"answers": 100, "retried": 20, "prompt_tokens": 9000, "tokens": 1000, "seconds": 50.0, **numbers}
    return RunRecord("2030-01-01", PROMPT.view, prompt, model, "1", engine, **given)  # type: ignore[arg-type]


def price(requests: list[Request], *runs: RunRecord) -> dict:
    with AnswerStore(None) as store:
        for run in runs:
            store.add_run(run)
        plan = PlanCost(FakeEngine(), store, PROMPT)
        plan.add(requests)
        return plan.result()


REQUESTS = [Request((Message("system", "s" * 40), Message("user", "u" * 360))) for _ in range(8)]  # 100 tokens each


def test_without_earlier_runs_tokens_are_estimated_and_time_is_not() -> None:
    found = price(REQUESTS)
    assert (found["calls"], found["prompt_tokens"], found["tokens"]) == (8, 800, 8 * 64)
    assert found["prompt_tokens_from"] == "estimated from the number of characters"
    assert found["tokens_from"] == "the most that an answer may take"
    assert found["seconds"] is None
    assert price([]) == {**found, "calls": 0, "prompt_tokens": 0, "tokens": 0}


def test_earlier_runs_give_retries_answer_length_and_rate() -> None:
    # 80 first answers and 20 retries: 1.25 calls an item; 10 tokens an answer; 10,000 tokens in 50 s
    found = price(REQUESTS, ran())
    assert (found["calls"], found["prompt_tokens"], found["tokens"]) == (10, 1000, 100)
    assert found["seconds"] == pytest.approx(1100 / 200)


def test_rate_is_that_of_the_largest_run_of_this_model_and_engine() -> None:
    small = ran(answers=4, retried=0, prompt_tokens=400, tokens=40, seconds=44.0)  # loading was most of it
    others = [ran(engine="vllm", seconds=1.0), ran(model="other", seconds=1.0)]
    assert price(REQUESTS, small, ran(), small)["seconds"] == pytest.approx(
        price(REQUESTS, small, ran(), small, *others)["seconds"], rel=0.2
    )
    assert "200 prompt" in price(REQUESTS, small, ran(), *others)["seconds_from"]
    other_prompt = price(REQUESTS, ran(prompt="item/attributes@v1"))
    assert (other_prompt["calls"], other_prompt["tokens"]) == (8, 512)
    assert other_prompt["seconds"] == pytest.approx((800 + 512) / 200, abs=0.1)


def test_many_prompts_are_counted_from_a_sample() -> None:
    many = [Request((Message("user", "u" * (4 + 8 * (number % 2))),)) for number in range(2001)]
    found = price(many)
    assert found["prompt_tokens_from"].endswith("from a sample")
    assert found["prompt_tokens"] == pytest.approx(2001 * 2, rel=0.1)


def test_tokenizer_of_the_model_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "token_counter", lambda engine: lambda requests: 7 * len(requests))
    found = price(REQUESTS)
    assert (found["prompt_tokens"], found["prompt_tokens_from"]) == (56, "counted with the model's tokenizer")


def test_the_model_is_found_behind_what_stands_before_it(tmp_path: Path) -> None:
    class Behind:
        def __init__(self, engine: object, folder: object) -> None:
            self.engine, self.folder = engine, folder

    model = ModelFolder("m", "1", tmp_path)
    assert cost._model_folder(Behind(Behind(None, model), tmp_path)) is model
    assert cost._model_folder(FakeEngine()) is None
    assert cost.token_counter(Behind(None, model)) is None  # no tokenizer in the folder


def test_sum_has_no_time_where_a_view_has_none() -> None:
    known = {"calls": 1, "prompt_tokens": 2, "tokens": 3, "seconds": 4.0}
    assert total_cost([known, known]) == {"calls": 2, "prompt_tokens": 4, "tokens": 6, "seconds": 8.0}
    assert total_cost([known, {**known, "seconds": None}])["seconds"] is None
    assert total_cost([known, {"calls": 0, "prompt_tokens": 0, "tokens": 0, "seconds": None}])["seconds"] == 4.0


def test_an_interrupted_run_leaves_its_rate(tmp_path: Path) -> None:
    class Dies(FakeEngine):
        def batch(self, requests, sampling):
            if self.calls == 2:
                raise RuntimeError("the engine is gone")
            return super().batch(requests, sampling)

    write_dataset(tmp_path / "data")
    rows = ItemRows(tmp_path / "data")
    with AnswerStore(None) as store:
        with pytest.raises(RuntimeError):
            profile_items(rows, Dies(bad=0), store, [PROMPT], Vocabulary.load(), RunOptions())
        (run,) = store.runs()
        assert (run.answers, run.prompt_tokens, run.tokens) == (8, 800, 80)
        plan = profile_items(rows, FakeEngine(), store, [PROMPT], Vocabulary.load(), RunOptions(dry_run=True))
        assert (plan["cached"], plan["to_generate"], plan["generated"]) == (8, 3, 0)
        assert plan["cost"]["tokens"] == 30


def test_dry_run_as_a_user_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *args, **kwargs: FakeEngine(bad=0))
    write_dataset(tmp_path / "data")
    command = ["profile", "items", "--dataset", str(tmp_path / "data"), "--store", str(tmp_path / "s")]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "11 items, 11 different prompts, 0 cached, 11 to generate" in out
    assert "estimated from the number of characters" in out
    assert "time not known" in out
    assert not (tmp_path / "s").exists()
    assert main([*command, "--limit", "4"]) == 0
    capsys.readouterr()
    assert main([*command, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["cached"], plan["to_generate"], plan["cost"]["tokens"]) == (8, 14, 140)
    assert plan["cost"]["seconds"] is not None

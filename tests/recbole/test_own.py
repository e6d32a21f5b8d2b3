"""RecBole's own models: our split to the event, RecBole's scores in our ranks, a run folder like any other."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from semacdr.cli import main
from semacdr.data.batches import history_batch
from semacdr.data.convert import write_dataset
from semacdr.data.dataset import Dataset
from semacdr.data.readers.raw import RawData
from semacdr.data.splits import Split, make_split
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.evaluate import evaluate
from semacdr.models.recbole_own import OwnTraining, own_models, own_settings
from semacdr.recbole.own import train
from semacdr.recbole.own_data import Side, check_parts, open_side, quietly
from semacdr.recbole.own_model import OwnModel, load_run
from tests.recbole.conftest import World

GRU = {"hidden_size": 8, "embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 6, "epochs": 2, "learning_rate": 0.01}
BERT = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 6, "epochs": 1}
SETTINGS = {"recbole:GRU4Rec": GRU, "recbole:BERT4Rec": BERT}
HAND = {"u1": "b1 a1 b2 a2", "u2": "a3 b1 a1", "u3": "b2 a1", "u4": "a2", "u5": "a1 b1 a1 b1 a2 b2 a3"}


def write_hand(folder: Path, events: dict[str, str] = HAND) -> Dataset:
    """Users of one to seven events, their times in the order given."""
    rows = [
        (user, item, item[0], 86_400 * at, at)
        for user, items in events.items()
        for at, item in enumerate(items.split())
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "domain", "timestamp", "position"])
    names = ["a1", "a2", "a3", "a4", "b1", "b2", "b3"]  # nobody had a4 and b3
    items = pd.DataFrame({"item_id": names, "domain": [name[0] for name in names], "title": names})
    write_dataset(RawData("hand", frame, items, "total", "day"), frame, items, folder, "table", "hand", {})
    return Dataset.load(folder)


def opened(dataset: Dataset, scratch: Path, name: str = "GRU4Rec", **settings: Any) -> tuple[Side, Split]:
    split = make_split(dataset)
    scratch.mkdir()
    values = own_settings(f"recbole:{name}")(**{**SETTINGS.get(f"recbole:{name}", {}), **settings})
    return open_side(name, values, OwnTraining(device="cpu"), dataset, split, scratch), split


def rows(side: Side, part: int) -> set[tuple[str, str, str]]:
    """(user, history, target) of a part, in our names."""
    data = side.loaders[part]._dataset
    user, item = data.field2id_token["user_id"], data.field2id_token["item_id"]
    table = data.inter_feat
    return {
        (user[u], " ".join(item[history[:length]]), item[target])
        for u, history, length, target in zip(
            table["user_id"], table["item_id_list"].numpy(), table["item_length"], table["item_id"]
        )
    }


def test_recbole_gets_our_split(tmp_path: Path) -> None:
    side, _ = opened(write_hand(tmp_path / "data"), tmp_path / "scratch")
    assert rows(side, 0) == {
        ("u1", "b1", "a1"),
        ("u3", "b2", "a1"),  # two events: both train
        ("u5", "a1", "b1"),
        ("u5", "a1 b1", "a1"),
        ("u5", "a1 b1 a1", "b1"),
        ("u5", "a1 b1 a1 b1", "a2"),
    }
    # RecBole alone would train on u2's validation target and validate nothing there.
    assert rows(side, 1) == {("u1", "b1 a1", "b2"), ("u2", "a3", "b1"), ("u5", "a1 b1 a1 b1 a2", "b2")}
    # Cut at MAX_ITEM_LIST_LENGTH = 6, u5 would lose a seventh event.
    assert rows(side, 2) == {
        ("u1", "b1 a1 b2", "a2"),
        ("u2", "a3 b1", "a1"),
        ("u5", "a1 b1 a1 b1 a2 b2", "a3"),
    }


def test_no_held_out_event_is_in_a_training_row(world: World, tmp_path: Path) -> None:
    side, split = opened(world.dataset, tmp_path / "scratch")
    names = world.dataset.item_ids
    ours = {
        (
            world.dataset.user_ids[user],
            " ".join(names[world.dataset.items[start:at][-6:]]),
            names[world.dataset.items[at]],
        )
        for user, start, stop in zip(split.train.user, split.train.start, split.train.stop)
        for at in range(start + 1, stop)
    }
    assert rows(side, 0) == ours
    for part, examples in ((1, split.valid), (2, split.test)):
        ours = {
            (world.dataset.user_ids[user], " ".join(names[examples.history(at)[-6:]]), names[target])
            for at, (user, target) in enumerate(zip(examples.user, examples.target))
        }
        assert rows(side, part) == ours
    assert len(side.train) == sum(int(stop - start) - 1 for start, stop in zip(split.train.start, split.train.stop))


def test_another_division_is_noticed(tmp_path: Path) -> None:
    dataset = write_hand(tmp_path / "data")
    side, split = opened(dataset, tmp_path / "scratch")
    check_parts(side, dataset, split)
    swapped = Side(side.config, (side.loaders[0], side.loaders[2], side.loaders[1]), side.items, side.users)
    with pytest.raises(SemacdrError, match="divided the data otherwise"):
        check_parts(swapped, dataset, split)
    other = dict(HAND, u1="b1 a2 b2 a1")
    changed = write_hand(tmp_path / "other", other)
    with pytest.raises(SemacdrError, match="divided the data otherwise"):
        check_parts(side, changed, make_split(changed))


@pytest.mark.parametrize("name", ["GRU4Rec", "BERT4Rec", "FPMC"])  # FPMC knows users, and draws wrong items
def test_ranks_are_of_recboles_scores(name: str, world: World, tmp_path: Path) -> None:
    """RecBole's own evaluation of the same weights, under the protocol that ranks as it does."""
    from recbole.trainer import Trainer

    settings = {} if name == "FPMC" else {"MAX_ITEM_LIST_LENGTH": 12}
    side, split = opened(world.dataset, tmp_path / "scratch", name, **settings)
    with quietly():
        inner = side.model()
        torch.manual_seed(1)
        for parameter in inner.parameters():
            parameter.data.normal_(std=0.5)  # no ties, and other users get other items
        trainer = Trainer(side.config, inner)
        theirs = trainer.evaluate(side.loaders[2], load_best_model=False)
    model = OwnModel(inner, side, world.dataset.catalogue(split.train_count))
    result = evaluate(model, world.dataset, split, "full-all", "test", ["ndcg@10"], resamples=2)
    assert (result.per_user["ties"] == 0).all()
    assert result.metrics["all"]["ndcg@10"] == pytest.approx(theirs["ndcg@10"], abs=1e-6)
    assert 0 < theirs["ndcg@10"] < 1


def test_scores_stand_under_our_items(world: World, tmp_path: Path) -> None:
    side, split = opened(world.dataset, tmp_path / "scratch")
    inner = side.model().eval()
    model = OwnModel(inner, side, world.dataset.catalogue(split.train_count)).eval()
    test = side.loaders[2]._dataset
    found = inner.full_sort_predict(test[torch.arange(5)])
    tokens = test.field2id_token["item_id"]
    order = {user: at for at, user in enumerate(test.field2id_token["user_id"][test.inter_feat["user_id"][:5].numpy()])}
    for at, user in enumerate(split.test.user):
        row = order.get(world.dataset.user_ids[user])
        if row is None:
            continue
        encoded = model.encode(history_batch([split.test.history(at)], [0], model.max_seq_len, [int(user)]))
        for item, name in enumerate(world.dataset.item_ids[1:], start=1):
            expected = found[row, int(np.flatnonzero(tokens == name)[0])]
            torch.testing.assert_close(model.score(encoded, torch.tensor([item]))[0, 0], expected)
            torch.testing.assert_close(model.score(encoded, torch.tensor([[item]]))[0, 0], expected)
    with pytest.raises(InputError, match="without history"):
        model.encode(history_batch([np.zeros(0, np.int32)], [0], 6))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_folder_like_any_other(
    name: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{key}={value}" for key, value in SETTINGS[name].items()]
    command = ["train", "--model", name, "--dataset", str(world.dataset.path), *words, "seed=3", "--out"]
    for run in ("one", "two"):
        random.seed(run)  # what the process drew before does not count
        assert main([*command, str(tmp_path / run)]) == 0
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "metrics.jsonl",
        "model.safetensors",
        "run.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]  # nothing of RecBole's is left about
    weights = [load_file(tmp_path / run / "model.safetensors") for run in ("one", "two")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    made = (tmp_path / "one" / "run.json").stat().st_mtime_ns
    assert main([*command, str(tmp_path / "one")]) == 0  # it is done
    assert (tmp_path / "one" / "run.json").stat().st_mtime_ns == made
    assert main([*command, str(tmp_path / "one"), "train_batch_size=7"]) == 2
    assert "holds another run" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "one"), "--protocol", "full,sampled-100"]) == 0
    assert f"{name} on planted, leave-one-out, test: full" in capsys.readouterr().out
    ranks = pd.read_parquet(tmp_path / "one" / "ranks-full-test.parquet")
    assert ranks["candidates"].max() <= 23
    assert set(json.loads((tmp_path / "one" / "metrics.json").read_text())) == {"full", "sampled-100"}
    assert main(["recommend", str(tmp_path / "one"), "--user", "u1"]) == 2
    assert "RecBole's own" in capsys.readouterr().err
    assert not torch.is_anomaly_enabled()


def test_a_killed_training_begins_anew_and_the_best_weights_stay(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {**GRU, "epochs": 20, "stopping_step": 1, "learning_rate": 0.5, "train_batch_size": 128}
    whole = train("recbole:GRU4Rec", world.dataset.path, tmp_path / "whole", settings)
    (run / "recbole" / "data").mkdir(parents=True)  # as a kill leaves it
    (run / "recbole" / "data" / "data.inter").write_text("half")
    manifest = json.loads((whole / "run.json").read_text())
    begun = {key: manifest[key] for key in manifest if key not in ("result", "environment", "items_fingerprint")}
    (run / "run.json").write_text(json.dumps({**begun, "status": "running"}))
    train("recbole:GRU4Rec", world.dataset.path, run, settings)
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, run))
    assert all(torch.equal(one[key], two[key]) for key in one)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(log, key=lambda line: line["recbole_valid_ndcg@10"])
    assert best["epoch"] < len(log) < 20  # too fast a training: it does worse again, and patience ends it
    assert (manifest["result"]["best_epoch"], manifest["result"]["stopped_by"]) == (best["epoch"], "patience")
    assert [line["epoch"] for line in log if line["best"]][-1] == best["epoch"]
    loaded = load_run(run)
    result = evaluate(loaded.model, loaded.dataset, loaded.split, "full-all", "valid", ["ndcg@10"], resamples=2)
    assert result.metrics["all"]["ndcg@10"] == pytest.approx(best["recbole_valid_ndcg@10"], abs=1e-6)


def test_no_epoch_starts_after_the_cap(world: World, tmp_path: Path) -> None:
    run = train("recbole:GRU4Rec", world.dataset.path, tmp_path / "run", {**GRU, "cap_cpu_s": 1e-6, "epochs": 50})
    result = json.loads((run / "run.json").read_text())["result"]
    assert (result["epochs"], result["stopped_by"], result["best_epoch"]) == (1, "cap", 1)


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("recbole:GRU4Re", {}, "did you mean 'GRU4Rec'"),
        ("recbole:LightGCN", {}, "no sequential model 'LightGCN'"),
        ("recbole:SASRecF", {}, "needs data"),
        ("recbole:GRU4Rec", {"hiden_size": 3}, "did you mean 'hidden_size'"),
        ("recbole:GRU4Rec", {"eval_args": {"order": "RO"}}, "unknown key 'eval_args'"),
        ("recbole:GRU4Rec", {"hidden_size": "large"}, "hidden_size"),
        ("recbole:GRU4Rec", {"train_neg_sample_args": {"distribution": "uniform"}}, "RecBole refuses them"),
        ("recbole:GRU4Rec", {"epochs": 1.5}, "epochs"),
        ("recbole:SASRec", {"n_layers": 1.5}, "n_layers"),
        ("recbole:GRU4Rec", {"loss_type": "XX"}, "RecBole refuses them"),
        ("recbole:GRU4Rec", {"train_batch_size": 0}, "RecBole refuses them: batch_size"),
        ("recbole:GRU4Rec", {"learning_rate": -1}, "RecBole refuses them: Invalid learning rate"),
        ("recbole:SASRec", {"hidden_size": 63}, "RecBole refuses them: The hidden size"),
        ("recbole:FEARec", {"n_layers": 1}, "RecBole refuses them: integer division"),
        ("recbole:GRU4RecCPR", {}, "RecBole refuses them: selected index k out of range"),
        ("recbole:SASRecCPR", {}, "RecBole refuses them: selected index k out of range"),
    ],
)
def test_wrong_names_and_settings(
    model: str, settings: dict[str, Any], said: str, world: World, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        train(model, world.dataset.path, tmp_path / "run", settings)
    assert said in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_rate_may_be_whole_or_not() -> None:
    """RecBole writes some rates of these models as whole numbers."""
    made = own_settings("recbole:SASRecCPR")(hidden_dropout_prob=0.1).model_dump()
    assert made["hidden_dropout_prob"] == 0.1
    assert own_settings("recbole:FEARec")(global_ratio=0.6, topk_factor=1.5).model_dump()["global_ratio"] == 0.6
    assert own_settings("recbole:GRU4Rec")(epochs=3.0).model_dump()["epochs"] == 3


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"eval_step": 0}])
def test_without_a_validation_there_is_no_score_of_one(settings: dict[str, Any], world: World, tmp_path: Path) -> None:
    run = train("recbole:GRU4Rec", world.dataset.path, tmp_path / "run", {**GRU, **settings})
    assert json.loads((run / "run.json").read_text())["result"]["recbole_valid_ndcg@10"] is None


def test_what_recbole_prints_is_not_on_stdout(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("recbole:FEARec", world.dataset.path, tmp_path / "run", {**BERT, "n_layers": 2, "epochs": 0})
    assert capsys.readouterr().out == ""
    assert main(["evaluate", str(run), "--protocol", "full", "--json"]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert "modes_q" in captured.err


def test_a_split_that_recbole_cannot_make_is_refused(tmp_path: Path) -> None:
    dataset = write_hand(tmp_path / "data")
    targets = {"user_id": ["u1"], "split": ["test"], "item_id": ["a1"], "domain": ["a"], "position": [2]}
    pd.DataFrame(targets).to_parquet(dataset.path / "targets.parquet")
    with pytest.raises(InputError, match="leave-one-out on the merged sequence"):
        train("recbole:GRU4Rec", dataset.path, tmp_path / "run", GRU)
    assert not (tmp_path / "run").exists()


def test_a_text_setting_is_a_text(world: World, tmp_path: Path) -> None:
    """RecBole evaluates the texts of a dict of settings as Python."""
    side, _ = opened(world.dataset, tmp_path / "scratch", learner="1 + 1")
    assert side.config["learner"] == "1 + 1"


def test_the_defaults_are_recboles() -> None:
    from recbole.config import Config

    assert {"GRU4Rec", "BERT4Rec", "SASRec"} <= set(own_models())
    for name in own_models():
        values = own_settings(f"recbole:{name}")().model_dump()
        given = {"train_neg_sample_args": None} if values["train_neg_sample_args"] is None else {}
        with quietly():
            config = Config(model=name, dataset="none", config_dict=given)
        for key, value in values.items():
            if key != "train_neg_sample_args":
                assert config[key] == value, (name, key)

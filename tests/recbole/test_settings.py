"""What is refused, and with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import semacdr.recbole as ours
from semacdr.errors import InputError
from tests.recbole.conftest import World

NEGATIVES = {"distribution": "uniform", "sample_num": 1}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"semacdr_embedings": "x"}, "did you mean 'semacdr_embeddings'"),
        ({"train_neg_sample_args": NEGATIVES}, "train_neg_sample_args: null"),
        ({"loss_type": "BPR"}, "the loss is CE"),
        ({"MAX_ITEM_LIST_LENGTH": 20}, "max_seq_len = 12, but RecBole cuts histories at MAX_ITEM_LIST_LENGTH = 20"),
        ({"embedding_dim": -1, "fusion": "sum"}, "2 wrong setting(s)"),
        ({"semacdr_embeddings": "nowhere"}, "not an embedding table"),
        ({"semacdr_domain_field": "domian"}, "did you mean 'domain'"),
        ({"semacdr_domain_field": "title"}, "a domain is a token"),
        ({"views": ["content"]}, "no text table for view 'content'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], words: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        ours.run_recbole(dataset="planted", config_dict=world.settings(tmp_path, **settings))
    assert words in str(error.value)
    assert not list(tmp_path.glob("saved/*.pth"))


def test_foreign_keys_are_named(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = world.settings(tmp_path, num_layer=2)
    del settings["backbone"]  # not SemaCDR's either
    ours.run_recbole(dataset="planted", config_dict=settings, saved=False)
    said = [line for line in capfd.readouterr().err.splitlines() if "neither RecBole nor the model" in line]
    assert len(said) == 1
    assert "did you mean 'num_layers'" in said[0]


def test_plain_sequential_dataset_needs_the_keys(world: World, tmp_path: Path) -> None:
    """Who makes RecBole's SequentialDataset by hand sets what ours would have set."""
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset

    def model(**others: Any) -> Any:
        settings = world.settings(tmp_path, **others)
        config = Config(model=ours.SemaCDR, dataset="planted", config_dict=settings)
        return ours.SemaCDR(config, SequentialDataset(config).build()[0])

    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain"]}
    with pytest.raises(InputError, match="null"):
        model(load_col=columns)
    keys = {"load_col": columns, "train_neg_sample_args": None}
    with pytest.raises(InputError, match="MAX_ITEM_LIST_LENGTH = 50"):
        model(**keys)
    assert model(**keys, MAX_ITEM_LIST_LENGTH=12).inner.catalogue.domains == world.dataset.domains


def test_items_without_a_domain(tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    rows = [f"u{user}\t{'ab'[time % 2]}\t{time}" for user in range(3) for time in range(4)]
    (folder / "half.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    (folder / "half.item").write_text("item_id:token\tdomain:token\na\tx\nb\t\n")
    with pytest.raises(InputError, match="1 items have no 'domain', for example 'b'"):
        ours.run_recbole(dataset="half", config_dict={"data_path": str(tmp_path), "state": "ERROR", "epochs": 1})


def test_missing_or_foreign_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        ours.evaluate(tmp_path / "none.pth")

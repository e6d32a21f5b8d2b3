"""The wrapper's own duties: scores, cached item vectors, domains, registration."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import semacdr.recbole as ours
from semacdr.embedding.table import write_table
from semacdr.models.base import SideData
from semacdr.models.baselines.sasrec import SASRec
from semacdr.models.registry import MODELS, model_class
from semacdr.recbole.models import RecboleModel
from tests.recbole.conftest import World


def make(world: World, folder: Path, **others: Any) -> tuple[RecboleModel, Any, Any]:
    """An untrained model, the training rows and a few test rows."""
    from recbole.config import Config
    from recbole.data import create_dataset

    config = Config(model=ours.SemaCDR, dataset="planted", config_dict=world.settings(folder, **others))
    train, _, test = create_dataset(config).build()
    torch.manual_seed(0)
    return ours.SemaCDR(config, train), train, test[torch.arange(9)]


def without_item(rows: Any) -> Any:
    from recbole.data.interaction import Interaction

    return Interaction({field: value for field, value in rows.interaction.items() if field != "item_id"})


def test_predict_is_a_column_of_the_full_ranking(world: World, tmp_path: Path) -> None:
    model, _, rows = make(world, tmp_path)
    model.eval()
    full = model.full_sort_predict(rows)
    assert full.shape == (9, model.n_items)
    column = full.gather(1, rows["item_id"].unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(model.predict(rows), column)


def test_domain_unknown_scores_each_item_for_its_own(world: World, tmp_path: Path) -> None:
    model, _, rows = make(world, tmp_path, semacdr_domain_known=False)
    model.eval()
    full = model.full_sort_predict(rows)
    assert torch.equal(full, model.full_sort_predict(without_item(rows)))
    for item in range(1, model.n_items):
        rows["item_id"][:] = item
        torch.testing.assert_close(model.predict(rows), full[:, item])
    known = make(world, tmp_path)[0].eval()
    assert torch.equal(known.full_sort_predict(without_item(rows)), full)
    assert not torch.allclose(known.full_sort_predict(rows), full)


def test_scores_follow_the_weights(world: World, tmp_path: Path) -> None:
    model, train, rows = make(world, tmp_path, dropout=0.0)
    model.eval()
    first = model.full_sort_predict(rows)
    twin = copy.deepcopy(model)  # as RecBole's count of FLOPs does
    assert torch.equal(twin.full_sort_predict(rows), first)

    weights = copy.deepcopy(model.state_dict())
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    model.calculate_loss(train[torch.arange(64)]).backward()
    optimiser.step()
    in_training = model.full_sort_predict(rows)
    model.eval()
    trained = model.full_sort_predict(rows)
    assert not torch.allclose(trained, first)
    torch.testing.assert_close(in_training, trained)
    model.load_state_dict(weights)  # still in evaluation mode, items cached
    torch.testing.assert_close(model.full_sort_predict(rows), first)


def test_three_domains_and_counts_from_training_alone(tmp_path: Path) -> None:
    """Hand-made: u1 has a1 b1 a2 c1 a1, so a1 b1 a2 train once each, whatever the cut of the histories."""
    from recbole.config import Config
    from recbole.data import create_dataset

    folder = tmp_path / "hand"
    folder.mkdir()
    events = {"u1": ["a1", "b1", "a2", "c1", "a1"], "u2": ["b1", "b1", "a1"], "u3": ["c2", "a2"], "u4": ["a1"]}
    lines = [f"{user}\t{item}\t{time}" for user, items in events.items() for time, item in enumerate(items)]
    (folder / "hand.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
    items = ["a1", "a2", "b1", "c1", "c2", "c3"]
    lines = [f"{item}\tX\t{item[0]}" for item in items]
    (folder / "hand.item").write_text("\n".join(["item_id:token\ttitle:token_seq\tkind:token", *lines]) + "\n")
    for length in (1, 2, 50):
        settings = {"data_path": str(tmp_path), "max_seq_len": length, "semacdr_domain_field": "kind", "state": "ERROR"}
        config = Config(model=ours.SemaCDR, dataset="hand", config_dict=settings)
        parts = create_dataset(config).build()
        catalogue = ours.SemaCDR(config, parts[0]).inner.catalogue
        assert sorted(catalogue.domains) == ["a", "b", "c"]
        of = {item: catalogue.domains[d] for item, d in zip(catalogue.item_ids[1:], catalogue.item_domain[1:])}
        assert of == {item: item[0] for item in items}
        count = dict(zip(catalogue.item_ids[1:], catalogue.train_count[1:]))
        # u1: a1 b1 a2; u2 (three events, so RecBole keeps two): b1 b1; u3 (two): both; u4 makes no row
        assert count == {"a1": 1, "b1": 3, "a2": 2, "c1": 0, "c2": 1, "c3": 0}
        dataset, split = ours.plain_data(ours.SemaCDR(config, parts[0]), *parts)
        names = {
            user: [str(dataset.item_ids[i]) for i in dataset.user_items(row)]
            for row, user in enumerate(dataset.user_ids)
        }
        assert names == {user: items for user, items in events.items() if user != "u4"}
        tests = {str(dataset.user_ids[u]): str(dataset.item_ids[t]) for u, t in zip(split.test.user, split.test.target)}
        assert tests == {"u1": "a1", "u2": "a1"}


def test_registration_adds_names_and_changes_none() -> None:
    from recbole.utils import get_model

    assert sorted(cls.plain for cls in ours.WRAPPED.values()) == sorted(MODELS)
    for name, cls in ours.WRAPPED.items():
        assert get_model(name) is cls
        assert cls.__name__ == name
        assert getattr(sys.modules[cls.__module__], name) is cls
    assert "recbole.model.general_recommender.sasrec" not in sys.modules  # RecBole's own stays RecBole's


@pytest.mark.parametrize("plain", sorted(MODELS))
def test_no_setting_has_the_name_of_a_default_of_recbole(plain: str, world: World, tmp_path: Path) -> None:
    """Otherwise RecBole's default would silently take the place of ours."""
    from recbole.config import Config

    for dataset in ("planted", "ml-100k"):
        config = Config(model=ours.SemaCDR, dataset=dataset, config_dict=world.settings(tmp_path))
        assert not set(model_class(plain).Config.model_fields) & set(config.internal_config_dict)


class Nosy(SASRec):
    """Reads everything, and scores as SASRec does."""

    reads_users = True
    reads_item_texts = True

    def __init__(self, *given: Any, side: SideData) -> None:
        super().__init__(*given)
        self.side = side


def test_users_and_texts_that_the_settings_name(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semacdr.recbole.models.model_class", lambda name: Nosy)
    monkeypatch.setattr("semacdr.recbole.settings.model_class", lambda name: Nosy)
    users = [str(user) for user in world.dataset.user_ids]
    vectors = np.arange(len(users), dtype=np.float32)[:, None] + 1
    rows = {"view": np.arange(len(users))}
    write_table(tmp_path / "users", np.array(users, object), vectors, rows, {"views": ["view"], "subject": "users"})
    named = {"semacdr_user_embeddings": str(tmp_path / "users"), "semacdr_item_texts": str(world.dataset.path)}
    model, train, test = make(world, tmp_path, **named)
    side = model.inner.side
    tokens = train.field2id_token["user_id"]
    assert side.num_users == len(tokens) == len(side.user_vectors)
    for user in model._batch(test).user.tolist():
        assert side.user_vectors[user].item() == 1 + users.index(tokens[user])
    titles = dict(zip(world.dataset.item_ids[1:], world.dataset.item_frame()["title"]))
    assert side.item_texts == ["", *(titles[item] for item in model.inner.catalogue.item_ids[1:])]

    silent = make(world, tmp_path)[0].inner.side
    assert (silent.user_vectors, silent.item_texts) == (None, None)


def test_semantic_ids_that_the_settings_name(world: World, tmp_path: Path) -> None:
    """Codes follow RecBole's item ids, a prediction needs no text, and a model that wants codes says where they go."""
    from semacdr.embedding.build_ids import build_ids
    from semacdr.embedding.id_input import table_input
    from semacdr.embedding.id_settings import id_settings
    from semacdr.embedding.semantic_ids import SemanticIds
    from semacdr.embedding.table import EmbeddingTable
    from semacdr.errors import InputError

    settings = id_settings({"levels": 2, "codes": 4})
    build_ids(table_input(EmbeddingTable.load(world.vectors)), tmp_path / "ids", settings)
    ids = SemanticIds.load(tmp_path / "ids")
    model, _, rows = make(
        world, tmp_path, item_representation="semantic_id", code_buckets=16, semacdr_ids=str(tmp_path / "ids")
    )
    codes = model.inner.items.codes.codes
    for item, name in enumerate(model.inner.catalogue.item_ids[1:], 1):
        assert codes[item].tolist() == ids.codes_of([str(name)])[0].tolist()
    assert torch.isfinite(model.eval().predict(rows)).all()
    with pytest.raises(InputError, match="semacdr_ids: IDS"):
        make(world, tmp_path, item_representation="semantic_id", semacdr_ids=None)

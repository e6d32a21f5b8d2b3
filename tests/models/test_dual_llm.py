"""The dual-LLM model: what is read, what is not, where the free user vectors go, and when which loss joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from semacdr.data.batches import Batch, TrainBatches, history_batch
from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.models import dual_llm
from semacdr.models.dual_llm import DualLLM, DualLLMConfig
from semacdr.run import build_model
from tests.models.tiny_bert import write_tiny_bert
from tests.planted import write_planted
from tests.planted_reviews import write_review_rows

SMALL: dict[str, Any] = {"embedding_dim": 16, "max_tokens": 24, "item_tokens": 6, "max_seq_len": 12, "cotrain_after": 0}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted"))


def make(dataset: Dataset, bert: Path, **changes: Any) -> DualLLM:
    torch.manual_seed(0)
    config = {"backbone": str(bert), **SMALL, **changes}
    model = build_model("DualLLM", config, dataset, make_split(dataset), None)
    assert isinstance(model, DualLLM)
    return model.eval()


def training_batch(dataset: Dataset, size: int = 12) -> Batch:
    return next(TrainBatches(make_split(dataset).train, size, 12, 0).epoch(0))


def scores(model: DualLLM, batch: Batch) -> torch.Tensor:
    model.prepare()
    return model.score(model.encode(batch), torch.arange(1, model.num_items + 1))


# what is read


def test_one_question_for_each_user_and_domain(dataset: Dataset, bert: Path) -> None:
    model, batch = make(dataset, bert), training_batch(dataset, 40)
    assert batch.targets is not None
    assert batch.first_target is not None
    whole = torch.cat([batch.first_target[:, None], batch.targets], dim=1)
    seen: dict[tuple[int, int], set[int]] = {}
    for seed in range(60):
        torch.manual_seed(seed)
        q = model.draw(batch)
        asked = list(zip(q.row.tolist(), q.domain.tolist()))
        assert len(set(asked)) == len(asked)
        for row, cut, domain, target in zip(q.row.tolist(), q.cut.tolist(), q.domain.tolist(), q.target.tolist()):
            assert whole[row, cut] == target
            assert model.item_domain[target] == domain
            seen.setdefault((row, domain), set()).add(cut)
    for row in range(len(whole)):
        for domain in range(2):
            possible = set((model.item_domain[whole[row]] == domain).nonzero().squeeze(1).tolist())
            assert seen.get((row, domain), set()) == possible  # all are drawn in the end, and no others


def test_who_is_read(dataset: Dataset, bert: Path) -> None:
    """Own domain if there is anything, else the newest event's, else nobody."""
    model = make(dataset, bert)
    tea, pans = (np.flatnonzero(dataset.item_domain == d).astype(np.int32) for d in (0, 1))
    mixed = np.r_[tea[:2], pans[:1], tea[3:4]]
    batch = history_batch([mixed, mixed, pans[:2], np.zeros(0, np.int32)], [0, 1, 0, 1], 12)
    assert batch.target_domain is not None
    reading = model.read(batch.items, batch.length, batch.target_domain)
    assert reading.reader.tolist() == [0, 1, 1, -1]
    assert (reading.shared[3] == 0).all()
    alone = history_batch([pans[:1]], [1], 12)
    torch.testing.assert_close(  # the tea events are not in the text for pans
        reading.shared[1], model.read(alone.items, alone.length, torch.tensor([1])).shared[0]
    )


def test_a_user_without_own_text_is_scored_from_the_shared_vector_alone(dataset: Dataset, bert: Path) -> None:
    model = make(dataset, bert, item_channel=False)
    pans = np.flatnonzero(dataset.item_domain == 1).astype(np.int32)
    batch = history_batch([pans[:3], pans[4:7]], [0, 0], 12)
    found = model.encode(batch)
    asked = torch.tensor([1, 1])
    u = model.read(batch.items, batch.length, asked).shared
    torch.testing.assert_close(found, model.from_user(u).detach())
    assert not torch.allclose(found[0], found[1])
    own = model.encode(history_batch([pans[:3]], [1], 12))
    assert not torch.allclose(own[0], found[0])  # where the text is the domain's own, its model has a say of its own


def test_nothing_later_is_read(dataset: Dataset, bert: Path) -> None:
    """States, shared vectors and token ids of every question are those of its prefix alone."""
    model, batch = make(dataset, bert), training_batch(dataset)
    q = model.draw(batch)
    reading = model.read(batch.items[q.row], q.cut, q.domain)
    for at in range(len(q.row)):
        cut = int(q.cut[at])
        prefix = batch.items[q.row[at], : max(cut, 1)][None]
        alone = model.read(prefix, q.cut[at : at + 1], q.domain[at : at + 1])
        torch.testing.assert_close(alone.shared[0], reading.shared[at], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.pooled[0], reading.pooled[at], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(dataset: Dataset, bert: Path) -> None:
    model = make(dataset, bert)
    language = model.language_models[0]
    items = torch.from_numpy(dataset.user_items(12)[None, :6].astype(np.int64))
    ids, mask = model.texts(items, model.item_domain[items] == 0)
    wider = F.pad(ids, (0, 9), value=model.texts.pad_id)
    torch.testing.assert_close(language(wider, F.pad(mask, (0, 9))), language(ids, mask), rtol=1e-5, atol=1e-6)


# the losses


def test_the_next_item_loss_is_a_softmax_over_the_domain(dataset: Dataset, bert: Path) -> None:
    alone = {"mlm_weight": 0, "reconstruction_weight": 0, "contrast_weight": 0}
    model, batch = make(dataset, bert, **alone, item_channel=False), training_batch(dataset)
    model.table.weight.data[1:].normal_()
    torch.manual_seed(5)
    loss = model.loss(batch)
    torch.manual_seed(5)
    q = model.draw(batch)
    assert batch.user is not None
    expected = {0: [], 1: []}  # type: ignore[var-annotated]
    trained = torch.from_numpy(model.catalogue.train_count > 0)
    for row, cut, domain, target in zip(q.row.tolist(), q.cut.tolist(), q.domain.tolist(), q.target.tolist()):
        history = batch.items[row, :cut].numpy().astype(np.int32)
        prefix = history_batch([history], [domain], 12, [int(batch.user[row])])
        rivals = trained[1:] & (model.item_domain[1:] == domain)
        found = scores(model, prefix)[0]
        expected[domain].append(torch.logsumexp(found[rivals], 0) - found[target - 1])
    total = sum(torch.stack(values).mean() for values in expected.values())
    torch.testing.assert_close(loss.total, total, rtol=1e-4, atol=1e-4)
    assert set(loss.parts) == {"next"}


def test_item_tokens_have_a_target_at_every_position_and_add_to_the_texts(dataset: Dataset, bert: Path) -> None:
    alone = {"mlm_weight": 0, "reconstruction_weight": 0, "contrast_weight": 0}
    model, batch = make(dataset, bert, **alone), training_batch(dataset)
    assert model.channel is not None
    assert batch.targets is not None
    assert batch.first_target is not None
    torch.manual_seed(5)
    loss = model.loss(batch)
    vectors = model.item_vectors()
    after = model.channel(vectors[batch.items], batch.length)
    whole = torch.cat([batch.first_target[:, None], batch.targets], dim=1)
    trained = torch.from_numpy(model.catalogue.train_count > 0)

    def surprise(state: torch.Tensor, target: int) -> torch.Tensor:
        rivals = trained & (model.item_domain == model.item_domain[target])
        return torch.logsumexp(vectors[rivals] @ state, 0) - vectors[target] @ state

    every = [surprise(after[row, cut], int(whole[row, cut])) for row, cut in whole.nonzero().tolist()]
    assert loss.parts["items"] == pytest.approx(float(torch.stack(every).mean().detach()), rel=1e-4)

    torch.manual_seed(5)
    q = model.draw(batch)
    texts = model.states(model.read(batch.items[q.row], q.cut, q.domain), q.domain, batch.user[q.row])  # type: ignore[index]
    asked = torch.stack(
        [surprise(texts[at] + after[q.row[at], q.cut[at]], int(q.target[at])) for at in range(len(q.row))]
    )
    both = sum(float(asked[q.domain == domain].mean().detach()) for domain in range(2))
    assert loss.parts["next"] == pytest.approx(both, rel=1e-4)

    history = dataset.user_items(12)[:6]
    scored = history_batch([history, history[:0]], [0, 0], 12)
    reading = model.read(scored.items, scored.length, torch.tensor([0, 0]))
    own = model.channel(vectors[scored.items], scored.length)[[0, 1], scored.length]
    expected = model.states(reading, torch.tensor([0, 0]), None) + own
    torch.testing.assert_close(model.encode(scored), expected.detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(own[1], model.channel.start)


def test_item_tokens_see_nothing_later_and_are_in_no_users_vector(dataset: Dataset, bert: Path) -> None:
    model, batch = make(dataset, bert), training_batch(dataset)
    assert model.channel is not None
    vectors = model.item_vectors()
    before = model.channel(vectors[batch.items], batch.length)
    changed = batch.items.clone()
    changed[:, 3:] = changed[:, 3:].flip(0)
    after = model.channel(vectors[changed], batch.length)
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.allclose(after[:, 4:], before[:, 4:])

    def others() -> list[float]:
        torch.manual_seed(1)
        return [value for name, value in model.loss(batch).parts.items() if name not in ("next", "items")]

    known, shared = others(), model.domain_vectors(batch, 0)[0]
    model.channel.start.data.add_(1)
    model.channel.encoder.norm.bias.data.add_(1)
    assert others() == known
    assert torch.equal(model.domain_vectors(batch, 0)[0], shared)


def test_the_masked_loss_equals_one_plain_pass(dataset: Dataset, bert: Path) -> None:
    """Rows of like length go together: the same value and gradients as all rows padded to one width."""
    model, batch = make(dataset, bert), training_batch(dataset, 40)
    language, texts = model.language_models[1], model.texts
    ids, mask = texts(batch.items, model.item_domain[batch.items] == 1)
    words = texts.words(ids)
    language.head_bias.data.normal_()
    torch.manual_seed(3)
    grouped = language.masked_loss(ids, mask, words, 0.5, texts.mask_id)
    grouped.backward()
    names = [name for name, p in language.named_parameters() if p.requires_grad]
    first = {name: language.get_parameter(name).grad.clone() for name in names}
    assert all(float(first[name].abs().sum()) > 0 for name in names if "lora_B" in name or "head" in name)
    language.zero_grad()

    from semacdr.models.dual_llm_losses import mask_tokens

    torch.manual_seed(3)
    read, chosen = mask_tokens(ids, words, 0.5, texts.mask_id, language.vocabulary)
    states = language.backbone.model(input_ids=read, attention_mask=mask.long()).last_hidden_state[chosen]
    embeddings = language.backbone.model.get_input_embeddings().weight
    logits = language.head(states) @ embeddings[language.vocabulary].T + language.head_bias
    right = torch.stack([(language.vocabulary == token).nonzero().squeeze() for token in ids[chosen]])
    plain = F.cross_entropy(logits, right)
    plain.backward()
    torch.testing.assert_close(grouped, plain, rtol=1e-5, atol=1e-6)
    for name in names:
        torch.testing.assert_close(first[name], language.get_parameter(name).grad, rtol=1e-3, atol=1e-5)


def test_who_belongs_together(dataset: Dataset, bert: Path) -> None:
    """Rows 0 and 1 are of one user; rows 1 and 2 share two of four tea items; row 3 is alike in pans only."""
    model = make(dataset, bert)
    tea, pans = (np.flatnonzero(dataset.item_domain == d) for d in (0, 1))
    items = torch.tensor([[tea[0], pans[0], 0], [tea[1], tea[2], 0], [tea[2], tea[3], 0], [pans[0], tea[9], 0]])
    targets = torch.tensor([[pans[1], 0, 0], [tea[3], 0, 0], [tea[4], 0, 0], [pans[1], 0, 0]])
    batch = Batch(items, torch.tensor([2, 2, 2, 2]), targets, user=torch.tensor([7, 7, -1, -1]))
    row, domain = torch.tensor([0, 0, 1, 2, 3, 3]), torch.tensor([0, 1, 0, 0, 0, 1])
    expected = torch.eye(6, dtype=torch.bool)
    for a, b in [(0, 1), (0, 2), (1, 2), (2, 3), (4, 5), (1, 5)]:
        expected[a, b] = expected[b, a] = True
    assert torch.equal(model.positives(batch, row, domain), expected)
    strict = make(dataset, bert, similar_users=0.6)
    expected[2, 3] = expected[3, 2] = False  # two of four
    assert torch.equal(strict.positives(batch, row, domain), expected)


def test_users_are_alike_by_what_lies_in_the_window(dataset: Dataset, bert: Path) -> None:
    """Events before a row's window are not compared, though the user trained on them."""
    model = make(dataset, bert)
    batch = next(TrainBatches(make_split(dataset).train, 40, 4, 0).epoch(0))
    assert batch.targets is not None
    assert batch.first_target is not None
    assert batch.user is not None
    rows = torch.cat([batch.items, batch.targets, batch.first_target[:, None]], 1).tolist()
    tea = set(np.flatnonzero(dataset.item_domain == 0).tolist()) - {0}
    window = [set(row) & tea for row in rows]
    whole = [set(dataset.user_items(user)[:-2].tolist()) & tea for user in batch.user.tolist()]

    def alike(sets: list[set[int]]) -> torch.Tensor:
        return torch.tensor([[len(a & b) >= 0.2 * max(1, len(a | b)) for b in sets] for a in sets])

    count, same = len(rows), batch.user[:, None] == batch.user[None, :]
    positives = model.positives(batch, torch.arange(count), torch.zeros(count, dtype=torch.long))
    assert torch.equal(positives, alike(window) | same)
    assert not torch.equal(alike(window) | same, alike(whole) | same)


def test_the_largest_domain_decides_on_the_softmax_of_all(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = ["tea0", "pans0", "tea1", "pans1", "tea2", "pans2", "tea3", "tea4", "pans0", "tea0"]
    rows = [(f"u{u}", item, item[:-1], 0, at, 4.0, "") for u in range(3) for at, item in enumerate(items)]
    columns = ["user_id", "item_id", "domain", "timestamp", "position", "rating", "text"]
    uneven = write_review_rows(tmp_path / "data", pd.DataFrame(rows, columns=columns))
    assert sorted(np.bincount(uneven.item_domain[1:]).tolist()) == [3, 5]
    monkeypatch.setattr(dual_llm, "FEW_NEGATIVES", 2)
    every = torch.arange(1, uneven.num_items + 1)
    for limit, sampled in ((5, False), (4, True)):
        monkeypatch.setattr(dual_llm, "FULL_SOFTMAX_ITEMS", limit)
        drawn = make(uneven, bert).softmax.draw(every)
        assert [expected is not None for _, _, expected in drawn] == [sampled, sampled]


def test_borrowed_text_is_in_no_contrast(dataset: Dataset, bert: Path) -> None:
    """Two users have pans before their first tea: their tea question is read from pans, and is only scored."""
    model = make(dataset, bert)
    tea, pans = (np.flatnonzero(dataset.item_domain == d) for d in (0, 1))
    items = torch.tensor([[pans[0], pans[1], 0], [pans[3], pans[4], 0], [tea[1], pans[1], tea[2]]])
    targets = torch.tensor([[0, tea[0], 0], [0, tea[0], 0], [0, 0, tea[3]]])
    batch = Batch(items, torch.tensor([2, 2, 3]), targets)
    assert model.draw(batch).domain.tolist() == [0, 0, 0]
    torch.manual_seed(0)
    loss = model.loss(batch)
    alone = model.loss(Batch(items[2:], torch.tensor([3]), targets[2:]))
    assert loss.parts["contrast"] == 0  # one text of its own domain is left, without a partner
    assert loss.parts["reconstruction"] == pytest.approx(alone.parts["reconstruction"], rel=1e-4)
    assert loss.parts["next"] > 0


def test_free_user_vectors_are_in_the_scores_and_nowhere_else(dataset: Dataset, bert: Path) -> None:
    model, batch = make(dataset, bert), training_batch(dataset)

    def parts() -> dict[str, float]:
        torch.manual_seed(1)
        return model.loss(batch).parts

    before = parts()
    assert set(before) == {"next", "items", "mlm", "reconstruction", "contrast"}
    vectors = model.domain_vectors(batch, 0)[0]
    model.table.weight.data[1:].normal_()
    after = parts()
    assert before["next"] != after["next"]
    for name in ("mlm", "reconstruction", "contrast"):
        assert before[name] == after[name]
    assert torch.equal(vectors, model.domain_vectors(batch, 0)[0])

    history = dataset.user_items(12)[:6]
    known, other, unknown, outside, nobody = (
        scores(model, history_batch([history], [0], 12, user)) for user in ([3], [4], [-1], [10_000], None)
    )
    assert not torch.allclose(known, other)
    assert torch.equal(unknown, outside)
    assert torch.equal(unknown, nobody)
    assert not torch.allclose(known, unknown)


def test_without_the_table_every_user_is_its_text(dataset: Dataset, bert: Path) -> None:
    model = make(dataset, bert, user_table=False)
    history = dataset.user_items(12)[:6]
    a, b = (scores(model, history_batch([history], [0], 12, user)) for user in ([3], None))
    assert torch.equal(a, b)
    assert model.table.num_embeddings == 1


def test_the_warm_up_is_counted_in_steps_and_saved(dataset: Dataset, bert: Path) -> None:
    model, batch = make(dataset, bert, cotrain_after=2), training_batch(dataset)
    assert set(model.loss(batch).parts) == {"next", "items", "mlm"}
    model.train()
    for _ in range(2):
        assert set(model.loss(batch).parts) == {"next", "items", "mlm"}
    twin = make(dataset, bert, cotrain_after=2)
    twin.load_state(model.state_dict())
    for resumed in (model, twin):
        assert set(resumed.loss(batch).parts) == {"next", "items", "mlm", "reconstruction", "contrast"}


def test_pseudo_labels_are_a_switch(dataset: Dataset, bert: Path) -> None:
    model, batch = make(dataset, bert, pseudo_label_weight=1.0, pseudo_confidence=0.0), training_batch(dataset)
    loss = model.loss(batch)
    assert loss.parts["pseudo"] > 0
    others = sum(weight * loss.parts[name] for name, weight in [("next", 1), ("items", 1), ("mlm", 0.5)])
    others += 0.1 * loss.parts["reconstruction"] + 0.1 * loss.parts["contrast"]
    assert float(loss.total.detach()) == pytest.approx(others + loss.parts["pseudo"], rel=1e-5)
    with pytest.raises(InputError, match="pseudo-labels"):
        make(dataset, bert, pseudo_label_weight=1.0, num_negatives=8)


def test_without_any_overlap(bert: Path, tmp_path: Path) -> None:
    """No user has both domains: nothing is pulled together across them, and either can be asked about."""
    apart = write_planted(tmp_path, users=40, single_domain_users=40)
    model, batch = make(apart, bert, similar_users=2.0), training_batch(apart, 20)
    loss = model.loss(batch)
    assert loss.parts["contrast"] == 0
    assert torch.isfinite(loss.total)
    found = scores(model, history_batch([apart.user_items(0), apart.user_items(0)], [0, 1], 12))
    assert torch.isfinite(found).all()


def test_every_trained_part_gets_a_gradient(dataset: Dataset, bert: Path) -> None:
    model, batch = make(dataset, bert), training_batch(dataset, 40)
    model.loss(batch).total.backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
        elif "lora_A" not in name and name != "items.scale":  # behind a B of zeros; of text vectors
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name
    assert float(model.table.weight.grad[0].abs().sum()) == 0  # type: ignore[union-attr]


# weights


def test_domains_share_the_frozen_weights_and_nothing_of_lora(dataset: Dataset, bert: Path) -> None:
    model = make(dataset, bert)
    first, second = (dict(language.backbone.named_parameters()) for language in model.language_models)
    assert first.keys() == second.keys()
    for name, parameter in first.items():
        assert (parameter is second[name]) == (not parameter.requires_grad), name
    assert any("lora" in name for name in first)
    saved = model.state_dict()
    assert not any("word_embeddings" in name for name in saved)
    assert any("lora_A" in name for name in saved)


def test_another_backbone_is_refused(dataset: Dataset, bert: Path, tmp_path: Path) -> None:
    saved = make(dataset, bert).state_dict()
    other = make(dataset, write_tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="language model"):
        other.load_state(saved)


def test_ids_serve_as_texts_and_it_is_said(dataset: Dataset, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = DualLLM(DualLLMConfig(backbone=str(bert), **SMALL), dataset.catalogue())
    assert capsys.readouterr().err.count("ids serve as texts") == 1
    assert torch.isfinite(scores(model.eval(), history_batch([dataset.user_items(9)], [0], 12))).all()


def test_a_line_must_fit_into_a_text() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        DualLLMConfig(item_tokens=24, max_tokens=24)

"""ABXI against its formulas, worked out place by place in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semacdr.data.batches import Batch, history_batch
from semacdr.data.dataset import Catalogue
from semacdr.models.baselines.abxi import ABXI, ABXIConfig, LowRank, SwiGLU

L = 6
TINY: dict[str, Any] = {
    "embedding_dim": 4,
    "ffn_dim": 3,
    "domain_rank": 2,
    "invariant_rank": 3,
    "max_seq_len": L,
    "dropout": 0.0,
    "num_negatives": 50,  # more than there are: all items
}
FOOD, PANS = [1, 2, 3, 4], [5, 6, 7, 8, 9]


def catalogue() -> Catalogue:
    domain = np.array([-1, *[0] * len(FOOD), *[1] * len(PANS)], np.int8)
    ids = np.array(["", *(f"i{item}" for item in FOOD + PANS)], object)
    return Catalogue(ids, domain, ("food", "pans"), np.r_[0, np.ones(9)].astype(np.int64))


def make(**changes: Any) -> ABXI:
    torch.manual_seed(5)
    model = ABXI(ABXIConfig(**{**TINY, **changes}), catalogue())
    with torch.no_grad():
        for parameter in model.parameters():  # nothing may hide behind a zero or a one
            parameter.normal_(std=0.7)
    return model.eval()


def swiglu(net: SwiGLU, h: Tensor) -> Tensor:
    gate = net.gate.weight @ h
    return net.out.weight @ (gate / (1 + torch.exp(-gate)) * (net.value.weight @ h))


def low_rank(net: LowRank, h: Tensor) -> Tensor:
    return net[1].weight @ (net[0].weight @ h)


def attention(model: ABXI, places: list[int | None], query: int) -> Tensor:
    """The state of the last of ``places``, item ids or None for an empty place; its position is number ``query``."""
    block, later = model.attention, query
    vectors = []
    for item in reversed(places):
        if item is None:
            vectors.append(torch.zeros(4))
        else:
            vectors.append(model.id.weight[item] + model.position.weight[later])
            later += 1
    vectors.reverse()
    if not model.settings.attend_padding:
        vectors = [vector for vector, item in zip(vectors, places) if item is not None]
    q = block.query.weight @ vectors[-1] + block.query.bias
    heads = []
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        weights = [torch.exp(q[part] @ (block.key_value.weight[:4] @ v)[part] / 2**0.5) for v in vectors]
        values = [(block.key_value.weight[4:] @ v)[part] for v in vectors]
        heads.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
    branch = block.out.weight @ torch.cat(heads) + block.out.bias
    return block.norm(vectors[-1] + branch)


def state_by_hand(model: ABXI, events: list[int], at: int, target: int, later: int = 0) -> Tensor:
    """The user's state for ``target`` after ``events[:at + 1]``, in a sequence that ends with all of ``events``.

    ``later``: events of the target's domain that are targets after this one.
    """
    domain = catalogue().item_domain
    front: list[int | None] = [None] * (L - len(events))
    mixed = attention(model, front + list(events[: at + 1]), len(events) - 1 - at)
    mixed = model.mixed_norm(mixed + swiglu(model.ffn, mixed) + low_rank(model.mixed_branch, mixed))

    # The aligned sequence: before each event of the domain, at the place of what precedes it, the domain's last event.
    upcoming = [*events[1 : at + 1], target]
    places: list[int | None] = list(front)
    last = None
    for event, following in zip(events, upcoming):
        if domain[event] == domain[target]:
            last = event
        places.append(last if domain[following] == domain[target] else None)
    d = int(domain[target])
    own = torch.zeros(4)
    if places[-1] is not None:
        own = attention(model, places, later)
        own = model.domain_norm[d](own + swiglu(model.ffn, own) + low_rank(model.domain_branch[d], own))
    invariant = mixed + swiglu(model.invariant, mixed) + low_rank(model.invariant_branch[d], mixed)
    return model.invariant_norm[d](invariant) + model.specific_norm[d](own + swiglu(model.specific[d], own))


EVENTS, TARGETS = [1, 2, 6, 3, 5], [2, 6, 3, 5, 8]
LATER = [1, 2, 0, 1, 0]  # events of the target's domain that are targets after it


def training_batch(*more: tuple[list[int], list[int]]) -> Batch:
    rows = [(EVENTS, TARGETS), *more]
    width = max(len(events) for events, _ in rows)
    pad = [[F.pad(torch.tensor(side), (0, width - len(side))) for side in row] for row in rows]
    length = torch.tensor([len(events) for events, _ in rows])
    return Batch(torch.stack([row[0] for row in pad]), length, torch.stack([row[1] for row in pad]))


def states(model: ABXI, batch: Batch) -> Tensor:
    row, column = batch.targets.nonzero(as_tuple=True)
    domain = model.item_domain[batch.targets]
    mixed, aligned, own = model.attend(batch.items, batch.length, domain)
    present = batch.items[row, column] > 0, own[row, column] > 0
    return model.user_states(mixed[row, column], aligned[row, column], present, domain[row, column])


def test_the_aligned_sequence_shows_the_targets_domain() -> None:
    model = make()
    following = model.item_domain[torch.tensor([TARGETS])]
    #  food(2): 1 · pans(6): none yet · food(3): 2 · pans(5): 6 · pans(8): 5
    assert model.aligned(torch.tensor([EVENTS]), following).tolist() == [[1, 0, 2, 6, 5]]


@pytest.mark.parametrize("attend_padding", [True, False])
def test_states_equal_the_formulas(attend_padding: bool) -> None:
    model = make(attend_padding=attend_padding)
    with torch.no_grad():
        ours = states(model, training_batch(([7, 1], [9, 2])))
        for at, target in enumerate(TARGETS):
            expected = state_by_hand(model, EVENTS, at, target, LATER[at])
            torch.testing.assert_close(ours[at], expected, rtol=1e-4, atol=1e-5)
        for at, target in enumerate([9, 2]):
            expected = state_by_hand(model, [7, 1], at, target)
            torch.testing.assert_close(ours[5 + at], expected, rtol=1e-4, atol=1e-5)


def test_scoring_equals_the_formulas() -> None:
    """At scoring the history ends where the target is, whatever its domain; an empty aligned sequence is zero."""
    model = make()
    histories = [EVENTS, EVENTS, [7, 1], [2]]
    domains = [0, 1, 0, 1]
    vectors = model.encode(history_batch([np.array(h, np.int32) for h in histories], domains, L))
    with torch.no_grad():
        for vector, history, domain in zip(vectors, histories, domains):
            expected = state_by_hand(model, history, len(history) - 1, (1, 5)[domain])
            torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)


def test_the_padding_that_is_attended_to_matters() -> None:
    batch = training_batch()
    with torch.no_grad():
        assert (states(make(), batch) - states(make(attend_padding=False), batch)).abs().max() > 0.01


def test_loss_is_infonce_averaged_over_a_users_targets_in_a_domain() -> None:
    model = make(temperature=0.5)
    batch = training_batch(([7, 1], [9, 2]))
    found = model.loss(batch).total
    with torch.no_grad():
        mean: dict[tuple[int, int], list[Tensor]] = {}
        row = [0] * 5 + [1] * 2
        for state, user, target in zip(states(model, batch), row, [*TARGETS, 9, 2]):
            scores = [torch.exp(state @ model.id.weight[item] / 0.5) for item in FOOD + PANS]
            surprise = -torch.log(scores[target - 1] / sum(scores))
            mean.setdefault((user, int(target in PANS)), []).append(surprise)
        expected = sum(sum(values) / len(values) for values in mean.values()) / 2
    assert len(mean) == 4
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-5)


def test_loss_of_the_last_target_is_the_softmax_of_the_scores() -> None:
    """As where only the last event of a row is predicted: the others keep their places in the aligned sequence."""
    model = make()
    batch = training_batch()
    targets = torch.zeros_like(batch.targets)
    targets[0, -1] = TARGETS[-1]
    found = model.loss(Batch(batch.items, batch.length, targets)).total
    history = history_batch([np.array(EVENTS, np.int32)], [1], L)
    scores = model.score(model.encode(history), torch.arange(1, 10))
    expected = F.cross_entropy(scores / 0.75, torch.tensor([TARGETS[-1] - 1]))
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-4, atol=1e-5)


def test_drawn_negatives_count_but_for_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, lists = training_batch(([7, 1], [9, 2])), {}
    for share in (True, False):
        model = make(num_negatives=2, share_negatives=share)
        drawn = torch.tensor([[2, 4, 6, 9], [1, 1, 9, 7]])  # 2 and 6 are targets of row 0, 9 of row 1
        monkeypatch.setattr(model, "draw", lambda rows, d=drawn: d if rows == 2 else d[[0] * 5 + [1] * 2])
        lists[share] = model.loss(batch).total
        lists[share].backward()
        lists[share, "gradient"] = model.id.weight.grad
    torch.testing.assert_close(lists[True], lists[False])
    torch.testing.assert_close(lists[True, "gradient"], lists[False, "gradient"])
    with torch.no_grad():
        total = torch.zeros(())
        weight = [1 / 2, 1 / 3, 1 / 2, 1 / 3, 1 / 3, 1, 1]
        row = [0] * 5 + [1] * 2
        for state, user, target, share_of in zip(states(model, batch), row, [*TARGETS, 9, 2], weight):
            negatives = [item for item in drawn[user].tolist() if item != target]
            logits = torch.stack([state @ model.id.weight[item] for item in [target, *negatives]]) / 0.75
            total += share_of * (logits.logsumexp(0) - logits[0]) / 2
    torch.testing.assert_close(lists[True].detach(), total, rtol=1e-4, atol=1e-5)


def test_negatives_come_alike_from_every_domain() -> None:
    model = make(num_negatives=3)
    drawn = model.draw(4_000)
    assert drawn.shape == (4_000, 6)
    for part, members in ((drawn[:, :3], FOOD), (drawn[:, 3:], PANS)):
        share = torch.bincount(part.flatten(), minlength=10) / part.numel()
        np.testing.assert_allclose(share[members], 1 / len(members), atol=0.03)  # five standard deviations
        assert share[members].sum() == 1
    assert make(num_negatives=4).draw(1)[0, :4].tolist() == FOOD  # no more than there are: each once


def test_a_fresh_low_rank_branch_adds_nothing_and_learns() -> None:
    torch.manual_seed(0)
    branch = LowRank(4, 2)
    h = torch.randn(3, 4)
    assert (branch(h) == 0).all()
    (branch(h) * torch.randn(3, 4)).sum().backward()
    assert branch[0].weight.grad.abs().max() > 0


def test_bf16_autocast_gives_nearly_the_same_loss_and_gradients() -> None:
    losses, batch = [], training_batch(([7, 1], [9, 2]))
    for enabled in (False, True):
        model = make()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model.loss(batch).total
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)

"""The trie of ids against plain loops over dictionaries."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from semacdr.models import code_trie
from semacdr.models.code_trie import CodeTrie, log_sums, runs

# domain, codes with the last token, trained; row 0 is padding
TINY = [
    (-1, (0, 0, 0), False),
    (1, (2, 0, 0), True),
    (0, (1, 5, 0), False),
    (0, (0, 3, 0), True),
    (0, (0, 3, 1), True),
    (0, (0, 1, 0), False),
    (0, (1, 2, 0), False),
    (1, (2, 0, 1), False),
]


def trie_of(rows: list[tuple[int, tuple[int, ...], bool]]) -> CodeTrie:
    domain, codes, trained = zip(*rows)
    return CodeTrie(torch.tensor(codes), torch.tensor(domain), torch.tensor(trained), max(domain) + 1)


def prefixes(trie: CodeTrie, rows: list[Any]) -> dict[tuple[int, ...], int]:
    """(domain, codes so far) -> node."""
    return {
        (rows[item][0], *rows[item][1][:level]): int(trie.node[item, level])
        for item in range(1, len(rows))
        for level in range(trie.levels + 1)
    }


def by_hand(trie: CodeTrie, rows: list[Any], states: Tensor, table: Tensor) -> dict[int, list[float]]:
    """Item -> log p of its id for each user, code by code."""
    node = prefixes(trie, rows)
    children: dict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
    known: dict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
    for domain, codes, trained in rows[1:]:
        for level in range(len(codes)):
            above, below = (domain, *codes[:level]), (domain, *codes[: level + 1])
            children[above].add(below)
            if trained:
                known[above].add(below)
    found = {}
    for item, (domain, codes, _) in enumerate(rows[1:], 1):
        found[item] = []
        for user in range(len(states)):
            total = 0.0
            for level in range(trie.levels):
                above, below = (domain, *codes[:level]), (domain, *codes[: level + 1])
                logit = {c: float(states[user] @ table[node[c]]) for c in children[above]}
                rivals = known[above] or children[above]
                total += logit[below] - math.log(sum(math.exp(logit[c]) for c in rivals))
            found[item].append(total)
    return found


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Any], int]:
    domains = draw(st.integers(1, 3))
    levels = draw(st.integers(1, 3))
    row = st.tuples(
        st.integers(0, domains - 1), st.tuples(*[st.integers(0, 3)] * levels, st.integers(0, 2)), st.booleans()
    )
    rows = draw(st.lists(row, max_size=30, unique_by=lambda r: r[:2]))
    first = [(domain, (0,) * levels + (9,), draw(st.booleans())) for domain in range(domains)]  # none is empty
    return [(-1, (0,) * (levels + 1), False), *first, *rows], draw(st.integers(0, 1000))


def scorer(trie: CodeTrie, seed: int, users: int = 3) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    states = torch.randn(users, 4, generator=random)
    return states, torch.randn(len(trie.parent), 4, generator=random)


def test_the_children_of_a_node_are_a_run_and_those_that_count_come_first() -> None:
    trie = trie_of(TINY)
    node = prefixes(trie, TINY)

    def children(*prefix: int) -> tuple[list[int], int]:
        at = node[prefix]
        run = range(int(trie.first[at]), int(trie.first[at] + trie.fan[at]))
        assert all(int(trie.parent[child]) == at for child in run)
        return list(run), int(trie.counted[at])

    assert children(0) == ([node[0, 0], node[0, 1]], 1)  # only the first leads to a trained item
    assert children(0, 0) == ([node[0, 0, 3], node[0, 0, 1]], 1)
    assert children(0, 0, 3) == ([node[0, 0, 3, 0], node[0, 0, 3, 1]], 2)
    assert children(0, 1) == ([node[0, 1, 2], node[0, 1, 5]], 2)  # no trained item below: both count
    assert children(1, 2, 0) == ([node[1, 2, 0, 0], node[1, 2, 0, 1]], 1)
    assert children(0, 0, 3, 0) == ([], 0)
    assert [trie.items_of(domain).tolist() for domain in (0, 1)] == [[3, 4, 5, 6, 2], [1, 7]]
    assert trie.item[trie.node[1:, -1]].tolist() == list(range(1, 8))


def test_runs_and_log_sums() -> None:
    run, number = runs(torch.tensor([7, 2, 5]), torch.tensor([2, 0, 3]))
    assert (run.tolist(), number.tolist()) == ([0, 0, 2, 2, 2], [7, 8, 5, 6, 7])
    values = torch.tensor([1e4, 1e4, -1e4], dtype=torch.double, requires_grad=True)
    assert log_sums(values, torch.tensor([2, 1])).tolist() == [1e4 + math.log(2), -1e4]
    values = torch.randn(5, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: log_sums(v, torch.tensor([3, 2])), values)


@given(worlds())
@settings(max_examples=30, deadline=None)
def test_whole_domains_are_scored_as_item_by_item(world: tuple[list[Any], int]) -> None:
    rows, seed = world
    trie = trie_of(rows)
    states, table = scorer(trie, seed)
    expected = by_hand(trie, rows, states, table)
    for domain in range(trie.num_domains):
        items = trie.items_of(domain).tolist()
        assert sorted(items) == [item for item, row in enumerate(rows) if row[0] == domain]
        found = trie.log_probabilities(states, domain, lambda nodes, level: table[nodes])
        torch.testing.assert_close(found, torch.tensor([expected[item] for item in items]).T, rtol=1e-4, atol=1e-4)
        trained = [column for column, item in enumerate(items) if rows[item][2]]
        if trained:
            torch.testing.assert_close(found[:, trained].exp().sum(1), torch.ones(3))


@given(worlds(), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_a_wide_beam_finds_the_best_and_a_narrow_one_valid_ids(world: tuple[list[Any], int], k: int) -> None:
    rows, seed = world
    trie = trie_of(rows)
    states, table = scorer(trie, seed)
    domain = torch.arange(3) % trie.num_domains
    barred = torch.tensor([[0, 0], [1, 2], [len(rows) - 1, 0]])

    def vectors(nodes: Tensor, level: int) -> Tensor:
        return table[nodes]

    wide = trie.beam(states, domain, vectors, 100, k, barred)
    narrow = trie.beam(states, domain, vectors, 2, k, barred)
    for user in range(3):
        items = trie.items_of(int(domain[user]))
        scores = trie.log_probabilities(states, int(domain[user]), vectors)[user]
        of = dict(zip(items.tolist(), scores.tolist()))
        free = {item: score for item, score in of.items() if item not in barred[user].tolist()}
        best = sorted(free, key=lambda item: -free[item])[:k]
        short = k - len(best)
        assert wide[0][user].tolist() == best + [0] * short
        expected = torch.tensor([free[item] for item in best] + [-math.inf] * short)
        torch.testing.assert_close(wide[1][user], expected, rtol=1e-4, atol=1e-4)
        some = [item for item in narrow[0][user].tolist() if item]
        assert len(set(some)) == len(some)
        assert set(some) <= set(free)
        torch.testing.assert_close(narrow[1][user][: len(some)], torch.tensor([free[item] for item in some]))


@given(worlds(), st.sampled_from([0, 1, 64]))
@settings(max_examples=30, deadline=None)
def test_the_loss_and_its_gradient_are_those_of_the_scores(world: tuple[list[Any], int], wide: int) -> None:
    rows, seed = world
    trie = trie_of(rows)
    targets = [item for item, row in enumerate(rows) if row[2] and row[0] == 0]
    if not targets:
        return
    states, table = scorer(trie, seed, len(targets))
    for tensor in (states, table):
        tensor.requires_grad_()
    way = trie.node[targets]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_trie, "WIDE", wide)
        loss = sum(
            trie.cross_entropy(states, level, way[:, level + 1], lambda nodes, level: table[nodes])
            for level in range(trie.levels)
        )
    scores = trie.log_probabilities(states, 0, lambda nodes, level: table[nodes])
    columns = [trie.items_of(0).tolist().index(item) for item in targets]
    expected = -scores[torch.arange(len(targets)), columns].sum()
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, [states, table], allow_unused=True)
    wanted = torch.autograd.grad(expected, [states, table])
    for one, other in zip(found, wanted):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-4, atol=1e-5)


def test_thousands_of_last_tokens_are_never_held_for_each_event() -> None:
    """Items without text share their codes."""
    count, events, dim = 3000, 40, 8
    rows = [(-1, (0, 0), False), *((0, (0, token), True) for token in range(count))]
    trie = trie_of(rows)
    table = torch.randn(len(trie.parent), dim, requires_grad=True)
    states = torch.randn(events, dim, requires_grad=True)
    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            largest[0] = max(largest[0], *(o.numel() for o in (out, 0) if isinstance(o, Tensor)), 0)
            return out

    with Watch():
        target = trie.node[torch.arange(1, events + 1), 2]
        loss = trie.cross_entropy(states, 1, target, lambda nodes, level: table[nodes])
        loss.backward()
    assert largest[0] <= events * count
    scores = states @ table[int(trie.first[1]) :].T
    right = torch.arange(events)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, right, reduction="sum"))


def test_two_items_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="one semantic id"):
        trie_of([*TINY, (0, (0, 3, 1), True)])
    trie_of([*TINY, (1, (0, 3, 1), True)])  # in another domain it is another id


def test_a_domain_without_items_is_refused() -> None:
    with pytest.raises(ValueError, match="a domain has no items"):
        trie_of([TINY[0], (0, (0, 0, 0), True), (2, (0, 3, 1), True)])

"""Semantic ids as a trie: which code may follow which in each domain, and what that makes of scores of codes.

A domain stands above the first codes of its items' ids, as the start token of a decoder does, so one trie holds all
domains. It is a few arrays: the nodes of a level come after those of the level before, ordered by parent, so the
children of a node, and the nodes of a level below one domain, are runs of numbers. Of the children of a node those that
count come first: those above a trained item, or all where there is none. A softmax over codes is over these alone:

    log p(id | h) = sum_m  l_m(c_m) - log sum_{c counts after c_1 .. c_m-1} exp l_m(c),  l_m(c) = <h, v(c_1 .. c_m-1 c)>

so the probabilities of the trained ids of a domain sum to one, and an id without training is decoded like any other
without ever having been a wrong answer.

Shapes: B users, D dim, n nodes, N items, M+1 levels (the last token is one), P events, T pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from semacdr.models.losses import linear_cross_entropy

WIDE = 64
"""Nodes with more children have a matrix product of their own in training, the others are taken together in pairs."""

Vectors = Callable[[Tensor, int], Tensor]
"""(k,) nodes, and the level they are of -> (k, D) what their last code is scored by, after those before it."""


def runs(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of consecutive numbers, one after the other: (P,) starts and lengths -> (T,) which run, (T,) number."""
    run = torch.repeat_interleave(torch.arange(len(first), device=first.device), count)
    begin = count.cumsum(0) - count
    return run, first[run] + torch.arange(len(run), device=first.device) - begin[run]


def log_sums(values: Tensor, count: Tensor) -> Tensor:
    """(T, ...) values in runs of (P,) lengths, none empty -> (P, ...) log of the sum of each run's exp."""
    run = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    highest = torch.segment_reduce(values.detach(), "max", lengths=count, axis=0)
    total = torch.zeros_like(highest).index_add(0, run, (values - highest[run]).exp())
    return highest + total.log()


class CodeTrie(nn.Module):
    """The valid ids of every domain. Node ``d`` is the start of domain ``d``.

    Args:
        codes: (N+1, M+1) ids, row 0 padding.
        item_domain: (N+1,) domain of each item.
        trained: (N+1,) items with a training event.
        num_domains: G.

    Raises:
        ValueError: two items of a domain with one id, or a domain without items.
    """

    parent: Tensor  # (n,), of a start itself
    first: Tensor  # (n,) first child
    fan: Tensor  # (n,) children, 0 for a leaf
    counted: Tensor  # (n,) children that count; they come first
    item: Tensor  # (n,) an item below the node, the item of a leaf
    node: Tensor  # (N+1, M+2) the nodes on the way to an item, from the start to the leaf

    def __init__(self, codes: Tensor, item_domain: Tensor, trained: Tensor, num_domains: int) -> None:
        super().__init__()
        self.num_domains, self.levels = num_domains, codes.shape[1]
        if bool((torch.bincount(item_domain[1:].long(), minlength=num_domains) == 0).any()):
            raise ValueError("a domain has no items")
        items = torch.arange(1, len(codes))
        here, base, size = item_domain[1:].long(), 0, num_domains  # nodes of the items in a level, its first, how many
        parent, item = [torch.arange(size)], [torch.zeros(size, dtype=torch.long)]
        first, fan, counted = [], [], []
        way = [here]
        width = int(codes.max()) + 1
        for level in range(self.levels):
            found, place = torch.unique(here * width + codes[1:, level], return_inverse=True)
            above = found // width
            known = torch.zeros(len(found), dtype=torch.bool).index_fill(0, place[trained[1:]], True)
            any_known = torch.zeros(size, dtype=torch.bool).index_fill(0, above[known], True)
            counts = known | ~any_known[above]
            order = torch.argsort(above * 2 + (~counts).long(), stable=True)
            here = torch.argsort(order)[place]
            children = torch.bincount(above, minlength=size)
            first.append(base + size + children.cumsum(0) - children)
            fan.append(children)
            counted.append(torch.bincount(above[counts], minlength=size))
            parent.append(base + above[order])
            item.append(torch.zeros(len(found), dtype=torch.long).scatter(0, here, items))
            base, size = base + size, len(found)
            way.append(base + here)
        if size != len(items):
            raise ValueError("two items of a domain have one semantic id")
        leaves = torch.zeros(size, dtype=torch.long)
        path = torch.cat([torch.zeros(1, len(way), dtype=torch.long), torch.stack(way, dim=1)])
        arrays = {"parent": parent, "item": item, "first": [*first, leaves], "fan": [*fan, leaves]}
        arrays["counted"] = [*counted, leaves]
        for name, parts in arrays.items():
            self.register_buffer(name, torch.cat(parts), persistent=False)
        self.register_buffer("node", path, persistent=False)

    def cross_entropy(self, states: Tensor, level: int, target: Tensor, vectors: Vectors) -> Tensor:
        """Sum over events of the softmax cross-entropy of one code, among those that count after the codes before it.

        A node with more than :data:`WIDE` children, thousands of last tokens say, is read in chunks; of the others
        every pair of an event and a child is held at once.

        Args:
            states: (P, D).
            level: whose code, the first being 0.
            target: (P,) right nodes of the level, each below a trained item.
            vectors: of nodes.
        """
        above = self.parent[target]
        width = self.counted[above]
        right = target - self.first[above]
        total = states.sum().float() * 0  # has a gradient where every code is certain
        for node in above[width > WIDE].unique().tolist():
            at = (above == node).nonzero().squeeze(1)
            start = int(self.first[node])
            among = torch.arange(start, start + int(self.counted[node]), device=target.device)
            total = total + linear_cross_entropy(states[at], vectors(among, level), right[at])
        few = ((width > 1) & (width <= WIDE)).nonzero().squeeze(1)  # an only child is certain
        if not len(few):
            return total
        event, child = runs(self.first[above[few]], width[few])
        needed, place = child.unique(return_inverse=True)
        logits = (states[few][event] * vectors(needed, level)[place]).sum(1).float()
        begin = width[few].cumsum(0) - width[few]
        return total + (log_sums(logits, width[few]) - logits[begin + right[few]]).sum()

    def items_of(self, domain: int) -> Tensor:
        """(n,) items of a domain, in the order of :meth:`log_probabilities`."""
        low, high = domain, domain + 1
        for _ in range(self.levels):
            low, high = self._below(low, high)
        return self.item[low:high]

    def log_probabilities(self, states: Tensor, domain: int, vectors: Vectors) -> Tensor:
        """Log p of every id of a domain, level by level over the distinct prefixes.

        Args:
            states: (B, D).
            domain: whose ids.
            vectors: of nodes.

        Returns:
            (B, n) float32, columns as :meth:`items_of` has them.
        """
        low, high = domain, domain + 1
        total = states.new_zeros(1, len(states), dtype=torch.float32)
        for level in range(self.levels):
            start, first, counted = low, self.first[low:high], self.counted[low:high]
            low, high = self._below(low, high)
            logits = (vectors(torch.arange(low, high, device=first.device), level) @ states.T).float()
            above = self.parent[low:high] - start
            mass = log_sums(logits[runs(first - low, counted)[1]], counted)
            total = total[above] + logits - mass[above]
        return total.T

    def beam(
        self, states: Tensor, domain: Tensor, vectors: Vectors, width: int, k: int, barred: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The best ids that a beam finds; as good as all there are where no level has more nodes than the beam.

        Args:
            states: (B, D).
            domain: (B,) whose ids each user is to get.
            vectors: of nodes.
            width: prefixes that are kept of each user at every level.
            k: ids wanted.
            barred: (B, L) items that are left out of the answer; 0 bars nothing.

        Returns:
            (B, k) items, best first, and their log p; item 0 and -inf behind the last one that was found.
        """
        users = len(domain)
        node, score = domain[:, None], states.new_zeros(users, 1, dtype=torch.float32)
        for level in range(self.levels):
            held = (node >= 0).nonzero()[:, 0]  # (held,) user of each prefix
            above, before = node[node >= 0], score[node >= 0]
            which, child = runs(self.first[above], self.fan[above])
            user = held[which]
            logits = (states[user] * vectors(child, level)).sum(1).float()
            counts = child - self.first[above][which] < self.counted[above][which]
            mass = log_sums(logits[counts], self.counted[above])
            value = before[which] + logits - mass[which]
            last = level == self.levels - 1
            if last:
                seen = (self.item[child][:, None] == barred[user]).any(1)
                user, child, value = user[~seen], child[~seen], value[~seen]
            node, score = _best(user, child, value, users, k if last else width)
        return torch.where(node >= 0, self.item[node.clamp(min=0)], 0), score

    def _below(self, low: int, high: int) -> tuple[int, int]:
        """The children of a run of nodes, which are a run again."""
        last = high - 1
        return int(self.first[low]), int(self.first[last] + self.fan[last])


def _best(user: Tensor, node: Tensor, value: Tensor, users: int, count: int) -> tuple[Tensor, Tensor]:
    """The best of each user's nodes: (T,) each, users ascending -> (B, count) nodes, -1 for none, and values."""
    held = torch.bincount(user, minlength=users)
    column = torch.arange(len(user), device=user.device) - (held.cumsum(0) - held)[user]
    shape = (users, max(count, int(held.max())))
    values = value.new_full(shape, float("-inf")).index_put((user, column), value)
    nodes = node.new_full(shape, -1).index_put((user, column), node)
    values, order = torch.sort(values, dim=1, descending=True, stable=True)
    return nodes.gather(1, order)[:, :count], values[:, :count]

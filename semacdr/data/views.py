"""Sequences for data without an order across domains: one view of a user for each of its domains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semacdr.data.schema import BoolArray, Int32Array, Int64Array


@dataclass(frozen=True)
class DomainViews:
    """Of each user one view for each of its domains: the other domains' training events, then the domain's own.

    items: shared buffer.
    own: as long as ``items``: the event is of the view's domain.
    start: (V,) where each view begins.
    stop: (V,) where its training events end and what is held out begins.
    group: (V,) user and domain, ``user * D + domain``.
    user: (V,)
    """

    items: Int32Array
    own: BoolArray
    start: Int64Array
    stop: Int64Array
    group: Int64Array
    user: Int32Array

    @classmethod
    def of(cls, items: Int32Array, sizes: Int64Array, kept: Int64Array, domains: int) -> DomainViews:
        """Lays them out.

        Args:
            items: the events, grouped by user and domain.
            sizes: (U * D,) events of each user in each domain.
            kept: (U * D,) how many of these, from the first on, are training events.
            domains: D.
        """
        begins = np.cumsum(sizes) - sizes
        # A row a view, a column a segment: the user's other domains in order, cut to what trains, then its own.
        views = np.flatnonzero(sizes)
        users = (views // domains).astype(np.int32)
        segments = users[:, None].astype(np.int64) * domains + np.arange(domains)
        own = segments == views[:, None]
        order = np.argsort(own, axis=1, kind="stable")
        segments, own = np.take_along_axis(segments, order, axis=1), np.take_along_axis(own, order, axis=1)
        lengths = np.where(own, sizes[segments], kept[segments])
        flat = lengths.ravel()
        before = np.cumsum(flat) - flat
        source = np.repeat(begins[segments].ravel() - before, flat) + np.arange(int(flat.sum()))
        start = before.reshape(segments.shape)[:, 0]
        stop = start + lengths.sum(axis=1) - sizes[views] + kept[views]
        return cls(items[source], np.repeat(own.ravel(), flat), start, stop, views, users)

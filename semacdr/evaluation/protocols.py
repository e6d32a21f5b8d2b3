"""Protocols: against which other items a held-out target is ranked.

* ``full``: all items of the target's domain but those in the user's history. The default, and what we lead with.
* ``full-cold``: like ``full``, but only items without a training event compete, for targets that have none themselves:
  those of the split ``cold-item``.
* ``full-all``: every item of every domain, nothing left out, as RecBole ranks a sequential user. For parity with it.
* ``sampled-999``, ``sampled-100``: that many items of the target's domain, drawn uniformly from those that the user
  never had (see :mod:`semacdr.evaluation.negatives`), as many papers do.

The target itself is a candidate under each of them, even if the user had it before.
"""

from __future__ import annotations

from dataclasses import dataclass

from semacdr.data.schema import Int64Array
from semacdr.errors import InputError, nearest


@dataclass(frozen=True)
class Protocol:
    """Which items compete with the target.

    Attributes:
        name: as on the command line.
        all_domains: rank the items of all domains, not only of the target's.
        leaves_out_seen: the user's history does not compete.
        only_cold: only items without a training event compete.
        num_negatives: K of a sampled protocol; None ranks all.
        rates: no ranking at all: ratings are predicted (see :mod:`semacdr.evaluation.ratings`).
    """

    name: str
    all_domains: bool = False
    leaves_out_seen: bool = True
    only_cold: bool = False
    num_negatives: int | None = None
    rates: bool = False


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("full"),
        Protocol("full-cold", only_cold=True),
        Protocol("full-all", all_domains=True, leaves_out_seen=False),
        Protocol("sampled-999", num_negatives=999),
        Protocol("sampled-100", num_negatives=100),
    )
}


def get_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of a name.

    Raises:
        InputError: an unknown name, with the nearest valid one.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}", fix=nearest(protocol, PROTOCOLS))
    return PROTOCOLS[protocol]


def check_targets(protocol: Protocol, train_count: Int64Array) -> None:
    """Whether a protocol can rank these targets.

    Args:
        protocol: the protocol.
        train_count: (T,) training events of each target.

    Raises:
        InputError: only cold items compete, and some target is none.
    """
    trained = int((train_count > 0).sum())
    if protocol.only_cold and trained:
        raise InputError(
            f"{protocol.name} ranks among items without training events, and {trained} of {len(train_count)} targets "
            "have some",
            fix="--protocol full, whose rows 'item 0' are of the targets without; or train with split=cold-item",
        )

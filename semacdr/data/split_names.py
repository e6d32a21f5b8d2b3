"""The names of splits, as ``split=NAME`` and a bench config give them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from semacdr.data.cold_items import plan_cold_items
from semacdr.data.cold_users import plan_cold_users
from semacdr.data.dataset import Dataset
from semacdr.data.plan import Plan
from semacdr.data.transfer import plan_transfer
from semacdr.errors import InputError, nearest

LEAVE_ONE_OUT = "leave-one-out"
_TRANSFER = re.compile(r"transfer-(\d+):(.+)")
_COLD = re.compile(r"(cold-item|cold-user)(?:-(\d+))?")
_PERCENT = {"cold-item": 10, "cold-user": 20}


@dataclass(frozen=True)
class HidingSplit:
    """A split that hides events, in training too.

    Attributes:
        kind: ``transfer``, ``cold-item`` or ``cold-user``.
        percent: of the history, the items or the users.
        domain: of a transfer split.
    """

    kind: str
    percent: int
    domain: str = ""

    @property
    def name(self) -> str:
        """In full: ``cold-item-10`` also where ``cold-item`` was asked for."""
        return f"{self.kind}-{self.percent}" + (f":{self.domain}" if self.domain else "")

    def plan(self, dataset: Dataset) -> Plan:
        """What it decides on these data.

        Raises:
            InputError: they do not allow it.
        """
        if self.kind == "transfer":
            return plan_transfer(dataset, self.percent, self.domain)
        return (plan_cold_items if self.kind == "cold-item" else plan_cold_users)(dataset, self.percent)


def hides_events(name: object) -> bool:
    """Whether a split of a result is one that hides events in training; published and drawn splits have other names."""
    return isinstance(name, str) and (_TRANSFER.fullmatch(name) or _COLD.fullmatch(name)) is not None


def parse_split(name: str, domain: str = "DOMAIN") -> HidingSplit | None:
    """Reads a name; None for leave-one-out, which hides nothing but its targets.

    Args:
        name: ``leave-one-out``, ``transfer-X:DOMAIN``, ``cold-item`` or ``cold-user``, these two also with ``-P``.
        domain: for the example in the message.

    Raises:
        InputError: an unknown name, with the nearest valid one, or a share that leaves nothing.
    """
    if name == LEAVE_ONE_OUT:
        return None
    if transfer := _TRANSFER.fullmatch(name):
        return HidingSplit("transfer", int(transfer[1]), transfer[2])
    cold = _COLD.fullmatch(name)
    if cold is None:
        examples = [LEAVE_ONE_OUT, f"transfer-80:{domain}", *_PERCENT, *(f"{kind}-{p}" for kind, p in _PERCENT.items())]
        raise InputError(f"unknown split {name!r}", fix=nearest(name, examples))
    percent = int(cold[2] or _PERCENT[cold[1]])
    if not 1 <= percent <= 99:
        raise InputError(f"{name} holds out {percent} %", fix=f"a whole number from 1 to 99, as in {cold[1]}-10")
    return HidingSplit(cold[1], percent)


def in_full(name: str) -> str:
    """A split's one name: ``cold-item`` is ``cold-item-10``; a name that cannot be read is left for whoever splits."""
    try:
        split = parse_split(name)
    except InputError:
        return name
    return name if split is None else split.name

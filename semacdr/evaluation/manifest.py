"""``evaluation.json``: the file in a run folder that says under which protocols its test targets have been ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semacdr.data.schema import SplitName
from semacdr.errors import InputError
from semacdr.files import read_json

EVALUATION = "evaluation.json"


def evaluation_name(on: SplitName) -> str:
    """Of the file about one part of the split: results on validation targets lie beside those on test targets."""
    return EVALUATION if on == "test" else f"evaluation_{on}.json"


def protocols_of(manifest: Any, where: Path) -> dict[str, dict[str, Any]]:
    """What an evaluation says of each protocol.

    Args:
        manifest: as it was read.
        where: it is from.

    Raises:
        InputError: it has another shape.
    """
    match manifest:
        case {"protocols": dict(protocols)} if all(isinstance(entry, dict) for entry in protocols.values()):
            return protocols
    raise InputError("names no protocols, as an evaluation does", where=str(where), fix="delete it and evaluate again")


def evaluated_protocols(run: Path, on: SplitName = "test") -> dict[str, dict[str, Any]]:
    """The same of a run folder; nothing where it has no evaluation."""
    path = run / evaluation_name(on)
    return protocols_of(read_json(path), path) if path.is_file() else {}

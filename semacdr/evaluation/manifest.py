"""``evaluation.json``: the file in a run folder that says under which protocols its test targets have been ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semacdr.errors import InputError
from semacdr.files import read_json

EVALUATION = "evaluation.json"


def evaluated_protocols(run: Path, name: str = EVALUATION) -> dict[str, dict[str, Any]]:
    """What a run's evaluation says of each protocol; nothing where it has none.

    Args:
        run: the run folder.
        name: of the file; another one for validation targets.

    Raises:
        InputError: a file of another shape.
    """
    path = run / name
    if not path.is_file():
        return {}
    match read_json(path):
        case {"protocols": dict(protocols)} if all(isinstance(entry, dict) for entry in protocols.values()):
            return protocols
    fix = f"delete it, then semacdr evaluate {run}"
    raise InputError("names no protocols, as an evaluation does", where=str(path), fix=fix)

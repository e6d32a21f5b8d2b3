"""Where the data set of a run is now: the very data that it was trained on, or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semacdr.data.schema import MANIFEST
from semacdr.errors import SemacdrError
from semacdr.files import read_json
from semacdr.report.subject import RUN, RunEntry


def manifest_of(run: RunEntry) -> dict[str, Any] | None:
    """The ``run.json`` of a run; None where there is none that names its data."""
    try:
        manifest = read_json(run.folder / RUN)
    except (SemacdrError, OSError):
        return None
    return manifest if isinstance(manifest, dict) and "dataset_fingerprint" in manifest else None


def is_data(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a folder is the data set that a run was trained on, by its fingerprint."""
    try:
        return bool(read_json(folder / MANIFEST)["fingerprint"] == manifest["dataset_fingerprint"])
    except (SemacdrError, OSError, KeyError, TypeError):
        return False


def data_folder(manifest: Mapping[str, Any], *candidates: str | Path | None) -> Path | None:
    """The first folder that holds a run's data, that of ``run.json`` last; None where none does."""
    folders = [Path(place) for place in (*candidates, manifest.get("dataset")) if place is not None]
    return next((folder for folder in folders if is_data(folder, manifest)), None)

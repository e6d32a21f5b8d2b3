"""A data set folder of ours as RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path

from semacdr.data.dataset import Dataset
from semacdr.data.readers.atomic import export_atomic
from semacdr.errors import InputError


def export(dataset: str | Path, data_path: str | Path, name: str | None = None) -> Path:
    """Writes ``data_path/name/name.inter`` and ``name.item``, ready for ``run_recbole(dataset=name)``.

    Args:
        dataset: a data set folder of ours.
        data_path: RecBole's ``data_path``.
        name: RecBole's name of the data set; by default our own.

    Returns:
        the folder.

    Raises:
        InputError: not a data set folder, or one with a published split, which RecBole's leave-one-out would ignore;
            or the folder to write holds other files.
    """
    source = Dataset.load(dataset)
    if source.targets is not None:
        raise InputError("has a published split, which RecBole's own division would not follow", where=str(dataset))
    folder = Path(data_path) / (name or source.name)
    export_atomic(source, folder)
    return folder

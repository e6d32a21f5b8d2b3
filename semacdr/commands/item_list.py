"""Item ids as arguments give them."""

from __future__ import annotations

from pathlib import Path


def item_list(said: str) -> list[str]:
    """``ID,ID,...`` without blanks around them, or ``@FILE``: a line an id, as it stands there.

    Raises:
        InputError: no such file, or one that is not UTF-8.
    """
    from semacdr.errors import InputError

    if not said.startswith("@"):
        return [item.strip() for item in said.split(",") if item.strip()]
    path = Path(said[1:])
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "no file to be read"
        raise InputError(f"{what} ({error})", where=str(path), fix="after @ a file with a line an id") from None
    return [item for line in lines if (item := line.removesuffix("\r")).strip()]

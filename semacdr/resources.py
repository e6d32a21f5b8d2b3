"""Where the files that ship with the package are: beside it in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from semacdr.errors import InputError, SemacdrError, nearest

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for candidate in (_PACKAGE / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise SemacdrError(f"the package's {name} folder is missing", where=str(_PACKAGE), fix="install semacdr again")


def prompts_folder() -> Path:
    """The prompt templates."""
    return _folder("prompts")


def configs_folder() -> Path:
    """The model and bench configs."""
    return _folder("configs")


def find_config(name: Path) -> Path:
    """A config by path, or by its name in the configs that ship with the package, for example ``demo/SemaCDR.yaml``.

    Raises:
        InputError: neither exists.
    """
    shipped = configs_folder() / name
    for candidate in (name, shipped):
        if candidate.is_file():
            return candidate
    known = [str(path.relative_to(configs_folder())) for path in configs_folder().rglob("*.yaml")]
    raise InputError("no such config file", where=str(name), fix=nearest(str(name), known))

"""Files that are either whole or absent: atomic writes, staged folders, hashes and fingerprints."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from semacdr.errors import InputError


def _beside(path: Path, kind: str) -> Path:
    """A temporary sibling of ``path`` that is this process's alone.

    What processes of this machine that are no more left under such a name goes away: a training that is killed time and
    again would otherwise fill the disk with halves of checkpoints.
    """
    clear_halves(path.parent, glob.escape(path.name), kind)
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.{kind}")


def clear_halves(folder: Path, names: str, kind: str = "tmp") -> list[Path]:
    """Removes what dead processes of this machine left of files whose names match the pattern; says what it was."""
    cleared = list(_left_by_the_dead(folder, names, kind))
    for left in cleared:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    return cleared


def put_back(path: Path) -> None:
    """Puts a folder back that a process of this machine set aside and did not live to replace."""
    path = _real(path)
    if path.exists():
        return
    for left in _left_by_the_dead(path.parent, glob.escape(path.name), "old"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.replace(left, path)
        return


def _left_by_the_dead(folder: Path, names: str, kind: str) -> Iterator[Path]:
    mark = f".{platform.node()}-"
    for left in folder.glob(f".{names}{glob.escape(mark)}*.{kind}"):
        owner = left.name.rpartition(mark)[2].removesuffix(f".{kind}")
        if owner.isdigit() and not process_runs(int(owner)):
            yield left


def _real(path: Path) -> Path:
    """Where a link leads; any other path as it is."""
    return path.resolve() if path.is_symlink() else path


def process_runs(process: int) -> bool:
    """Whether a process of this machine is there."""
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Calls ``write`` with a temporary sibling of ``path``, flushes it to disk and renames it over ``path``.

    A kill at any moment leaves the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # the reader knows the file by its own name
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raises an :class:`InputError` where no file can be written at ``path``: what can be known before the work is."""
    if os.path.isdir(path):
        raise InputError("a folder, where a file is to be written", where=str(path))
    above = next(folder for folder in path.absolute().parents if os.path.exists(folder))
    if not os.path.isdir(above):
        raise InputError(f"no file can be written here: {above} is no folder", where=str(path))
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"no file can be written here: {above} must not be written to", where=str(path))


def check_replaceable(path: Path) -> None:
    """Refuses to put a new folder in the place of the current one: who stands in it would stand in nothing.

    Raises:
        InputError: ``path`` is the current folder, or one around it.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it is gone already
        return
    if path.resolve() in (here, *here.parents):
        what = "the current folder, or one around it, is not replaced while one stands in it"
        raise InputError(what, where=str(path), fix="go to another folder first, or name another one")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomic(path, write)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, keys in the order given, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON; a missing or broken file is an :class:`InputError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not valid JSON ({error})", where=str(path)) from None


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that takes the place of ``path`` if the body ends well, and vanishes if it does not.

    An existing ``path`` is replaced as a whole, so an error leaves what was there. Of a link it is what it leads to.

    Raises:
        InputError: see :func:`check_replaceable`.
    """
    check_replaceable(path)
    path = _real(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    put_back(path)
    staging = _beside(path, "staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        retired = _beside(path, "old")
        shutil.rmtree(retired, ignore_errors=True)  # of a process that had this one's number
        if path.exists():
            os.replace(path, retired)
        try:
            os.replace(staging, path)
        except OSError:
            if retired.exists():
                os.replace(retired, path)
            raise
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Nobody else who asks for it changes ``path`` meanwhile; ``waiting`` is called where one has to wait.

    The lock is a file beside it, ``.NAME.lock``, which stays with what it guards. Systems and disks that know no such
    locks go without.

    Raises:
        InputError: see :func:`check_replaceable`.
    """
    check_replaceable(path)
    path = _real(path)
    if os.name != "posix" or not path.parent.is_dir():
        yield
        return
    import fcntl

    file = path.with_name(f".{path.name}.lock")
    with open(file, "a+b") as handle:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                raise
        try:
            yield
        finally:
            if not path.exists():
                file.unlink(missing_ok=True)


def holds_finished(path: Path, kind: str, key: str) -> bool:
    """Whether a folder holds a finished product of this kind with this fingerprint, by its ``manifest.json``.

    Raises:
        InputError: the folder holds something else, which is not to be replaced, or see :func:`check_replaceable`.
    """
    check_replaceable(path)
    put_back(path)
    if not path.exists():
        return False
    try:
        manifest = read_json(path / "manifest.json") if (path / "manifest.json").is_file() else None
    except InputError as error:
        raise InputError(error.what, where=error.where, fix=f"delete {path}, or another --out") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        if path.is_dir() and not any(path.iterdir()):
            return False
        article = "an" if kind[0] in "aeiou" else "a"
        what = f"exists and is not {article} {kind.replace('-', ' ')} folder; it is left as it is"
        raise InputError(what, where=str(path), fix="another --out")
    return bool(manifest.get("fingerprint") == key)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON in one form for equal values: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value in canonical form."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()

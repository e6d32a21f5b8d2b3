"""Files are whole or absent, and a killed writer leaves nothing for good."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from semacdr.errors import InputError
from semacdr.files import check_writable, holds_finished, locked_folder, staged_folder, write_atomic, write_text

DIES_WRITING = """
import os, signal, sys
from pathlib import Path
from semacdr.files import staged_folder, write_atomic

def die(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

path = Path(sys.argv[1])
if sys.argv[2] == "file":
    write_atomic(path, die)
else:
    with staged_folder(path) as folder:
        die(folder / "a")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_goes_with_the_next_write(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x[1].bin"
    died = subprocess.run([sys.executable, "-c", DIES_WRITING, str(path), kind], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(names(tmp_path)) == 1  # half of it
    alive = tmp_path / names(tmp_path)[0].rpartition("-")[0]
    other = alive.with_name(f"{alive.name}-{os.getppid()}.{'tmp' if kind == 'file' else 'staging'}")
    other.write_text("of a process that still runs")
    if kind == "file":
        write_text(path, "whole")
    else:
        with staged_folder(path) as folder:
            (folder / "a").write_text("whole")
    assert names(tmp_path) == sorted([path.name, other.name])


DIES_SWAPPING = """
import os
import signal
import sys
from pathlib import Path

from semacdr.files import staged_folder

path, replace = Path(sys.argv[1]), os.replace

def replace_and_die(source, target):
    replace(source, target)
    os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_and_die
with staged_folder(path) as folder:
    (folder / "a").write_text("new")
"""


@pytest.mark.parametrize("way", ["looked for", "written"])
def test_a_folder_set_aside_by_a_killed_writer_comes_back(way: str, tmp_path: Path) -> None:
    path = tmp_path / "x[1]"
    with staged_folder(path) as folder:
        (folder / "a").write_text("old")
    died = subprocess.run([sys.executable, "-c", DIES_SWAPPING, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not path.exists()
    if way == "looked for":
        with pytest.raises(InputError, match="exists and is not an index folder"):
            holds_finished(path, "index", "")
        assert (path / "a").read_text() == "old"
        return
    with pytest.raises(RuntimeError), staged_folder(path):
        raise RuntimeError("no space")
    assert (path / "a").read_text() == "old"
    assert names(tmp_path) == [path.name]


def test_a_folder_behind_a_link_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    for text in ("old", "new"):
        with staged_folder(tmp_path / "link") as folder:
            (folder / "a").write_text(text)
    assert (tmp_path / "real" / "a").read_text() == "new"
    assert names(tmp_path) == ["link", "real"]
    assert (tmp_path / "link").is_symlink()


def test_a_locked_folder_is_waited_for_also_when_it_is_replaced(tmp_path: Path) -> None:
    """The second waits for the first, and then for the third, who found the folder that the first has put there."""
    path, order, waits = tmp_path / "f", [], threading.Semaphore(0)
    with staged_folder(path) as folder:
        (folder / "a").write_text("old")

    def second() -> None:
        with locked_folder(path, waits.release):
            order.append("second")

    other = threading.Thread(target=second)
    with locked_folder(path, lambda: None):
        other.start()
        assert waits.acquire(timeout=60)
        with staged_folder(path) as folder:
            (folder / "a").write_text("new")
        third = locked_folder(path, lambda: None)
        third.__enter__()
        order.append("first")
    assert waits.acquire(timeout=30)
    order.append("third")
    third.__exit__(None, None, None)
    other.join(60)
    assert order == ["first", "third", "second"]
    with locked_folder(tmp_path / "nowhere", waits.release):
        assert not waits.acquire(blocking=False)


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    with staged_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "f") as folder:
        fail(folder / "a")
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert names(tmp_path) == ["a", "f"]


def test_a_full_disk_is_told_of_the_file_and_not_of_its_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(tmp_path / "a", "new")
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_where_no_file_can_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "folder" / "file")
    check_writable(Path("relative"))
    with pytest.raises(InputError, match="a folder, where a file"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path / 'file'} is no folder"):
        check_writable(tmp_path / "file" / "below" / "it")
    monkeypatch.setattr("os.access", lambda folder, _: folder != tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} must not be written to"):
        check_writable(tmp_path / "new" / "file")
    assert names(tmp_path) == ["file"]

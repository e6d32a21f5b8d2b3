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
from semacdr.files import check_writable, holds_finished, locked, staged_folder, write_atomic, write_text

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


@pytest.mark.parametrize("way", ["looked for", "looked for by a link", "written"])
def test_a_folder_set_aside_by_a_killed_writer_comes_back(way: str, tmp_path: Path) -> None:
    path = tmp_path / "x[1]"
    with staged_folder(path) as folder:
        (folder / "a").write_text("old")
    died = subprocess.run([sys.executable, "-c", DIES_SWAPPING, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not path.exists()
    if way != "written":
        (tmp_path / "link").symlink_to(path, target_is_directory=True)
        with pytest.raises(InputError, match="exists and is not an index folder"):
            holds_finished(tmp_path / "link" if "link" in way else path, "index", "")
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


def test_who_comes_second_waits(tmp_path: Path) -> None:
    """Also where the folder is replaced meanwhile, and where one comes by a link."""
    path, order, waits = tmp_path / "f", [], threading.Semaphore(0)
    with staged_folder(path) as folder:
        (folder / "a").write_text("old")
    (tmp_path / "link").symlink_to("f", target_is_directory=True)

    def second() -> None:
        with locked(tmp_path / "link", waits.release):
            order.append((path / "a").read_text())

    other = threading.Thread(target=second)
    with locked(path, lambda: None):
        with staged_folder(path) as folder:
            (folder / "a").write_text("new")
        other.start()
        assert waits.acquire(timeout=60)
        order.append("first")
    other.join(60)
    assert order == ["first", "new"]


def test_a_lock_leaves_nothing_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "nothing", tmp_path / "no" / "folder"):
        with locked(path, lambda: None):
            assert not path.exists()
        assert names(tmp_path) == []

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks on this disk")

    monkeypatch.setattr("fcntl.flock", unknown)
    with locked(tmp_path / "nothing", lambda: None):
        pass
    monkeypatch.setattr("fcntl.flock", lambda *_: os.open(tmp_path / "nowhere", os.O_RDONLY))
    with pytest.raises(FileNotFoundError), locked(tmp_path / "nothing", lambda: None):
        pass


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("old")
    replace = os.replace

    def fails(source: Path, target: Path) -> None:
        if source.name.endswith(".staging"):
            raise OSError(errno.EIO, "the disk is gone")
        replace(source, target)

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="the disk is gone"), staged_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert names(tmp_path) == ["f"]


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


@pytest.mark.parametrize("name", [".", "..", "here/../", "../link", "{here}"])
def test_the_current_folder_is_not_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside" / "here").mkdir(parents=True)
    (tmp_path / "link").symlink_to("inside")
    monkeypatch.chdir(tmp_path / "inside")
    before = sorted(tmp_path.rglob("*"))
    path = Path(name.format(here=tmp_path / "inside"))
    with pytest.raises(InputError, match="not replaced while one stands in it"), staged_folder(path):
        pass
    with pytest.raises(InputError, match="not replaced while one stands in it"), locked(path, lambda: None):
        pass
    with pytest.raises(InputError, match="not replaced while one stands in it"):
        holds_finished(path, "table", "key")
    assert sorted(tmp_path.rglob("*")) == before


def test_other_folders_are_replaced_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    for path in (Path("below"), Path("../beside"), tmp_path / "new"):
        with staged_folder(path) as folder:
            (folder / "made").touch()
        assert (path / "made").is_file()
    (tmp_path / "gone" / "below" / "made").unlink()
    (tmp_path / "gone" / "below").rmdir()
    (tmp_path / "gone").rmdir()
    with staged_folder(tmp_path / "new") as folder:
        (folder / "again").touch()
    assert (tmp_path / "new" / "again").is_file()

"""Downloads against a server on this machine that breaks off, changes its file, or cannot resume."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from semacdr.cli import main
from semacdr.data import fetch as fetching
from semacdr.data.fetch import Source, download, fetch, find_source
from semacdr.errors import InputError, SemacdrError

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``body``; the first ``breaks`` answers end after ``break_after`` bytes."""

    body = BODY
    breaks = 0
    break_after = 300_000
    ranges = True
    fail_with = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, body = self.server, self.server.body
        asked = self.headers.get("Range")
        server.seen.append(asked)
        if server.fail_with:
            self.send_error(server.fail_with)
            return
        tag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        start = int(asked.split("=")[1].rstrip("-")) if asked and server.ranges else 0
        if start and self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if server.breaks > 0:
            server.breaks -= 1
            self.wfile.write(body[start : start + server.break_after])
        else:
            self.wfile.write(body[start:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def test_goes_on_where_the_server_broke_off(server, tmp_path):
    server.breaks = 2
    download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.seen == [None, "bytes=300000-", "bytes=600000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_goes_on_in_the_next_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    server.breaks = 1
    with pytest.raises(SemacdrError, match="goes on there") as caught:
        download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin.part").stat().st_size == 300_000
    download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.seen == [None, "bytes=300000-"]


def test_a_part_that_is_already_whole_is_taken(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY)
    download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_longer_than_the_file_starts_over(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY + b"more")
    download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.breaks, server.ranges = 1, False
    download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_not_spliced(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    server.breaks = 1
    with pytest.raises(SemacdrError):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", None)
    server.body = BODY[::-1]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", None)
    assert (tmp_path / "a.bin").read_bytes() == BODY[::-1]


def test_wrong_bytes_are_thrown_away(server, tmp_path):
    with pytest.raises(SemacdrError, match=f"sha256 is {SHA}, expected 00"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", "00")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(BODY)
    download(f"{server.url}/a.bin", tmp_path / "a.bin", SHA)
    assert server.seen == []


def test_a_refusal_is_not_tried_again(server, tmp_path):
    server.fail_with = 404
    with pytest.raises(SemacdrError, match="404"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", None)
    assert len(server.seen) == 1


def test_only_http(tmp_path):
    with pytest.raises(InputError, match="only http"):
        download(f"file://{tmp_path}/secret", tmp_path / "a", None)


def test_names(tmp_path):
    assert find_source("amazon2023-All_Beauty").urls[1].endswith("/meta_All_Beauty.jsonl.gz")
    assert find_source("ml-100k").sha256
    for wrong in ("ml-100", "amazon2023-", "amazon2023-CATEGORY", "amazon2023-../x"):
        with pytest.raises(InputError, match="no source named"):
            find_source(wrong)


def test_terms_are_printed_and_a_zip_is_unpacked(server, tmp_path, capsys, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr("set/u.data", "1\t2\t3\t4\n")
    server.body = packed.getvalue()
    url = f"{server.url}/set.zip"
    sha = hashlib.sha256(server.body).hexdigest()
    monkeypatch.setitem(fetching.SOURCES, "set", Source("a set", "movielens", "no selling", (url,), sha))
    assert main(["data", "fetch", "set", "--dir", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(tmp_path / "set.zip"), str(tmp_path / "set")]
    assert "terms: no selling" in printed.err
    assert (tmp_path / "set" / "u.data").read_text() == "1\t2\t3\t4\n"


def test_a_zip_cannot_leave_its_folder(server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr("set/../../out.txt", "x")
    server.body = packed.getvalue()
    with pytest.raises(SemacdrError, match="would leave the folder"):
        fetch("mine", tmp_path / "in", url=f"{server.url}/set.zip")
    assert not (tmp_path / "out.txt").exists()


def test_a_known_checksum_holds_for_a_mirror(server, tmp_path):
    with pytest.raises(SemacdrError, match="expected 50d2a982"):
        fetch("ml-100k", tmp_path, url=f"{server.url}/ml-100k.zip")

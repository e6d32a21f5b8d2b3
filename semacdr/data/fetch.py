"""Downloads of public raw data: asked for by name, checked by hash, gone on with after a break.

Nothing here runs unless a user asks for it, and every download prints the terms under which the data are offered.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from semacdr.errors import InputError, SemacdrError, nearest
from semacdr.files import file_sha256, staged_folder, write_text
from semacdr.progress import Progress, say

TIMEOUT_S = 60
ATTEMPTS = 5
_BLOCK = 1 << 18
_AMAZON = "offered for research with citation, no open licence"
CATEGORY = "CATEGORY"


@dataclass(frozen=True)
class Source:
    """Files of one public data set; ``CATEGORY`` in a name and in its addresses stands for a category's name."""

    summary: str
    format: str
    licence: str
    urls: tuple[str, ...]
    sha256: str | None = None  # of the single file
    size_bytes: int | None = None


SOURCES = {
    "ml-100k": Source(
        "MovieLens 100k: 943 users, 1,682 films, 100,000 ratings",
        "movielens",
        "GroupLens, research use, no redistribution without permission; cite Harper & Konstan 2015",
        ("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        4_924_029,
    ),
    "amazon2014-CATEGORY": Source(
        "Amazon reviews of 2014, 5-core, and metadata, e.g. amazon2014-Beauty",
        "amazon",
        f"McAuley lab, UCSD: {_AMAZON}; cite He & McAuley 2016, McAuley et al. 2015",
        (
            "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_CATEGORY_5.json.gz",
            "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/meta_CATEGORY.json.gz",
        ),
    ),
    "amazon2023-CATEGORY": Source(
        "Amazon reviews of 2023 and metadata, e.g. amazon2023-All_Beauty",
        "amazon",
        f"McAuley lab, UCSD: {_AMAZON}; cite Hou et al. 2024",
        (
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/CATEGORY.jsonl.gz",
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/meta_categories/meta_CATEGORY.jsonl.gz",
        ),
    ),
}


def find_source(name: str) -> Source:
    """The source of that name, its addresses filled in.

    Raises:
        InputError: no such name.
    """
    for key, source in SOURCES.items():
        stem = key.removesuffix(CATEGORY)
        if key == name and stem == key:
            return source
        category = name.removeprefix(stem)
        if stem != key and name.startswith(stem) and category.replace("_", "").isalnum() and category != CATEGORY:
            urls = tuple(url.replace(CATEGORY, category) for url in source.urls)
            return Source(source.summary, source.format, source.licence, urls)
    raise InputError(f"no source named {name!r}", fix=f"{nearest(name, SOURCES)}; or give an address with --url")


def fetch(name: str, folder: Path, url: str | None = None, sha256: str | None = None) -> list[Path]:
    """Downloads a named data set into ``folder``; a zip is unpacked there.

    Args:
        name: of :data:`SOURCES`; any name goes with a ``url``.
        folder: made if missing.
        url: a mirror; the known checksum holds for it too.
        sha256: expected hash, where none is known.

    Raises:
        InputError: an unknown name without ``url``, or an address that is not http(s).
        SemacdrError: the server fails for good, or the bytes do not have the expected hash.
    """
    if url is not None and name not in SOURCES:
        source = Source(name, "", "not known to semacdr; see where the address is published", (url,))
    else:
        source = find_source(name)
    say(f"terms: {source.licence}")
    urls = source.urls if url is None else (url,)
    paths = []
    for address in urls:
        target = folder / Path(urllib.parse.urlsplit(address).path).name
        if not target.name:
            raise InputError("the address names no file", where=address)
        download(address, target, sha256 or source.sha256)
        paths.append(target)
        if target.suffix == ".zip":
            paths.append(_unpack(target))
    return paths


def download(url: str, target: Path, sha256: str | None) -> None:
    """Fetches one file; what an earlier, broken attempt left in ``target.part`` is gone on with.

    Raises:
        InputError: the address is not http(s).
        SemacdrError: the server fails for good, or the hash is wrong.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError("only http and https addresses are fetched", where=url)
    if target.is_file() and (sha256 is None or file_sha256(target) == sha256):
        say(f"{target} is there already")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise SemacdrError(f"the server answers {error.code} {error.reason}", where=url) from None
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        if attempt == ATTEMPTS:
            raise SemacdrError(
                f"broke off {ATTEMPTS} times ({reason})", where=url, fix="the same command goes on there"
            )
        grown = part.exists() and part.stat().st_size > before
        say(f"broke off ({reason}), going on")
        time.sleep(0 if grown else min(2.0 ** (attempt - 2), 8.0))
    found = file_sha256(part)
    if sha256 is not None and found != sha256:
        part.unlink()
        _tag_file(part).unlink(missing_ok=True)
        raise SemacdrError(f"sha256 is {found}, expected {sha256}; the file is thrown away", where=url)
    part.replace(target)
    _tag_file(part).unlink(missing_ok=True)
    say(f"{target}: sha256 {found}" + ("" if sha256 else " (none is known to compare with)"))


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _continue(url: str, part: Path) -> None:
    """Appends what is missing to ``part``; starts over where the server cannot resume or its file has changed.

    Raises:
        OSError, http.client.HTTPException: the connection broke.
    """
    tag_file = _tag_file(part)
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "semacdr", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if tag_file.is_file():
            headers["If-Range"] = tag_file.read_text(encoding="utf-8")
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "").endswith(f"/{done}"):
            return  # all bytes are there
        if error.code == 416:
            part.unlink()
            raise ConnectionError("the part on disk is longer than the file") from None
        raise
    with answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if not resumed:
            done = 0
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            write_text(tag_file, tag)
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        progress = Progress(total or done, part.name.removesuffix(".part"), "bytes", done=done)
        with open(part, "ab" if resumed else "wb") as handle:
            while block := answer.read(_BLOCK):
                handle.write(block)
                done += len(block)
                progress.update(len(block))
        if total is not None and done < total:
            raise ConnectionError(f"{done} of {total} bytes")
        progress.close()


def _unpack(archive: Path) -> Path:
    """Unpacks a zip beside itself, without its own top folder, and returns the new folder."""
    folder = archive.with_suffix("")
    try:
        with zipfile.ZipFile(archive) as bundle, staged_folder(folder) as staging:
            for member in bundle.infolist():
                parts = Path(member.filename).parts
                inner = parts[1:] if len(parts) > 1 and parts[0] == folder.name else parts
                if member.is_dir() or not inner:
                    continue
                if ".." in inner or Path(*inner).is_absolute():
                    raise SemacdrError(f"refused: {member.filename!r} would leave the folder", where=str(archive))
                target = staging.joinpath(*inner)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(bundle.read(member))
    except zipfile.BadZipFile as error:
        raise SemacdrError(f"not a whole zip file ({error})", where=str(archive)) from None
    return folder

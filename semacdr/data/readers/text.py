"""Raw text files as whole columns: plain or gz, cut off or wrongly encoded parts reported with their line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from semacdr.data.badrows import CUT_OFF, FILE, LINE, NOT_PARSED, WRONG_ENCODING, BadRows
from semacdr.data.schema import Int64Array
from semacdr.errors import InputError

CHUNK_BYTES = 64 << 20
TEXT = "text"


def byte_chunks(path: Path, report: BadRows, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The file's bytes in pieces of whole lines; of a gz file that breaks off, all whole lines before the break.

    Raises:
        InputError: no such file.
    """
    rest = b""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as handle:
            while piece := handle.read(size):
                cut = piece.rfind(b"\n") + 1
                if cut:
                    yield rest + piece[:cut]
                    rest = piece[cut:]
                else:
                    rest += piece
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        report.add(CUT_OFF, path, None, str(error))
        return  # what stands after the last line end is part of a line
    if rest:
        yield rest


def _decode(data: bytes, path: Path, first_line: int, report: BadRows, encoding: str) -> tuple[list[str], Int64Array]:
    """The chunk's lines and their numbers, without those that do not decode."""
    try:
        lines = data.decode(encoding).split("\n")
        numbers = np.arange(first_line, first_line + len(lines))
    except UnicodeDecodeError:
        lines, kept = [], []
        for number, raw in enumerate(data.split(b"\n"), start=first_line):
            try:
                lines.append(raw.decode(encoding))
                kept.append(number)
            except UnicodeDecodeError as error:
                report.add(WRONG_ENCODING, path, number, f"not {encoding} ({error.reason} at byte {error.start})")
        numbers = np.array(kept, dtype=np.int64)
    if first_line == 1 and lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    return lines, numbers


def read_lines(path: Path, report: BadRows, encoding: str = "utf-8") -> pd.DataFrame:
    """The file's lines that are not blank: columns ``file, line, text``."""
    texts: list[str] = []
    numbers: list[Int64Array] = []
    first = 1
    for chunk in byte_chunks(path, report):
        lines, at = _decode(chunk, path, first, report, encoding)
        texts += lines
        numbers.append(at)
        first += chunk.count(b"\n")
    frame = pd.DataFrame({FILE: str(path), LINE: np.concatenate([*numbers, np.zeros(0, np.int64)]), TEXT: texts})
    frame[TEXT] = frame[TEXT].str.rstrip("\r").astype(object)
    return frame[frame[TEXT].str.strip() != ""].reset_index(drop=True)


def explode(texts: pd.Series[str], separator: str) -> tuple[Int64Array, pa.Array]:
    """All fields of all texts, empty ones left out: the row of each and its text."""
    parts = pc.split_pattern(pa.array(texts, type=pa.large_string()), separator)
    row = pc.list_parent_indices(parts)
    flat = pc.list_flatten(parts)
    filled = pc.not_equal(flat, "")
    return row.filter(filled).to_numpy(), flat.filter(filled)


def fields(lines: pd.DataFrame, separator: str, names: list[str], report: BadRows) -> pd.DataFrame:
    """Splits every line into exactly the named fields, all of them text; lines of another width are reported."""
    parts = pc.split_pattern(pa.array(lines[TEXT], type=pa.large_string()), separator)
    wrong = pc.list_value_length(parts).to_numpy(zero_copy_only=False) != len(names)
    kept = report.drop(lines, wrong, f"not {len(names)} fields", TEXT)
    flat = pc.list_flatten(parts.filter(pa.array(~wrong))).to_numpy(zero_copy_only=False)
    table = flat.reshape(-1, len(names))
    frame = pd.DataFrame({name: table[:, at] for at, name in enumerate(names)}, dtype=object)
    return frame.assign(**{FILE: kept[FILE].to_numpy(), LINE: kept[LINE].to_numpy()})


def matched(frame: pd.DataFrame, tokens: pa.Array, pattern: str, report: BadRows) -> pd.DataFrame:
    """Reads integers out of tokens by a pattern with named groups; a token that does not match is reported.

    Args:
        frame: ``file`` and ``line`` of each token.
        tokens: as many texts.
        pattern: RE2, all groups named and made of digits.
        report: takes the faults.
    """
    found = pc.extract_regex(tokens, pattern)
    bad = found.is_null().to_numpy(zero_copy_only=False)
    if bad.any():
        frame = report.drop(frame.assign(token=tokens.to_numpy(zero_copy_only=False)), bad, NOT_PARSED, "token")
        frame = frame.drop(columns="token")
        found = found.filter(pa.array(~bad))
    values = {
        found.type.field(at).name: pc.struct_field(found, at).cast(pa.int64()).to_numpy(zero_copy_only=False)
        for at in range(found.type.num_fields)
    }
    return frame.reset_index(drop=True).assign(**values)


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def json_chunks(path: Path, report: BadRows, parse: Any = _parse_object) -> Iterator[pd.DataFrame]:
    """A JSON lines file in frames of up to 64 MB of text, with the columns ``file`` and ``line`` added.

    Each chunk goes through Arrow's parser as a whole; only one that it refuses is parsed line by line, which also
    locates the faults.

    Args:
        path: plain or gz.
        report: takes the faults.
        parse: reads one line in the slow way; raises ValueError (or SyntaxError) for a bad one.
    """
    first = 1
    for chunk in byte_chunks(path, report):
        frame = _arrow_frame(chunk)
        count = chunk.count(b"\n")
        if frame is None:
            frame = _slow_frame(chunk, path, first, report, parse)
        else:
            frame = frame.assign(**{FILE: str(path), LINE: np.arange(first, first + len(frame))})
        first += count
        yield frame


def read_json_lines(path: Path, report: BadRows) -> pd.DataFrame:
    """A whole JSON lines file; see :func:`json_chunks`."""
    frames = list(json_chunks(path, report))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({FILE: [], LINE: []})


def _arrow_frame(chunk: bytes) -> pd.DataFrame | None:
    """The chunk's rows, or None where Arrow refuses it or would read more into a text than stands there."""
    lines = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    try:
        options = pajson.ReadOptions(block_size=max(len(chunk) + 1, 1 << 20))
        table = pajson.read_json(pa.BufferReader(chunk), read_options=options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != lines or any(pa.types.is_timestamp(field.type) for field in table.schema):
        return None  # blank lines shift the line numbers; date-like texts would come back reformatted
    return table.to_pandas(integer_object_nulls=True)


def _slow_frame(chunk: bytes, path: Path, first: int, report: BadRows, parse: Any) -> pd.DataFrame:
    lines, numbers = _decode(chunk, path, first, report, "utf-8")
    rows, kept = [], []
    last = len(lines) - 1
    for at, (text, number) in enumerate(zip(lines, numbers)):
        if not text.strip():
            continue
        try:
            rows.append(parse(text))
            kept.append(number)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            kind = CUT_OFF if at == last and not chunk.endswith(b"\n") else NOT_PARSED
            report.add(kind, path, int(number), f"{error}: {text[:60]!r}")
    return pd.DataFrame(rows, dtype=object).assign(**{FILE: str(path), LINE: np.array(kept, dtype=np.int64)})

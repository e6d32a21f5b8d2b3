"""Raw text files as whole columns: plain or gz, cut off or wrongly encoded parts reported with their line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from semacdr.data.badrows import CUT, CUT_OFF, FILE, LINE, NOT_PARSED, ORIGIN, WRONG_ENCODING, BadRows
from semacdr.data.schema import Int64Array
from semacdr.errors import InputError

CHUNK_BYTES = 64 << 20
TEXT = "text"


def byte_chunks(path: Path, report: BadRows, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The file's bytes in pieces of whole lines; of a gz file that breaks off, all whole lines before the break.

    Raises:
        InputError: no such file.
    """
    pieces: list[bytes] = []
    held = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as handle:
            # read1 hands over what was unpacked before a break; read would lose it.
            while piece := handle.read1(1 << 20):
                pieces.append(piece)
                held += len(piece)
                if held >= size and b"\n" in piece:
                    whole, pieces = _whole_lines(pieces)
                    held = sum(map(len, pieces))
                    yield whole
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        report.add(CUT_OFF, path, None, str(error))
        pieces = [_whole_lines(pieces)[0]]  # what stands after the last line end is part of a line
    if any(pieces):
        yield b"".join(pieces)


def _whole_lines(pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The pieces up to their last line end, and the rest."""
    data = b"".join(pieces)
    cut = data.rfind(b"\n") + 1
    return data[:cut], [data[cut:]]


def _decode(data: bytes, path: Path, first_line: int, report: BadRows, encoding: str) -> tuple[list[str], Int64Array]:
    """The chunk's lines and their numbers, without those that do not decode."""
    try:
        lines = data.decode(encoding).replace("\r\n", "\n").split("\n")
        numbers = np.arange(first_line, first_line + len(lines))
    except UnicodeDecodeError:
        lines, kept = [], []
        for number, raw in enumerate(data.split(b"\n"), start=first_line):
            try:
                lines.append(raw.decode(encoding).removesuffix("\r"))
                kept.append(number)
            except UnicodeDecodeError as error:
                report.add(WRONG_ENCODING, path, number, f"not {encoding} ({error.reason} at byte {error.start})")
        numbers = np.array(kept, dtype=np.int64)
    if first_line == 1 and lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    return lines, numbers


def read_lines(path: Path, report: BadRows, encoding: str = "utf-8") -> pd.DataFrame:
    """The file's lines that are not blank: columns ``file, line, cut, text``."""
    texts: list[str] = []
    numbers: list[Int64Array] = []
    first, chunk = 1, b"\n"
    for chunk in byte_chunks(path, report):
        lines, at = _decode(chunk, path, first, report, encoding)
        texts += lines
        numbers.append(at)
        first += chunk.count(b"\n")
    frame = pd.DataFrame({FILE: str(path), LINE: np.concatenate([*numbers, np.zeros(0, np.int64)]), TEXT: texts})
    frame[CUT] = False if chunk.endswith(b"\n") else frame[LINE] == first
    frame[TEXT] = frame[TEXT].astype(object)
    return frame[frame[TEXT].str.strip() != ""].reset_index(drop=True)


def stream_lines(path: Path, report: BadRows) -> Iterator[tuple[int, str, bool]]:
    """The lines that are not blank, one at a time: number, text, and whether the file may have broken off in it.

    About a megabyte is held at a time, or one line where a line is longer.
    """
    first = 1
    for chunk in byte_chunks(path, report, size=1 << 20):
        lines, numbers = _decode(chunk, path, first, report, "utf-8")
        first += chunk.count(b"\n")
        unterminated = not chunk.endswith(b"\n")
        for text, number in zip(lines, numbers.tolist()):
            if text.strip():
                yield number, text, unterminated and number == first


def read_delimited(path: Path, delimiter: str, report: BadRows) -> pd.DataFrame:
    """A CSV or TSV file with a header, every field as text, with ``file, line, cut``; quoted fields may hold line ends.

    Where they do, ``line`` counts records. Rows of another width than the header are reported.
    """
    lines: list[str] = []
    parts: list[Int64Array] = []
    first, chunk = 1, b"\n"
    for chunk in byte_chunks(path, report):
        texts, at = _decode(chunk, path, first, report, "utf-8")
        lines += texts[:-1] if chunk.endswith(b"\n") else texts
        parts.append(at[:-1] if chunk.endswith(b"\n") else at)
        first += chunk.count(b"\n")
    number = np.concatenate([*parts, np.zeros(0, np.int64)])
    quoted = any('"' in line for line in lines)
    if not quoted:  # a blank line is no record, so that record k is line number[k - 1]
        filled = [at for at, line in enumerate(lines) if line.strip()]
        lines, number = [lines[at] for at in filled], number[filled]
    else:
        number = np.arange(1, len(lines) + 1)
    unterminated = not chunk.endswith(b"\n")
    faulty: list[int] = []

    def refuse(row: pacsv.InvalidRow) -> str:
        kind = CUT_OFF if row.number == len(lines) and unterminated else NOT_PARSED
        wrong = f"{row.actual_columns} fields instead of {row.expected_columns}: {row.text}"
        report.add(kind, path, int(number[row.number - 1]), wrong)
        faulty.append(row.number)
        return "skip"

    data = "".join(f"{line}\n" for line in lines).encode()
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=quoted, invalid_row_handler=refuse)
    read = pacsv.ReadOptions(use_threads=False, block_size=max(1 << 20, len(data) + 1))
    try:
        names = pacsv.read_csv(pa.BufferReader(data[: data.find(b"\n") + 1]), parse_options=parse).schema.names
        as_text = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        frame = pacsv.read_csv(pa.BufferReader(data), read, parse, as_text).to_pandas()
    except pa.ArrowInvalid as error:
        report.refuse(path)
        raise InputError(f"not a delimited table ({error})", where=str(path)) from None
    records = np.setdiff1d(np.arange(2, len(frame) + len(faulty) + 2), faulty)
    cut = unterminated & (records == len(lines))
    where: dict[str, Any] = {FILE: str(path), LINE: number[records - 1], CUT: cut}
    return frame.assign(**where)


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
    return frame.assign(**{name: kept[name].to_numpy() for name in ORIGIN})


def origin(lines: pd.DataFrame, row: Int64Array) -> dict[str, Any]:
    """Where each row came from, as columns: ``lines[row]`` of ``file, line, cut``."""
    return {name: lines[name].to_numpy()[row] for name in ORIGIN}


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


def json_chunks(
    path: Path,
    report: BadRows,
    parse: Callable[[str], dict[str, Any]] = _parse_object,
    columns: pa.Schema | None = None,
) -> Iterator[pd.DataFrame]:
    """A JSON lines file in frames of up to 64 MB of text, with the columns ``file`` and ``line`` added.

    Each chunk goes through Arrow's parser as a whole; only one that it refuses is parsed line by line, which also
    locates the faults.

    Args:
        path: plain or gz.
        report: takes the faults.
        parse: reads one line in the slow way; raises ValueError (or SyntaxError) for a bad one.
        columns: reads these fields only.
    """
    first = 1
    for chunk in byte_chunks(path, report):
        frame = _arrow_frame(chunk, columns)
        count = chunk.count(b"\n")
        if frame is None:
            frame = _slow_frame(chunk, path, first, report, parse)
        else:
            where: dict[str, Any] = {FILE: str(path), LINE: np.arange(first, first + len(frame))}
            frame = frame.assign(**where)
        first += count
        yield frame


def read_json_lines(path: Path, report: BadRows) -> pd.DataFrame:
    """A whole JSON lines file; see :func:`json_chunks`."""
    frames = list(json_chunks(path, report))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({FILE: [], LINE: []})


def _arrow_frame(chunk: bytes, columns: pa.Schema | None) -> pd.DataFrame | None:
    """The chunk's rows, or None where Arrow refuses it or would read more into a text than stands there."""
    lines = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    try:
        options = pajson.ReadOptions(block_size=max(len(chunk) + 1, 1 << 20))
        parse = pajson.ParseOptions(
            explicit_schema=columns, unexpected_field_behavior="infer" if columns is None else "ignore"
        )
        table = pajson.read_json(pa.BufferReader(chunk), options, parse)
        table.validate(full=True)  # pandas 3 looks at texts only when they are used
        frame = table.to_pandas(integer_object_nulls=True)
    except pa.ArrowException:  # faults, wrong encoding included, are located line by line
        return None
    if table.num_rows != lines or any(pa.types.is_timestamp(field.type) for field in table.schema):
        return None  # blank lines shift the line numbers; date-like texts would come back reformatted
    return frame


def _slow_frame(
    chunk: bytes, path: Path, first: int, report: BadRows, parse: Callable[[str], dict[str, Any]]
) -> pd.DataFrame:
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
    where: dict[str, Any] = {FILE: str(path), LINE: np.array(kept, dtype=np.int64)}
    return pd.DataFrame(rows, dtype=object).assign(**where)

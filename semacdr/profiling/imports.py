"""Answers made elsewhere: a JSON-lines file of model outputs becomes a profile view, with its provenance.

The file is read once as a stream into a scratch table, judged against the catalogue block by block, and written only if
few enough of its rows are bad. What the store already says is left alone, so that a second import changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from semacdr.data.badrows import CUT_OFF, DUPLICATE, MISSING_FIELD, NOT_PARSED, UNKNOWN_ID, WRONG_ENCODING, BadRows
from semacdr.data.item_rows import ItemRows
from semacdr.data.item_text import item_fields
from semacdr.data.readers.table import EVENT_NAMES
from semacdr.data.readers.text import stream_lines
from semacdr.data.schema import DOMAIN, ITEM_ID
from semacdr.errors import InputError, nearest
from semacdr.files import check_writable, file_sha256, fingerprint
from semacdr.profiling.answer_forms import FORMS_VERSION, Form, as_answer, find_json, form_of, text_of
from semacdr.profiling.engines.base import Answer
from semacdr.profiling.prompts import Prompt, Vocabulary
from semacdr.profiling.staging import StagedRow, StagedRows
from semacdr.profiling.store import IMPORT_ENGINE, AnswerStore, ImportRecord, Origin, ProfileRow
from semacdr.profiling.validate import PARSER_VERSION, VALID, Parse, check, parse_key
from semacdr.progress import Progress

IMPORTED = "imported"
ID_NAMES = (*EVENT_NAMES[ITEM_ID], "id", "idx", "custom_id")
ANSWER_NAMES = ("response", "answer", "output", "text", "completion", "content", "generated_text", "description")
FINISH_NAMES = ("finish_reason", "finish", "stop_reason")
_CUT_SHORT = ("length", "max_tokens")
_VIEW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LOOKED_AT = 200  # rows that decide which form the answers have


@dataclass(frozen=True)
class ImportOptions:
    """What an import is told.

    Attributes:
        view: the profile view that the answers make up.
        model: who answered, with ``revision``.
        prompt: label of what was asked, as the store shows it.
        id_field: field of the item id; found by a common name where it is None, as ``answer_field`` is. A dotted name
            goes into nested values (``response.body.choices.0.message.content``).
        form: of the answers; found from the first rows where it is None, and given by the schema with a template.
        template: a prompt whose contract the answers must keep.
        kind: overrules what the vocabulary says that the items are.
        notes: kept with the import.
        max_bad: largest share of bad rows.
        skip_bad: import what is good, however much is bad.
    """

    view: str
    model: str
    revision: str = "unknown"
    prompt: str = IMPORTED
    id_field: str | None = None
    answer_field: str | None = None
    form: Form | None = None
    template: Prompt | None = None
    kind: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    max_bad: float = 0.01
    skip_bad: bool = False


@dataclass
class _Read:
    """What was read so far."""

    source: Path
    report: BadRows = field(default_factory=BadRows)
    rows: int = 0
    form: Form = "text"
    id_field: str = ""
    answer_field: str = ""
    finish_field: str | None = None


def import_answers(
    items: ItemRows, store_path: Path, source: Path, vocabulary: Vocabulary, options: ImportOptions
) -> dict[str, Any]:
    """Takes a file of answers into a store.

    Returns:
        Counts: rows; valid answers, ``without_text`` of which are of the form and say nothing (an empty list); rejected
        rows by kind, with the first few of each; items of the catalogue without a row; profiles written, and unchanged
        ones. Also what was read: the file's hash, the form and the fields.

    Raises:
        InputError: no such file, fields that are not found, or too many bad rows; nothing is written then.
    """
    _check(options, vocabulary)
    check_writable(store_path)
    with closing(StagedRows()) as staged:
        read = _stage(source, staged, options)
        _judge(items, staged, read, vocabulary, options)
        kinds, without_text = staged.counts(), staged.without_text()
        _refuse(read, source, options)
        summary = {
            "rows": read.rows,
            "valid": kinds.get(VALID, 0),
            "without_text": without_text,
            "rejected": read.report.total,
            "rejected_kinds": dict(read.report.counts),
        }
        record = ImportRecord(
            dataset=items.name,
            view=options.view,
            file=source.name,
            sha256=file_sha256(source),
            model=options.model,
            revision=options.revision,
            prompt=options.prompt,
            imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
            details={"form": read.form, **summary, "notes": dict(options.notes)},
        )
        with AnswerStore(store_path) as store:
            written, unchanged = _write(store, staged, record, read.form, options)
    named = {name: value for name, value in asdict(record).items() if name != "details"}
    return {
        **named,
        "form": read.form,
        "id_field": read.id_field,
        "answer_field": read.answer_field,
        **summary,
        "first_rejected": dict(read.report.examples),
        "items_without_row": items.num_items - sum(count for kind, count in kinds.items() if kind is not None),
        "written": written,
        "unchanged": unchanged,
    }


def _check(options: ImportOptions, vocabulary: Vocabulary) -> None:
    if not _VIEW_NAME.fullmatch(options.view) or options.view == "content":
        raise InputError(
            f"a view cannot be named {options.view!r}", fix="letters, digits, _ and -; content is the items' own text"
        )
    vocabulary.check_kind(options.kind)


def _stage(source: Path, staged: StagedRows, options: ImportOptions) -> _Read:
    """Reads the file into the scratch table."""
    read = _Read(source)
    values = _objects(source, read)
    head = list(islice(values, _LOOKED_AT))
    if head:
        rows = [value for _, value in head]
        read.id_field = _find_field(rows, options.id_field, ID_NAMES, "--id-field", source)
        read.answer_field = _find_field(rows, options.answer_field, ANSWER_NAMES, "--answer-field", source)
        read.finish_field = next((name for name in FINISH_NAMES if any(name in row for row in rows)), None)
    answers = [_value(value, read.answer_field) for _, value in head]
    read.form = options.form or form_of([as_answer(answer) for answer in answers if answer is not None])
    if options.template is not None:
        read.form = "object"
    for line, value in chain(head, values):
        item_id, answer = _value(value, read.id_field), _value(value, read.answer_field)
        if item_id is None or isinstance(item_id, (dict, list, bool)) or str(item_id).strip() == "":
            read.report.add(f"{MISSING_FIELD} {read.id_field}", source, line, "no item id")
            continue
        if answer is None:
            read.report.add(f"{MISSING_FIELD} {read.answer_field}", source, line, f"item {item_id}")
            continue
        cut = read.finish_field is not None and value.get(read.finish_field) in _CUT_SHORT
        row = StagedRow(str(item_id), line, Answer(as_answer(answer), "length" if cut else "stop"))
        if not staged.add(row):
            read.report.add(DUPLICATE, source, line, f"item {item_id} has a row already")
    read.rows += read.report.counts.get(WRONG_ENCODING, 0)  # lines that were never handed over
    return read


def _objects(source: Path, read: _Read) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of every line that holds one; the others are reported."""
    for line, text, cut in stream_lines(source, read.report):
        read.rows += 1
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            read.report.add(CUT_OFF if cut else NOT_PARSED, source, line, f"{error}: {text[:60]!r}")
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            read.report.add(NOT_PARSED, source, line, f"not a JSON object: {text[:60]!r}")


def _find_field(
    head: Sequence[Mapping[str, Any]], given: str | None, names: Sequence[str], option: str, source: Path
) -> str:
    """The field as it is spelled in the first rows of the file."""
    first = {name: None for row in head for name in row}
    if given is not None:
        if given not in first and all(_value(row, given) is None for row in head):
            raise InputError(f"no field {given!r} in the first rows", where=str(source), fix=nearest(given, first))
        return given
    spelled = {name.lower(): name for name in reversed(list(first))}
    found = next((spelled[name] for name in names if name in spelled), None)
    if found is None:
        there = ", ".join(first)
        raise InputError(
            f"none of the fields is named {', '.join(names)}",
            where=str(source),
            fix=f"{option} NAME; there are: {there}",
        )
    return found


def _value(value: Any, name: str) -> Any:
    """A field by its name, or by a dotted path into nested values; ``None`` where it is not there."""
    if isinstance(value, dict) and name in value:
        return value[name]
    for step in name.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _judge(items: ItemRows, staged: StagedRows, read: _Read, vocabulary: Vocabulary, options: ImportOptions) -> None:
    """Judges the answers about all items there are; reports the ones that are not valid, and rows about other items."""
    progress = Progress(items.num_items, f"checking {options.view}")
    for block in items.blocks():
        found = staged.of_items([str(row[ITEM_ID]) for row in block])
        asked = [(row, found[str(row[ITEM_ID])]) for row in block if str(row[ITEM_ID]) in found]
        staged.judge([(entry.item_id, _parse(entry.answer, row, read, vocabulary, options)) for row, entry in asked])
        progress.update(len(block))
    for entry in staged.not_valid():
        if entry.parse is None:
            read.report.add(UNKNOWN_ID, read.source, entry.line, f"{read.id_field} = {entry.item_id!r}")
        else:
            read.report.add(entry.parse.kind, read.source, entry.line, repr(entry.answer.text[:60]))


def _parse(
    answer: Answer, row: Mapping[str, Any], read: _Read, vocabulary: Vocabulary, options: ImportOptions
) -> Parse:
    if answer.finish == "length":
        return Parse("unfinished", answer.text)
    if options.template is not None:
        fields = find_json(answer.text, "object")
        forbidden = options.template.forbidden({"item": item_fields(row)}, vocabulary.kind(row[DOMAIN], options.kind))
        if not isinstance(fields, dict):
            return Parse("unparseable", answer.text)
        return check(fields, answer.text, options.template, forbidden)
    text = text_of(answer.text, read.form)
    if text is None:
        return Parse("unparseable", answer.text)
    return Parse("empty" if read.form == "text" and not text else VALID, text)


def _refuse(read: _Read, source: Path, options: ImportOptions) -> None:
    """Ends an import of which too much is bad, or of half a file: how much of that is missing nobody knows."""
    report = read.report
    if not read.rows and not report.total:
        raise InputError("the file has no row", where=str(source))
    if options.skip_bad or not report.total:
        return
    share = report.total / max(read.rows, report.total)
    if CUT_OFF in report.counts or share > options.max_bad:
        limit = "half a file" if CUT_OFF in report.counts else f"--max-bad allows {options.max_bad:.2%}"
        raise InputError(
            f"{report.total} bad rows of {read.rows} ({share:.2%}; {limit}), nothing written\n  {report}",
            where=str(source),
            fix="repair the rows, name other fields or another --form, or leave bad rows out with --skip-bad",
        )


def _write(
    store: AnswerStore, staged: StagedRows, record: ImportRecord, form: Form, options: ImportOptions
) -> tuple[int, int]:
    """Writes what the store does not say yet, batch by batch; returns how many profiles were new, and were there."""
    store.add_import(record)  # first, so that no answer ever stands there without it
    origin = Origin(record.view, record.prompt, record.model, record.revision, IMPORT_ENGINE + record.sha256[:12], 0)
    written = unchanged = 0
    for batch in staged.judged():
        keys = {row.item_id: _answer_key(row, record) for row in batch}
        checks = {row.item_id: _parse_key(keys[row.item_id], form, options) for row in batch}
        parses = {row.item_id: row.parse for row in batch if row.parse is not None}
        profiles = [ProfileRow(item, parse.kind, keys[item], checks[item]) for item, parse in parses.items()]
        now = store.profile_rows(record.dataset, record.view, list(keys))
        new = [profile for profile in profiles if now.get(profile.item_id) != profile]
        if new:
            store.add_answers((keys[row.item_id], origin, row.answer) for row in batch)
            store.add_parses((checks[item], keys[item], PARSER_VERSION, parse) for item, parse in parses.items())
            store.set_profiles(record.dataset, record.view, record.prompt, record.model, record.revision, new)
        written, unchanged = written + len(new), unchanged + len(batch) - len(new)
    return written, unchanged


def _answer_key(row: StagedRow, record: ImportRecord) -> str:
    """Hash of who said what about which item: what was asked is not known."""
    return fingerprint(
        {
            "imported": [record.dataset, record.view, row.item_id],
            "prompt": record.prompt,
            "model": record.model,
            "revision": record.revision,
            "answer": [row.answer.text, row.answer.finish],
        }
    )


def _parse_key(answer_key: str, form: Form, options: ImportOptions) -> str:
    if options.template is not None:
        return parse_key(answer_key, options.template)
    return fingerprint([answer_key, PARSER_VERSION, FORMS_VERSION, form])

"""Where an answer ends: the first stop string, or the end of a given sentence."""

from __future__ import annotations

import re

_END = re.compile(r"(\S*?)[.!?](?=\s|$)")
_ABBREVIATION = re.compile(r"^\W*(mr|mrs|ms|dr|st|vs|jr|sr|etc|e\.g|i\.e|[a-z])$", re.IGNORECASE)


def sentence_ends(text: str) -> list[int]:
    """Offsets just behind each sentence's closing mark; abbreviations and initials do not close one."""
    return [match.end() for match in _END.finditer(text) if not _ABBREVIATION.match(match[1])]


def find_end(text: str, stop: tuple[str, ...], max_sentences: int) -> int | None:
    """Offset where the answer ends by rule, or ``None`` while it goes on."""
    found = [offset for offset in (text.find(mark) for mark in stop) if offset >= 0]
    head = text[: min(found)] if found else text
    if max_sentences:
        ends = sentence_ends(head)
        if len(ends) >= max_sentences:
            return ends[max_sentences - 1]
    return min(found) if found else None

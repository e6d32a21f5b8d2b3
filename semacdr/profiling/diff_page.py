"""A comparison of profiles as one HTML file without scripts or links; every text in it is escaped."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --gone: #e5534b33; --new: #57ab5a3d; --dim: #8b949e; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { border: 1px solid var(--line); padding: .45rem .6rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
table.counts { width: auto; table-layout: auto; } table.counts td + td { text-align: right; }
col.item { width: 22%; } del { background: var(--gone); text-decoration: none; }
ins { background: var(--new); text-decoration: none; } small, .dim { color: var(--dim); }
.kind { border: 1px solid var(--line); border-radius: .6em; font-size: .8rem; padding: 0 .5em; }
"""


def page(comparison: Mapping[str, Any]) -> str:
    """The page of what :func:`~semacdr.profiling.diff.compare` gives."""
    a, b = escape(comparison["a"]), escape(comparison["b"])
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{a} and {b}</title><style>{_STYLE}</style></head><body>',
        f"<h1>Profiles of {escape(comparison['dataset'])}</h1>",
        f"<p>A: <b>{a}</b><br>B: <b>{b}</b><br><small>Marked: words that only A has <del>so</del>, words that only B "
        "has <ins>so</ins>.</small></p>",
    ]
    for view, counts in comparison["counts"].items():
        entries = comparison["items"][view]
        differing = [entry for entry in entries if entry["likeness"] < 1]
        parts += [f"<h2>{escape(view)}</h2>", _counts_table(counts)]
        if differing:
            parts.append(
                f"<p>{len(differing)} of {counts['items'] - counts['equal']} items that differ, most first:</p>"
            )
            parts.append('<table><colgroup><col class="item"><col><col></colgroup>')
            parts.append("<tr><th>item</th><th>A</th><th>B</th></tr>")
            parts += map(_row, differing)
            parts.append("</table>")
        else:
            parts.append("<p>No item differs.</p>")
    return "\n".join([*parts, "</body></html>\n"])


def _counts_table(counts: Mapping[str, Any]) -> str:
    rows: list[tuple[str, Any, Any]] = []
    kinds = list(dict.fromkeys([*counts["a"]["kinds"], *counts["b"]["kinds"]]))
    for kind in kinds:
        rows.append((kind, counts["a"]["kinds"].get(kind, 0), counts["b"]["kinds"].get(kind, 0)))
    a, b = ("-" if counts[side]["words"] is None else counts[side]["words"] for side in ("a", "b"))
    rows.append(("words in a valid text", a, b))
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{left}</td><td>{right}</td></tr>" for name, left, right in rows)
    likeness = "-" if counts["likeness"] is None else f"{counts['likeness']:.2f}"
    return (
        f'<table class="counts"><tr><th>{counts["items"]} items</th><th>A</th><th>B</th></tr>{cells}</table>'
        f"<p>{counts['equal']} equal, {counts['both_valid']} valid on both sides; likeness of those: {likeness} "
        "(share of words in the same order)</p>"
    )


def _row(entry: Mapping[str, Any]) -> str:
    left, right = marked(entry["a"]["text"], entry["b"]["text"])
    title = f"{escape(entry['title'])}<br><small>{escape(entry['item_id'])}, likeness {entry['likeness']:.2f}</small>"
    return f"<tr><td>{title}</td><td>{_cell(entry['a'], left)}</td><td>{_cell(entry['b'], right)}</td></tr>"


def _cell(side: Mapping[str, str], text: str) -> str:
    return text if side["kind"] == "valid" else f'<span class="kind">{escape(side["kind"])}</span> {text}'


def marked(a: str, b: str) -> tuple[str, str]:
    """Both texts as HTML: what only the first has in ``del``, what only the second has in ``ins``."""
    left, right = a.split(), b.split()
    out: tuple[list[str], list[str]] = ([], [])
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, mark, some in zip(out, ("del", "ins"), (left[a0:a1], right[b0:b1])):
            side += _marked(some, "" if tag == "equal" else mark)
    return " ".join(out[0]), " ".join(out[1])


def _marked(some: Sequence[str], mark: str) -> list[str]:
    text = escape(" ".join(some))
    if not text:
        return []
    return [f"<{mark}>{text}</{mark}>" if mark else text]

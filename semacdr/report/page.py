"""The page itself: one file that needs no other, its data as JSON inside it.

The page's own policy (CSP) forbids every request. The data pass jinja's ``tojson``, which writes ``<``, ``>``, ``&``
and ``'`` as escapes, so that no title can end the block that it stands in; the scripts show texts as text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCRIPTS = ("base.js", "svg.js", "leaderboard.js", "charts.js", "curves.js", "map.js", "models.js", "main.js")
_FOLDER = Path(__file__).parent / "page"


def page(data: Mapping[str, Any]) -> str:
    """The HTML of what :func:`~semacdr.report.report.report_data` gives."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, keep_trailing_newline=True)
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("report.html").render(data=data, title=data["title"], style=style, script=script)

"""What people wrote, on its way into a prompt: data, whatever it says.

A value becomes one line of bounded length without control characters, without marks that turn the direction of the text
around, and without the markers by which chat templates tell turns apart. It is handed to the template as a variable, so
that template syntax in it stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from semacdr.data.item_text import cut

_MARKERS = (
    r"<[|｜][^|｜>]*[|｜]?>?",  # <|im_start|> and its like
    r"\[/?INST\]",
    r"<</?SYS>>",
    r"</?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn)>",
)
_MARKER = re.compile("|".join(_MARKERS), re.IGNORECASE)
# Direction marks and their embeddings, isolates and overrides; zero-width spaces and joiners that split words unseen.
_INVISIBLE = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SPACE = re.compile(r"\s+")
_LIMITS = {"title": 200, "titles": 200, "description": 500, "summary": 800, "summaries": 800}
_OTHER_LIMIT = 120


def as_data(value: Any, name: str = "") -> Any:
    """Cleans the variables of a prompt, through lists and mappings; what is empty afterwards is left out.

    Args:
        value: text, a number, or a list or mapping of such.
        name: the variable or field that it stands in; it decides how many characters are kept.
    """
    if isinstance(value, str):
        visible = _CONTROL.sub(" ", _INVISIBLE.sub("", value))
        return cut(_SPACE.sub(" ", _MARKER.sub(" ", visible)).strip(), _LIMITS.get(name, _OTHER_LIMIT))
    if isinstance(value, Mapping):
        cleaned = {key: as_data(entry, str(key)) for key, entry in value.items()}
        return {key: entry for key, entry in cleaned.items() if entry != ""}
    if isinstance(value, list | tuple):
        return [entry for entry in (as_data(entry, name) for entry in value) if entry != ""]
    return value

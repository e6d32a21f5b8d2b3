"""The part of JSON Schema that prompts use: enough to say and check what an answer looks like.

What an engine decodes by and what is checked afterwards is one schema. A keyword outside this part is refused when the
prompt is loaded, so that nothing is asked for that nobody checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "enum"},
    "integer": {"enum", "minimum", "maximum"},
    "number": {"enum", "minimum", "maximum"},
    "boolean": set(),
}
_EVERYWHERE = {"type", "description", "title"}


def schema_faults(schema: Any, where: str = "schema") -> Iterator[str]:
    """What is wrong with a schema itself: unknown types and keywords, required names without a property."""
    if not isinstance(schema, Mapping) or schema.get("type") not in _TYPES:
        yield f"{where}: a type is needed, one of {', '.join(_TYPES)}"
        return
    allowed = _KEYWORDS[schema["type"]] | _EVERYWHERE
    for keyword in sorted(set(schema) - allowed):
        yield f"{where}: {keyword!r} is not checked for the type {schema['type']}; known: {', '.join(sorted(allowed))}"
    for keyword in ("minLength", "maxLength", "minItems", "maxItems"):
        if keyword in schema and not _is(schema[keyword], "integer"):
            yield f"{where}: {keyword} is not a whole number"
    if schema["type"] == "object":
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping):
            yield f"{where}: properties is not a mapping"
            return
        for name in schema.get("required", []):
            if name not in properties:
                yield f"{where}: {name!r} is required and has no property"
        for name, below in properties.items():
            yield from schema_faults(below, f"{where}.{name}")
    elif "items" in schema:
        yield from schema_faults(schema["items"], f"{where}[]")


def fault(value: Any, schema: Mapping[str, Any], where: str = "answer") -> str | None:
    """The first way in which a value is not of the schema, or ``None``; the schema itself is taken to be sound."""
    if not _is(value, schema["type"]):
        return f"{where} is not of type {schema['type']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} is not one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        return _outside(len(value), schema, "minLength", "maxLength", f"{where} in characters")
    if isinstance(value, int | float):
        return _outside(value, schema, "minimum", "maximum", where)
    if isinstance(value, list):
        found = _outside(len(value), schema, "minItems", "maxItems", f"{where} in entries")
        below = ((entry, schema.get("items"), f"{where}[{place}]") for place, entry in enumerate(value))
    else:
        properties = schema.get("properties", {})
        absent = [name for name in schema.get("required", []) if name not in value]
        extra = [] if schema.get("additionalProperties", True) else [name for name in value if name not in properties]
        found = f"{where} has no {absent[0]!r}" if absent else f"{where} has {extra[0]!r} too" if extra else None
        below = ((entry, properties.get(name), f"{where}.{name}") for name, entry in value.items())
    for entry, rule, place in below:
        found = found or (fault(entry, rule, place) if rule else None)
    return found


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and isinstance(value, bool) == (name == "boolean")


def _outside(size: float, schema: Mapping[str, Any], low: str, high: str, where: str) -> str | None:
    if low in schema and size < schema[low]:
        return f"{where}: {size}, at least {schema[low]} asked"
    if high in schema and size > schema[high]:
        return f"{where}: {size}, at most {schema[high]} asked"
    return None

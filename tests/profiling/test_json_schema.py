"""The part of JSON Schema that prompts use, against cases decided by hand."""

from __future__ import annotations

import pytest

from semacdr.profiling.json_schema import fault, schema_faults

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "price"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "price": {"type": "string", "enum": ["low", "high"]},
        "tags": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "share": {"type": "number"},
        "new": {"type": "boolean"},
    },
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"tags": ["a", "b"], "count": 9, "share": 1, "new": True}, None),
        ({"name": ""}, "answer.name in characters: 0, at least 1"),
        ({"name": "sixsix"}, "answer.name in characters: 6, at most 5"),
        ({"name": 3}, "answer.name is not of type string"),
        ({"price": "middle"}, "answer.price is not one of low, high"),
        ({"price": None}, "not of type string"),
        ({"tags": []}, "answer.tags in entries: 0"),
        ({"tags": ["a", "b", "c"]}, "at most 2"),
        ({"tags": ["a", 1]}, "answer.tags[1] is not"),
        ({"count": -1}, "at least 0"),
        ({"count": 10}, "at most 9"),
        ({"count": 1.5}, "not of type integer"),
        ({"count": True}, "not of type integer"),
        ({"new": 1}, "not of type boolean"),
        ({"colour": "red"}, "has 'colour' too"),
    ],
)
def test_values(change: dict[str, object], says: str | None) -> None:
    found = fault({"name": "kite", "price": "low", **change}, SCHEMA)
    assert found is None if says is None else found is not None and says in found


def test_what_is_absent() -> None:
    assert fault({"name": "kite"}, SCHEMA) == "answer has no 'price'"
    assert fault(["kite"], SCHEMA) == "answer is not of type object"
    assert list(schema_faults(SCHEMA)) == []


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({}, "a type is needed"),
        ({"type": "text"}, "a type is needed"),
        ({"type": "string", "pattern": "a+"}, "'pattern' is not checked"),
        ({"type": "string", "maxLength": "9"}, "maxLength is not a whole number"),
        ({"type": "object", "required": ["a"], "properties": {"b": {"type": "string"}}}, "'a' is required"),
        ({"type": "object", "properties": {"b": {"type": "array", "items": {"type": "x"}}}}, "schema.b[]: a type"),
        ({"type": "object", "properties": ["b"]}, "not a mapping"),
    ],
)
def test_schemas(schema: dict[str, object], says: str) -> None:
    assert says in "\n".join(schema_faults(schema))

"""Schemas that an engine chokes on, and those that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from roost.mcp_schemas import DEEPEST, LONGEST, unfit


def of(one: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": one}, **more}


def nested(levels: int) -> dict[str, Any]:
    return of(nested(levels - 1)) if levels else {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (of({"description": "x" * LONGEST}), "8192 are the most"),
        (nested(DEEPEST), "more than 16 levels deep"),
        (of({"description": "<|im_start|>system"}), "marks of a chat template"),
        (of({"$ref": "http://evil.example/schema"}), "refers to itself or to another document"),
        (of({"$ref": "#"}), "refers to itself"),
        (of({"$ref": "#anchor"}), "refers to itself or to another document"),
        (of({"$ref": "#/$defs/x"}, **{"$defs": {"x": {"$ref": "#/$defs/x"}}}), "refers to itself"),
        (of({"$ref": "#/$defs/none"}), "refers to what is not there"),
        (of({"enum": []}), "an empty 'enum'"),
        (of({"type": "string", "minLength": 5, "maxLength": 1}), "a 'minLength' above its 'maxLength'"),
        (of({"type": "array", "minItems": 100_000}), "a 'minItems' above 1000"),
        (of(False), "'true' or 'false' in place of a schema"),
        (of({"type": "array", "items": False}), "'true' or 'false' in place of a schema"),
        (of({"type": "nonsense"}), "is no JSON Schema"),
    ],
)
def test_a_schema_that_fails_an_engine_is_not_shown_to_one(schema: dict[str, Any], problem: str) -> None:
    assert problem in unfit(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        of({"type": "string", "enum": ["x", "y"], "default": "x"}),
        of({"type": "integer", "minimum": -5, "maximum": 5}),
        of({"$ref": "#/$defs/x~1y"}, **{"$defs": {"x/y": {"type": "string"}}}),
        of({"$ref": "#/$defs/x"}, **{"$defs": {"x": of({"$ref": "#/$defs/x"})}}),
        of({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "minItems": 1}),
        of({"type": "string"}, additionalProperties=False, required=["a"]),
        {"type": "object", "properties": {"enum": {"type": "string"}, "$ref": {"type": "string"}}},
        {"type": "object", "properties": {"minLength": {"type": "integer"}, "items": {"type": "array"}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {}},
    ],
)
def test_an_ordinary_schema_is_shown(schema: dict[str, Any]) -> None:
    assert unfit(schema) == ""

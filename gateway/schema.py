"""The messages of `/ws` as JSON Schema, for clients in any language: `python -m gateway.schema` writes the document.

docs/messages.schema.json is that document, and the types of the npm package are made from it.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.messages import ClientMessage, ServerMessage

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"

PATH = Path(__file__).parent.parent / "docs" / "messages.schema.json"


class OnTheWire(GenerateJsonSchema):
    """Messages as they are sent: a field without a value is left out, never null; every other field is there."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def str_schema(self, schema: Any) -> JsonSchemaValue:
        """Ids with a wider pattern: `\\p{...}` is an error in Python, and other letters in JavaScript."""
        found = super().str_schema(schema)
        if r"\p" in found.get("pattern", ""):
            found["pattern"] = PRINTABLE
        return found

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner: CoreSchema = field["schema"]
        return bool((inner["schema"] if inner["type"] == "default" else inner)["type"] != "nullable")


def schema() -> dict[str, Any]:
    """One document with every message, by its name, under `$defs`."""
    unions: dict[str, Any] = {"ClientMessage": ClientMessage, "ServerMessage": ServerMessage}
    roots, document = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(union)) for name, union in unions.items()],
        title="The messages of /ws",
        schema_generator=OnTheWire,
    )
    for name in unions:
        document["$defs"][name] = roots[name, "validation"]
    return document


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def main() -> None:
    PATH.write_text(text())


if __name__ == "__main__":
    main()

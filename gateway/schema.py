"""The messages of `/ws` as JSON Schema, for clients in any language: `python -m gateway.schema` writes the document.

docs/messages.schema.json is that document; the types of the npm package are made from it.
"""

import ast
import inspect
import json
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.messages import ClientMessage, ServerMessage

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"

PATH = Path(__file__).parent.parent / "docs" / "messages.schema.json"


class Documented(GenerateJsonSchema):
    """With the docstring of each field as its description.

    pydantic's `use_attribute_docstrings` would read the sources at each import of a model: 60 ms more in every process
    that publishes.
    """

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, text in docstrings(model).items():
            found["properties"][model.model_fields[name].alias or name]["description"] = text
        return found

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class AsSent(Documented):
    """Messages as they are sent: a field without a value is left out, never null; every other field is there."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def str_schema(self, schema: Any) -> JsonSchemaValue:
        """A wider pattern for ids: `\\p{...}` is an error in Python, and has another meaning in JavaScript."""
        found = super().str_schema(schema)
        if r"\p" in found.get("pattern", ""):
            found["pattern"] = PRINTABLE
        return found

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner: CoreSchema = field["schema"]
        return bool((inner["schema"] if inner["type"] == "default" else inner)["type"] != "nullable")


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string literal below each field, by the field's name; also of inherited fields."""
    found = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            [definition] = ast.parse(dedent(inspect.getsource(base))).body
            assert isinstance(definition, ast.ClassDef)
            for field, text in pairwise(definition.body):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                        found[name] = " ".join(words.split())
    return found


def schema() -> dict[str, Any]:
    """One document with every message, by its name, under `$defs`."""
    unions: dict[str, Any] = {"ClientMessage": ClientMessage, "ServerMessage": ServerMessage}
    roots, document = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(union)) for name, union in unions.items()],
        title="The messages of /ws",
        schema_generator=AsSent,
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

"""docs/operating.md lists the settings as the class has them; `python -m tests.test_settings_document` updates it."""

from pathlib import Path

from gateway.settings import Settings

DOCUMENT = Path(__file__).parent.parent / "docs" / "operating.md"
BEGIN, END = (
    "<!-- settings: made from gateway/settings.py, checked by tests/test_settings_document.py -->\n",
    "<!-- end",
)


def table() -> str:
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for info in Settings.model_fields.values():
        default = "none" if info.default in (None, "", ()) else f"`{info.default}`"
        lines.append(f"| `{info.validation_alias}` | {default} | {info.description} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    before, rest = DOCUMENT.read_text().split(BEGIN)
    written, after = rest.split(END)
    return before, written, after


def test_the_list_of_settings_is_current() -> None:
    assert parts()[1] == table()


if __name__ == "__main__":
    before, _, after = parts()
    DOCUMENT.write_text(before + BEGIN + table() + END + after)

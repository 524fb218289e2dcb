"""docs/publishing.md shows the text of the examples, and all of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SNIPPETS = dict(
    re.findall(
        r"^<!-- (examples/\w+\.py) -->\n```python\n(.*?)^```$",
        (ROOT / "docs" / "publishing.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_document_shows_the_example_as_it_is(path: Path) -> None:
    assert SNIPPETS[f"examples/{path.name}"] in path.read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert "Beside `make run`" in text
    assert f"examples.{path.stem}" in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_run_by_a_test(path: Path) -> None:
    assert (Path(__file__).parent / f"test_{path.stem}.py").exists()

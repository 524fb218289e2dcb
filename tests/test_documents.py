"""The documents name files, parts of documents and tests that exist."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
WORDS = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
DOCUMENTS = sorted(subprocess.run(WORDS, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"(?<![\w/])tests/[\w/]*\w(?:\.py)?")
TARGET = re.compile(r"`make ([a-z-]+)[^`]*`|^make ([a-z-]+)(?= [A-Z]+=|  |$)", re.MULTILINE)


class Link(NamedTuple):
    document: str
    target: str


def links() -> Iterator[Link]:
    for document in DOCUMENTS:
        for target in LINK.findall(FENCE.sub("", (ROOT / document).read_text())):
            if not re.match(r"https?:|mailto:", target):
                yield Link(document, target)


def anchors(text: str) -> set[str]:
    """The anchors that the headings of a document get."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_there_are_documents_and_links() -> None:
    assert "README.md" in DOCUMENTS
    assert len(list(links())) > 100


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    broken = []
    for link in links():
        if link.document != document:
            continue
        file, _, anchor = link.target.partition("#")
        path = (ROOT / document).parent / file if file else ROOT / document
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path.read_text())):
            broken.append(link.target)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document: str) -> None:
    named = set(TEST.findall((ROOT / document).read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {one or two for one, two in TARGET.findall((ROOT / document).read_text())}
    assert named <= targets


def test_every_claim_has_a_command() -> None:
    text = (ROOT / "docs" / "claims.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    assert len(rows) > 20
    for row in rows:
        assert re.search(r"\| .*`(pytest tests/|make |npx |npm )[^`]*` \|$", row), row


def test_control_a_broken_link_and_a_heading_are_told_apart() -> None:
    assert LINK.findall("see [this](nowhere.md#there)") == ["nowhere.md#there"]
    assert anchors("# Who may watch\n```\n# no heading\n```\n") == {"who-may-watch"}

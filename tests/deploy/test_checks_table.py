"""deploy/README.md says which tool checked which file; here that is held to be true, and complete."""

import fnmatch
import re
import subprocess
from typing import NamedTuple

import pytest

from .tools import DEPLOY, ROOT

TEXT = (DEPLOY / "README.md").read_text()
TOP = ["Dockerfile", ".dockerignore", "docker-compose.yml"]


class Row(NamedTuple):
    patterns: list[str]
    tools: list[str]
    test: str


def rows() -> list[Row]:
    table = TEXT.split("| files | tool | what is checked | test |")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [Row(re.findall(r"`([^`]+)`", files), tools.split(", "), test) for files, tools, _, test in cells]


def tracked() -> list[str]:
    """What is in the repository, or will be with the next commit."""
    words = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "deploy",
        ".github",
        "docs/runbook.md",
        *TOP,
    ]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def fits(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern.replace("**", "*"))


@pytest.mark.parametrize("path", tracked())
def test_every_file_is_in_the_table(path: str) -> None:
    assert any(fits(path, pattern) for row in rows() for pattern in row.patterns), f"{path}: deploy/README.md"


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.test}: {', '.join(row.patterns)}")
def test_a_row_is_true(row: Row) -> None:
    for pattern in row.patterns:
        assert any(fits(path, pattern) for path in tracked()), f"{pattern}: no such file"
    code = (ROOT / row.test).read_text()
    for folder, name in re.findall(r"^from (tests\.contract)?\.(\w+) import", code, re.MULTILINE):
        place = ROOT / folder.replace(".", "/") if folder else (ROOT / row.test).parent
        code += (place / f"{name}.py").read_text()
    for tool in row.tools:
        assert re.search(rf"\b{re.escape(tool)}\b", code), f"{row.test} does not run {tool}"


def test_everything_that_is_tested_here_is_in_the_table() -> None:
    named = {row.test for row in rows() if row.test.startswith("tests/deploy/")}
    assert {f"tests/deploy/{path.name}" for path in (ROOT / "tests" / "deploy").glob("test_*.py")} == named

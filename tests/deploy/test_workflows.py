"""The workflows in .github: what GitHub's schema and zizmor say, and what they may use."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from .tools import ROOT, passes, tool

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
USES = re.compile(r"uses: (\S+)@(\S+)(.*)")


def test_githubs_schema_knows_every_field() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *FILES)


def test_zizmor_finds_nothing() -> None:
    """Among others: credentials that stay, templates in scripts, permissions that nobody needs, caches in a release."""
    passes("zizmor", "--offline", "--no-progress", "--persona", "regular", FOLDER)


def test_zizmor_and_the_schema_would_find_a_mistake(tmp_path: Path) -> None:
    text = (FOLDER / "test.yml").read_text()
    (tmp_path / "unpinned.yml").write_text(re.sub(r"@[0-9a-f]{40}.*", "@main", text))
    (tmp_path / "misspelt.yml").write_text(text.replace("runs-on", "run-on"))
    assert tool("zizmor", "--offline", "--no-progress", tmp_path / "unpinned.yml").returncode != 0
    schema = ("check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    assert tool(*schema, tmp_path / "misspelt.yml").returncode != 0


def test_every_action_is_one_commit_and_names_its_version() -> None:
    commits: dict[str, set[str]] = {}
    for path in FILES:
        for action, commit, comment in USES.findall(path.read_text()):
            assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{path.name}: {action}@{commit}"
            assert re.fullmatch(r" # v\d+(\.\d+\.\d+)?", comment), f"{path.name}: {action} names no version"
            commits.setdefault(action, set()).add(commit)
    assert commits
    assert [action for action, each in commits.items() if len(each) > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nobody_has_more_rights_than_the_job_needs(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"], f"{name}: six hours"
        assert "write-all" not in str(job.get("permissions", {}))


def test_the_tests_run_on_every_python_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert yaml.safe_load((FOLDER / "test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]["python"] == named

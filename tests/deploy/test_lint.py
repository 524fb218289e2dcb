"""hadolint, over the Dockerfile."""

from pathlib import Path

from .tools import ROOT, passes, tool


def test_hadolint_finds_nothing() -> None:
    assert passes("hadolint", "--no-color", ROOT / "Dockerfile") == ""


def test_hadolint_would_find_a_base_without_a_version(tmp_path: Path) -> None:
    wrong = (ROOT / "Dockerfile").read_text().replace("${PYTHON_IMAGE}", "python")
    (tmp_path / "Dockerfile").write_text(wrong)
    found = tool("hadolint", "--no-color", tmp_path / "Dockerfile")
    assert found.returncode != 0
    assert "DL3006" in found.stdout

"""One version, in pyproject.toml. Every other file that must name it names the same; so does what is installed.

`progress-gateway --version`, `gateway_build_info` and with it the alert GatewayVersionSkew show what is installed.
"""

import json
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

# A version behind one of our names: of the wheel, the npm packages, the image or a requirement.
NAMED = re.compile(r"progress[-_]gateway(?:-react|-publisher)?(?:\[[\w,]+\])?(?:-|:|==)v?(\d+\.\d+\.\d+)")
LABELLED = re.compile(r"(?:app\.kubernetes\.io|opencontainers\.image)[./]version[:=] *\"?(\d+\.\d+\.\d+)")
# What tells of several versions on purpose.
OF_OTHERS = {"CHANGELOG.md", "docs/upgrading.md"}


def texts() -> dict[str, str]:
    """Each text file of the repository, without the tests and what is locked."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    skipped = re.compile(r"tests/|.*(\.png|\.svg|\.lock|package-lock\.json)$")
    names = [path for path in paths if path and path not in OF_OTHERS and not skipped.match(path)]
    return {path: (ROOT / path).read_text(errors="replace") for path in names if (ROOT / path).is_file()}


def test_what_is_installed_is_this_version() -> None:
    """An editable install keeps the version that it was made with: `make .venv/.dev` makes it anew."""
    assert version("progress-gateway") == VERSION


@pytest.mark.parametrize("package", ["frontend", "publisher-js"])
def test_the_npm_packages_have_this_version(package: str) -> None:
    assert json.loads((ROOT / package / "package.json").read_text())["version"] == VERSION
    lock = json.loads((ROOT / package / "package-lock.json").read_text())
    assert lock["version"] == lock["packages"][""]["version"] == VERSION


def test_the_openapi_document_has_this_version() -> None:
    assert json.loads((ROOT / "gateway" / "openapi.json").read_text())["info"]["version"] == VERSION


def test_the_chart_has_this_version() -> None:
    chart = (ROOT / "deploy/helm/progress-gateway/Chart.yaml").read_text()
    assert re.findall(r"^(?:version|appVersion): \"?([\d.]+)", chart, re.MULTILINE) == [VERSION, VERSION]


def test_the_changelog_tells_of_this_version_first() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == VERSION
    assert len(set(headings)) == len(headings)


def test_every_name_with_a_version_has_this_one() -> None:
    """Commands to install and to build, the image of each manifest, labels."""
    found = [
        (path, named)
        for path, text in texts().items()
        for pattern in (NAMED, LABELLED)
        for named in pattern.findall(text)
    ]
    assert len(found) > 20, "it finds them"
    assert [(path, named) for path, named in found if named != VERSION] == []


def test_control_another_version_would_be_found() -> None:
    for text in (
        "./dist/progress_gateway-0.0.9-py3-none-any.whl[gateway]",
        "npm install ./progress-gateway-react-0.0.9.tgz",
        "image: progress-gateway:0.0.9",
        '"progress-gateway[gateway]==0.0.9" \\',
    ):
        assert NAMED.findall(text) == ["0.0.9"], text
    assert LABELLED.findall('app.kubernetes.io/version: "0.0.9"') == ["0.0.9"]
    assert LABELLED.findall('org.opencontainers.image.version="0.0.9" \\') == ["0.0.9"]

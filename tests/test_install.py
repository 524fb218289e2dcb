"""The package is in no index, so no text may tell people to install its bare name: anybody may register that.

But `gateway/__main__.py` may: it speaks where the distribution is installed, and pip then takes that one.
"""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXTS = ["*.md", "*.py", "*.service", "*.yaml", "*.yml", "*.toml"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORDS = re.compile(r"pip install ([^`\n]*)")
BARE = re.compile(r"^progress[-_.]gateway\b(?!-)(?![^\s]*\.whl)")


def installed() -> list[tuple[str, str]]:
    """Each word behind a `pip install`, and the file that it is in."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *TEXTS]
    paths = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [
        (path, word.strip("'\"."))
        for path in paths
        if path not in {"tests/test_install.py", "tests/test_main.py", "gateway/__main__.py"}
        for line in WORDS.findall((ROOT / path).read_text())
        for word in line.split()
    ]


def test_nobody_is_told_to_install_the_bare_name() -> None:
    assert [found for found in installed() if BARE.match(found[1])] == []


def test_control_the_bare_name_would_be_found() -> None:
    for word in ("progress-gateway", "progress-gateway[gateway]", "progress_gateway[otel]==0.2.0"):
        assert BARE.match(word), word


def test_the_wheel_that_is_named_is_the_one_that_is_made_with_extras_that_exist() -> None:
    wheels = [word for _, word in installed() if ".whl" in word]
    assert len(wheels) >= 4
    for word in wheels:
        name, extras = re.fullmatch(r"(?:/dist|dist)?/?([^/\[]+)\[([a-z,]+)\]", word.lstrip(".")).groups()  # type: ignore[union-attr]
        assert name == f"progress_gateway-{PROJECT['version']}-py3-none-any.whl"
        assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()

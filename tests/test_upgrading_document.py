"""docs/upgrading.md names every setting that is new, and says of none that it is gone."""

import re
import subprocess
from pathlib import Path

from tests.previous_release import COMMIT

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| `((?:GATEWAY|PROGRESS|REDIS)_[A-Z_]+)` \|", re.MULTILINE)
TEXT = (ROOT / "docs" / "upgrading.md").read_text()


def settings(operating: str) -> set[str]:
    """Those of the table of docs/operating.md, which another test compares with the code."""
    return set(ROW.findall(operating))


def before() -> set[str]:
    words = ["git", "-C", str(ROOT), "show", f"{COMMIT}:docs/operating.md"]
    return settings(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def now() -> set[str]:
    return settings((ROOT / "docs" / "operating.md").read_text())


def is_named(setting: str) -> bool:
    names = set(re.findall(r"`([A-Z_*]+)(?:=[^`]*)?`", TEXT))
    patterns = {name.rstrip("*") for name in names if name.endswith("*")}
    return setting.removesuffix("_FILE") in names or setting in names or any(map(setting.startswith, patterns))


def test_every_new_setting_is_named() -> None:
    new = now() - before()
    assert len(new) > 15
    assert sorted(setting for setting in new if not is_named(setting)) == [], "name them in docs/upgrading.md"


def test_no_setting_is_gone() -> None:
    assert before() - now() == set()


def test_control_a_setting_that_is_not_named_would_be_found() -> None:
    assert not is_named("GATEWAY_MAX_PROJECTS")
    assert is_named("GATEWAY_JWT_SECRET_FILE")

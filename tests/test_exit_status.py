"""The exit statuses: as documented, and as sysexits.h has them."""

import os
import re
from pathlib import Path

from gateway.process import ExitStatus

DOCUMENT = Path(__file__).parent.parent / "docs" / "operating.md"


def test_they_are_those_of_sysexits() -> None:
    assert (ExitStatus.REDIS_AWAY, ExitStatus.CONFIGURATION) == (os.EX_TEMPFAIL, os.EX_CONFIG)


def test_the_document_lists_each() -> None:
    table = DOCUMENT.read_text().partition("## Start and end")[2].partition("\n## ")[0]
    listed = [int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert listed == [*ExitStatus]

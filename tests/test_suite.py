"""The suite's own machinery: what runs beside pytest, the seed, and runs that must not pass."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EXAMPLES = """
from hypothesis import given, strategies as st
@given(st.integers())
def test_any(number): print("example", number)
"""


def beside(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TESTS / "side-by-side", *words], capture_output=True, text=True, timeout=60, check=False)


def pytest_on(directory: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest with the suite's conftest on one file."""
    path = directory / "test_it.py"
    path.write_text(code)
    words = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-s", "--rootdir", str(directory), *words, str(path))
    command = [sys.executable, "-m", "pytest", *words]
    return subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=60, check=False)


def test_what_runs_beside_it_is_shown_when_it_has_ended() -> None:
    done = beside("echo one", "echo two >&2", "--", "echo", "three")
    assert done.returncode == 0
    assert {"one", "two", "three", "--- echo one passed"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("words", [["exit 3", "true", "--", "true"], ["true", "--", "false"]])
def test_it_fails_where_any_of_them_fails(words: list[str]) -> None:
    done = beside(*words)
    assert done.returncode == 1
    assert ("FAILED: exit 3" in done.stdout) == ("exit 3" in words)


def test_a_seed_gives_the_same_examples_again(tmp_path: Path) -> None:
    runs = [pytest_on(tmp_path, EXAMPLES, f"--hypothesis-seed={seed}") for seed in (1, 1, 2)]
    assert [run.returncode for run in runs] == [0, 0, 0]
    examples = [[line for line in run.stdout.splitlines() if "example" in line] for run in runs]
    assert len(examples[0]) > 50
    assert examples[0] == examples[1] != examples[2]
    assert "make test SEED=1" in runs[0].stdout


def test_a_run_with_a_skipped_test_has_failed(tmp_path: Path) -> None:
    """The control is the test above: without a skipped one a run passes."""
    done = pytest_on(tmp_path, "import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('no')\n")
    assert done.returncode == 1
    assert "1 passed, 1 skipped" in done.stdout


def test_an_address_in_the_name_of_a_test_is_refused(tmp_path: Path) -> None:
    code = "import pytest\n@pytest.mark.parametrize('a', [object()], ids=str)\ndef test_a(a): pass\n"
    done = pytest_on(tmp_path, code)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "an address is in the name" in done.stderr

"""The previous release, as people have it: its wheel, built from its commit, unpacked beside this version.

Its code comes from the history, so the clone must have it (CI clones everything). The wheel is unpacked as an installer
does it, with its metadata, so it says its own version.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PREVIOUS = "0.1.0"
COMMIT = "12b6443"  # the last one of it


def unpacked(directory: Path) -> Path:
    """The folder with its packages."""
    source, wheels, packages = (directory / name for name in ("source", "wheels", "packages"))
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", COMMIT], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    build = [sys.executable, "-P", "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
    built = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False, timeout=60)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(wheels / f"progress_gateway-{PREVIOUS}-py3-none-any.whl") as wheel:
        wheel.extractall(packages)
    return packages


def variables(packages: Path) -> dict[str, str]:
    """What makes a Python process run that version, and not the one of the working directory."""
    return {"PYTHONPATH": f"{packages}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}

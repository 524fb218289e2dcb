"""Compiles the two C programs into bench/build/ when their source is newer."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"


class BenchError(Exception):
    """An error that the user can fix; printed without a traceback."""


def compile_c(name: str) -> Path:
    """Build bench/<name>.c with the system's compiler and return the program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError(
            "No C compiler found (cc, gcc or clang): install one, on Debian or Ubuntu with `apt install gcc libc6-dev`."
        )
    BUILD.mkdir(exist_ok=True)
    program, source = BUILD / name, HERE / f"{name}.c"
    newest = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    built = subprocess.run(
        [compiler, "-O2", "-std=gnu11", "-o", str(program), str(source)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise BenchError(f"{source.name} did not compile:\n{built.stderr}")
    return program

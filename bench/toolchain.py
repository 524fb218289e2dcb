"""The two C programs, compiled when their source is newer than what bench/build/ holds."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"


class BenchError(Exception):
    """Something the person at the terminal can mend; shown as one sentence, without a traceback."""


def compile_c(name: str) -> Path:
    """Build bench/<name>.c with the system's compiler and return the program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError(
            "The benchmark needs a C compiler (cc), which was not found (Debian, Ubuntu: apt install gcc)."
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

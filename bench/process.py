"""A child process: started, measured by the kernel's counters, and ended with the benchmark."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.toolchain import BUILD, BenchError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Run in the child before exec: the kernel then kills the child if the benchmark is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """Lives as long as its `with` block. Its output goes to bench/build/<name>.log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        piped: bool = False,
        cores: set[int] | None = None,
    ) -> None:
        self.name = name
        self.log = BUILD / f"{name}.log"
        self._command = command
        self._env = env
        self._piped = piped
        self._cores = cores  # None: the cores of the benchmark itself

    def __enter__(self) -> Self:
        BUILD.mkdir(exist_ok=True)
        pipe = subprocess.PIPE if self._piped else None
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                list(self._command),
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                env=self._env,
                cwd=BUILD.parent.parent,
                preexec_fn=_die_with_parent,
            )
        if self._cores is not None:
            os.sched_setaffinity(self.popen.pid, self._cores)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Killed, not asked to end: the measurement is over, and thousands of clients would need closing.
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def assert_running(self) -> None:
        if self.popen.poll() is not None:
            tail = self.log.read_text(errors="replace")[-1500:]
            raise BenchError(f"{self.name} ended with code {self.popen.returncode}. The end of {self.log}:\n{tail}")

    def cpu_seconds(self) -> float:
        """User and system time of the whole process: all threads, also those that have ended.

        Read from the CPU clock of the process, in nanoseconds. Its id is MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
        /proc/<pid>/stat counts in ticks of 10 ms, about what the gateway spends on the whole of P2.
        """
        self.assert_running()
        try:
            return time.clock_gettime((~self.popen.pid << 3) | 2)
        except OSError:
            fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pss_bytes(self) -> int:
        """Memory of the process; pages shared with n processes count as one n-th."""
        self.assert_running()
        for line in Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise BenchError("/proc/<pid>/smaps_rollup has no Pss line. P3 needs Linux 4.14 or newer.")

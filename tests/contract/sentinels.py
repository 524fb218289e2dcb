"""A primary with two replicas and three Sentinels that watch it, as an operator starts them."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

from .deadlines import wait_for
from .processes import free_port
from .servers import Server, program

START_SECONDS = 120.0
NAME = "mymaster"
DOWN_MS = 1_000


class Sentinel:
    """One process; it keeps what it finds out in its file."""

    def __init__(self, directory: Path, primary_port: int, *, password: str = "") -> None:
        directory.mkdir(parents=True)
        self.port = free_port()
        self._password = password
        config = directory / "sentinel.conf"
        lines = [
            f"port {self.port}", "bind 127.0.0.1", f"dir {directory}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_MS}", f"sentinel failover-timeout {NAME} 5000",
            *([f"requirepass {password}", f"sentinel sentinel-pass {password}"] if password else []),
        ]  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        with (directory / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("redis"), str(config), "--sentinel"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def command(self, *words: str | int) -> Any:
        with redis.Redis(port=self.port, socket_timeout=5, protocol=2, password=self._password or None) as client:
            return client.execute_command(*words)

    def answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            return False

    def state(self) -> dict[str, str]:
        words = [word.decode() for word in self.command("SENTINEL", "MASTER", NAME)]
        return dict(zip(words[::2], words[1::2], strict=True))

    def primary(self) -> int:
        """The port of the primary, as it sees it."""
        return int(self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Sentinels:
    """The whole: three servers and three Sentinels."""

    def __init__(self, directory: Path, *, password: str = "") -> None:
        self.sentinels: list[Sentinel] = []
        self.servers: list[Server] = []
        try:
            settings = ("--repl-diskless-sync-delay", "0")
            self.servers = [Server("redis", directory / f"server_{n}", *settings) for n in range(3)]
            for server in self.servers[1:]:
                server.command("REPLICAOF", "127.0.0.1", self.servers[0].port)
            places = [directory / f"sentinel_{n}" for n in range(3)]
            self.sentinels = [Sentinel(place, self.servers[0].port, password=password) for place in places]
            wait_for(self.is_whole, "the Sentinels to know each other", START_SECONDS)
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels) + f"/{NAME}/0"

    def is_whole(self) -> bool:
        """Each Sentinel knows the same primary, the two others and the two replicas, and those are up to date."""
        try:
            states = [one.state() for one in self.sentinels]
            is_agreed = self._is_agreed()
            roles = [server.command("ROLE") for server in self.servers]
        except redis.RedisError:
            return False
        known = all(s["num-other-sentinels"] == s["num-slaves"] == "2" and s["flags"] == "master" for s in states)
        return (
            known
            and is_agreed
            and sum(role[0] in (b"slave", "slave") and role[3] in (b"connected", "connected") for role in roles) == 2
        )

    def _is_agreed(self) -> bool:
        return len({one.primary() for one in self.sentinels}) == 1

    def wait_until_whole(self) -> None:
        # One that has not heard of a failover yet would have the new primary made a replica here, of an older state.
        wait_for(self._is_agreed, "the Sentinels to agree", START_SECONDS)
        for server in self.servers:  # what the Sentinels do, too, but only some ten seconds after a failover
            if server is not (primary := self.primary()) and b"master" in server.command("ROLE"):
                server.command("REPLICAOF", "127.0.0.1", primary.port)
        wait_for(self.is_whole, "the replicas to be back", START_SECONDS)

    def primary(self) -> Server:
        port = self.sentinels[0].primary()
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> Server:
        """By hand; returns the new primary."""
        return self.fail_over_with(len(self.sentinels))

    def fail_over_with(self, sentinels: int) -> Server:
        """The same where only the first of the Sentinels answer."""
        before = self.primary()
        # Refused while a replica is not known well enough, or shortly after another failover.
        wait_for(self._may_fail_over, "a failover to begin", START_SECONDS)
        return self.wait_for_another(before, sentinels)

    def _may_fail_over(self) -> bool:
        try:
            return bool(self.sentinels[0].command("SENTINEL", "FAILOVER", NAME))
        except redis.ResponseError:
            time.sleep(0.2)
            return False

    def wait_for_another(self, before: Server, sentinels: int = 3) -> Server:
        """Until the first Sentinels name another primary, all the same."""

        def is_another() -> bool:
            named = {one.primary() for one in self.sentinels[:sentinels]}
            return before.port not in named and len(named) == 1

        wait_for(is_another, "another primary", START_SECONDS)
        return self.primary()

    def end(self) -> None:
        for one in self.sentinels:
            one.end()
        for server in self.servers:
            server.end()

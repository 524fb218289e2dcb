"""What docs/operating.md says of viewers' tokens: the gateway lets everybody in; nginx can ask a service of yours."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.contract.client import upgrade_status
from tests.contract.processes import RedisServer, Replica
from tests.rolling.balancers import DEPLOY, Nginx

DOCUMENT = (DEPLOY.parent / "docs" / "operating.md").read_text()
TOKEN, WRONG = "a-token-that-is-right", "a-token-that-is-wrong"
BEFORE = "    location = /healthz {"


class Service(BaseHTTPRequestHandler):
    """Knows one token, by the URI that nginx hands on."""

    def do_GET(self) -> None:
        assert self.path == "/token"
        assert "Upgrade" not in self.headers
        self.send_response(204 if self.headers["X-Original-URI"] == f"/ws?token={TOKEN}" else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def replica(redis_server: RedisServer, tmp_path: Path) -> Iterator[Replica]:
    tmp_path.chmod(0o755)  # nginx' workers are another user
    replica = Replica(redis_server.url, tmp_path / "replica.log")
    yield replica.wait_ready()
    replica.end()


def nginx_that_asks(service: int, replica: Replica, directory: Path) -> Nginx:
    """The shipped file, with what the document adds."""
    (added,) = re.findall(r"^```nginx\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    asks, location = re.fullmatch(r"location = /ws \{\n(.*?\n)\}\n(.*)", added, re.DOTALL).groups()  # type: ignore[union-attr]
    location = location.replace("127.0.0.1:8000", f"127.0.0.1:{service}")
    changes = {"    location = /ws {\n": f"    location = /ws {{\n{asks}", BEFORE: f"{location}\n{BEFORE}"}
    return Nginx(directory / "nginx", [replica.port, 9, 9], changes)


async def test_a_replica_lets_in_whoever_reaches_it_whatever_the_token(replica: Replica) -> None:
    """With GATEWAY_AUTH=none, as the documents say, so that nobody relies on it."""
    for query in ("", "?token=", f"?token={WRONG}"):
        assert await upgrade_status(replica.ws + query) == 101


async def test_nginx_lets_in_whom_the_service_knows_and_logs_no_token(
    service: int, replica: Replica, tmp_path: Path
) -> None:
    nginx = nginx_that_asks(service, replica, tmp_path).wait_listening()
    try:
        done = nginx.check()
        assert done.returncode == 0, done.stderr
        assert await upgrade_status(f"{nginx.ws}?token={TOKEN}") == 101
        for query in ("", "?token=", f"?token={WRONG}"):
            assert await upgrade_status(nginx.ws + query) == 401
    finally:
        nginx.end()
    assert "a-token" not in nginx.log


async def test_without_the_service_nobody_is_let_in_and_no_token_is_logged(replica: Replica, tmp_path: Path) -> None:
    nginx = nginx_that_asks(9, replica, tmp_path).wait_listening()
    try:
        assert await upgrade_status(f"{nginx.ws}?token={TOKEN}") == 500
    finally:
        nginx.end()
    assert "a-token" not in nginx.log

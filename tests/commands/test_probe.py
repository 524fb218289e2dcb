"""`python -I -S gateway/commands/probe.py`, the image's health check: it asks where `healthcheck` asks."""

import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.commands import probe
from gateway.commands.healthcheck import address_of
from gateway.settings import Settings
from tests.contract.certificates import Authority
from tests.contract.processes import environment, free_port

from .test_healthcheck import answering, http

Variables = dict[str, str]
ENVIRONMENTS: list[Variables] = [
    {},
    {"GATEWAY_PORT": "4000"},
    {"GATEWAY_PORT": "4000", "GATEWAY_ADMIN_PORT": ""},
    {"GATEWAY_HOST": "", "GATEWAY_PORT": "4000"},
    {"GATEWAY_HOST": "0.0.0.0", "GATEWAY_PORT": "4000"},
    {"GATEWAY_HOST": "::", "GATEWAY_ADMIN_PORT": "4001"},
    {"GATEWAY_HOST": "192.0.2.1", "GATEWAY_ADMIN_PORT": "4001"},
    {"GATEWAY_HOST": "192.0.2.1", "GATEWAY_ADMIN_PORT": "4001", "GATEWAY_ADMIN_HOST": "::1"},
    {"GATEWAY_HOST": "192.0.2.1", "GATEWAY_ADMIN_HOST": "::1"},
    {"GATEWAY_HOST": "replica.example", "GATEWAY_PORT": "80"},
]


@pytest.mark.parametrize("variables", ENVIRONMENTS, ids=str)
def test_it_asks_where_the_command_asks(variables: Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    is_admin = settings.admin_port is not None
    port = settings.admin_port if settings.admin_port is not None else settings.port
    url = address_of((settings.admin_host if is_admin else "") or settings.host, port)
    host, asked = probe.address_of(variables)
    assert url == (f"http://[{host}]:{asked}" if ":" in host else f"http://{host}:{asked}")


def run(*flags: str, **variables: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *flags, "-I", "-S", str(Path(probe.__file__))]
    return subprocess.run(words, env=environment(None, **variables), capture_output=True, text=True, check=False)


def test_200_is_0_and_says_nothing() -> None:
    with answering(http("200 OK")) as (port, asked):
        done = run(GATEWAY_PORT=free_port(), GATEWAY_ADMIN_PORT=port, GATEWAY_HOST="0.0.0.0")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)


@pytest.mark.parametrize(
    "answer", [http("503 Service Unavailable"), http("204 No Content"), b"", b"nonsense 2\x1b[2J\n"]
)
def test_any_other_answer_is_1_and_a_line(answer: bytes) -> None:
    with answering(answer) as (port, _):
        done = run(GATEWAY_PORT=port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().isprintable()


@pytest.mark.parametrize("port", ["0", "x", "65536", ""])
def test_no_port_to_call_is_1_and_a_line(port: str) -> None:
    done = run(GATEWAY_PORT=port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_nobody_there_is_1_and_a_line() -> None:
    done = run(GATEWAY_PORT=free_port())
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_a_replica_with_tls_is_asked_over_tls_and_its_admin_port_is_not(tmp_path: Path) -> None:
    assert not probe.has_tls({"GATEWAY_TLS_CERT": "tls.crt", "GATEWAY_ADMIN_PORT": "4001"})
    certificate, key = Authority(tmp_path, "authority").sign("replica")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plug, _ = listener.accept()
            with context.wrap_socket(plug, server_side=True) as secured:
                secured.recv(65_536)
                secured.sendall(http("200 OK"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        done = run(GATEWAY_PORT=listener.getsockname()[1], GATEWAY_TLS_CERT=certificate)
        thread.join(20)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_loads_nothing_that_is_slow() -> None:
    """Each of these takes longer to load than the interpreter itself takes to start."""
    with answering(http("200 OK")) as (port, _):
        done = run("-X", "importtime", GATEWAY_PORT=port)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "_socket" in loaded
    assert not {"socket", "ssl", "http", "re", "encodings.idna", "site", "gateway"} & loaded

"""`progress-gateway healthcheck`: 0 only if the replica answers 200."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result

from gateway.commands import cli
from gateway.commands.healthcheck import address_of
from tests.contract.deadlines import STALL_SECONDS
from tests.contract.processes import free_port


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A port that gives each connection the next answer; and the requests that came."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked: list[bytes] = []

        def serve() -> None:
            for answer in answers:
                plug, _ = listener.accept()
                with plug:
                    asked.append(plug.recv(65_536))
                    plug.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(5)


def http(status: str, body: bytes = b"ok\n") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def healthcheck(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["healthcheck", *arguments])


def fails(*arguments: str) -> str:
    """The one line that it prints."""
    result = healthcheck(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()
    return result.stderr


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "\u00fc" * 64])
def test_a_host_that_no_look_up_takes_is_1_and_a_line(host: str) -> None:
    assert "does not answer" in fails("--url", f"http://{host}/")


@pytest.mark.parametrize(("arguments", "path"), [([], "/healthz"), (["--ready"], "/readyz")])
def test_200_is_0_and_says_nothing(arguments: list[str], path: str) -> None:
    with answering(http("200 OK")) as (port, asked):
        result = healthcheck("--url", f"http://127.0.0.1:{port}", *arguments)
    assert (result.exit_code, result.output) == (0, "")
    assert asked[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("variables", [["GATEWAY_PORT"], ["GATEWAY_ADMIN_PORT"]])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_the_replica_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: list[str], host: str
) -> None:
    """The admin port, if there is one."""
    monkeypatch.setenv("GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("GATEWAY_HOST", host)
    with answering(http("200 OK")) as (port, _):
        for variable in variables:
            monkeypatch.setenv(variable, str(port))
        assert healthcheck().exit_code == 0


def test_the_operators_host_counts_for_their_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_HOST", "nobody.invalid")
    monkeypatch.setenv("GATEWAY_ADMIN_HOST", "127.0.0.1")
    with answering(http("200 OK")) as (port, _):
        monkeypatch.setenv("GATEWAY_ADMIN_PORT", str(port))
        assert healthcheck().exit_code == 0


@pytest.mark.parametrize(
    ("host", "url"),
    [("::", "http://[::1]:1"), ("::1", "http://[::1]:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("h", "http://h:1")],
)
def test_an_address_to_listen_on_is_called_where_it_is(host: str, url: str) -> None:
    assert address_of(host, 1) == url


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://[::1]:1", None),
        ("http://[::1]", "http://[::1]:80"),
        ("http://user:hunter2@127.0.0.1:1?token=hunter2", "http://127.0.0.1:1"),
    ],
)
def test_where_nobody_answers_is_told_as_a_url_without_secrets(url: str, where: str | None) -> None:
    said = fails("--url", url, "--seconds", "1")
    assert f"{where or url}/healthz does not answer" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("status", ["503 Service Unavailable", "404 Not Found", "302 Found", "204 No Content"])
def test_any_other_answer_is_1_and_told(status: str) -> None:
    with answering(http(status, b'{"ready":false}\n12:00 forged\x1b[2J')) as (port, _):
        said = fails("--url", f"http://127.0.0.1:{port}", "--ready")
    assert f":{port}/readyz answers {status[:3]}" in said
    assert status.startswith("204") or '{"ready":false}' in said


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"\x00" * 100, b"HTTP/1.1 999999 \x1b[2J\r\n\r\n"])
def test_what_is_no_answer_is_1(answer: bytes) -> None:
    with answering(answer) as (port, _):
        assert "does not answer" in fails("--url", f"http://127.0.0.1:{port}")


def test_nobody_there_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("GATEWAY_PORT", str(port))
    assert f"http://127.0.0.1:{port}/healthz does not answer" in fails()


def test_one_that_is_silent_is_1_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = time.monotonic()
        assert "timed out" in fails("--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--seconds", "0.2")
        assert time.monotonic() - before < 0.2 + STALL_SECONDS


@pytest.mark.parametrize("url", ["", "h", "ftp://h", "http://", "http://h:port", "http://[", "http://h:99999"])
def test_what_is_no_url_is_1(url: str) -> None:
    assert "is not an HTTP URL" in fails("--url", url)


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@h:port", "ftp://h?hunter2", "http://u:[hunter2]@h", "http://u:hunter2\u2100@h"]
)
def test_what_is_no_url_shows_no_secret(url: str) -> None:
    assert "hunter2" not in fails("--url", url)


def test_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with answering(http("200 OK")) as (port, _):
        assert healthcheck("--url", f"http://127.0.0.1:{port}").exit_code == 0


def test_any_free_port_is_none_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "0")
    assert "--url" in fails()


def test_wrong_settings_are_1_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker keeps all other statuses for itself."""
    monkeypatch.setenv("GATEWAY_PORT", "x")
    assert "GATEWAY_PORT" in fails()

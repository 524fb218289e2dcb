"""A replica that speaks TLS itself: which files it takes, a renewal at SIGHUP, and clients by `wss://`."""

import asyncio
import json
import signal
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket

from gateway.commands import cli
from gateway.operations.tls import Certificate
from gateway.settings import Settings
from publisher import broadcast_to_project
from tests.contract.certificates import Authority
from tests.contract.deadlines import PATIENCE, wait_for
from tests.contract.processes import RedisServer, Replica, environment, free_port, run_gateway

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.sign("replica")


@pytest.fixture(scope="module")
def another(authority: Authority) -> tuple[Path, Path]:
    return authority.sign("another")


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


@pytest.fixture
def files(tmp_path: Path, pair: tuple[Path, Path]) -> dict[str, Path]:
    """Copies that a test may change."""
    given = {"tls_cert": tmp_path / "tls.crt", "tls_key": tmp_path / "tls.key"}
    copy(pair, given)
    return given


def copy(pair: tuple[Path, Path], to: dict[str, Path]) -> None:
    for source, target in zip(pair, to.values(), strict=True):
        target.write_bytes(source.read_bytes())


# The files


def test_a_certificate_tells_when_it_expires(files: dict[str, Path], authority: Authority) -> None:
    certificate = Certificate(**{"certificate": files["tls_cert"], "key": files["tls_key"]})
    assert abs(certificate.expires_at - time.time() - 2 * 86_400) < 3_600
    chain = files["tls_cert"].read_text() + authority.certificate.read_text()
    files["tls_cert"].write_text(chain)
    assert Certificate(files["tls_cert"], files["tls_key"]).expires_at <= certificate.expires_at


@pytest.mark.parametrize(
    ("field", "content", "says"),
    [
        ("tls_cert", None, "GATEWAY_TLS_CERT: cannot read the file"),
        ("tls_key", None, "GATEWAY_TLS_KEY: cannot read the file"),
        ("tls_cert", b"", "holds no certificate"),
        ("tls_key", b"hunter2", "holds no private key"),
        ("tls_cert", b"\xff", "is not in PEM form"),
        ("tls_cert", b"-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n", "cannot be used"),
        ("tls_key", b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", "cannot be used"),
    ],
)
def test_a_wrong_file_ends_with_78_and_is_named(
    files: dict[str, Path], field: str, content: bytes | None, says: str
) -> None:
    if content is None:
        files[field].unlink()
    else:
        files[field].write_bytes(content)
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in files.items()]
    result = CliRunner().invoke(cli.main, ["serve", "--check-config", *flags])
    assert result.exit_code == 78
    assert says in result.stderr
    assert str(files[field]) in result.stderr
    assert "hunter2" not in result.output
    assert result.stderr.count("\n") == 1


def test_one_without_the_other_and_a_pair_that_does_not_match_are_refused(
    files: dict[str, Path], another: tuple[Path, Path]
) -> None:
    for name in files:
        with pytest.raises(ValidationError, match="set both or neither"):
            Settings(**{name: files[name]})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"the key .*another.key is not that of the certificate"):
        Settings(tls_cert=files["tls_cert"], tls_key=another[1])


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(files: dict[str, Path]) -> None:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(files["tls_key"].read_bytes(), None)
    locked = form.BestAvailableEncryption(b"secret")
    files["tls_key"].write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked))
    with pytest.raises(ValidationError, match="the key has a passphrase"):
        Settings(**files)  # type: ignore[arg-type]


# A replica


class Secure(Replica):
    """A replica whose clients' port speaks TLS."""

    authority: Authority

    @property
    def ws(self) -> str:
        return f"wss://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=30, verify=trusting(self.authority)) as client:
            return client.get(self.http + path)

    def status(self, path: str) -> int | None:
        try:
            return self.get(path).status_code
        except httpx.TransportError:
            return None

    def on_admin(self, path: str) -> httpx.Response:
        """An answer of the admin port, which the log names and which speaks no TLS."""
        line = next(line for line in self.log.splitlines() if "for operators" in line)
        return httpx.get(json.loads(line)["message"].split()[1] + path, timeout=30)

    def clients(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.on_admin("admin/clients").json()["clients"]
        return rows

    @asynccontextmanager
    async def watching(self, project: str, **options: Any) -> AsyncIterator[ClientConnection]:
        async with websocket(self.ws, ssl=trusting(self.authority), proxy=None, **options) as socket:
            await socket.send(json.dumps({"type": "subscribe", "projectId": project}))
            await until(socket, "subscribed")
            yield socket


async def until(socket: ClientConnection, kind: str, **fields: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] == kind and fields.items() <= message.items():
                return message


@pytest.fixture
def replica(
    redis_server: RedisServer,
    files: dict[str, Path],
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Secure]:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setattr(Secure, "authority", authority, raising=False)
    settings: dict[str, Any] = {"log_format": "json", "admin_port": free_port(), **files}
    replica = Secure(redis_server.url, tmp_path / "log", **settings)
    try:
        yield replica.wait_ready()
    finally:
        replica.end()


async def test_events_replays_and_closes_reach_a_client_by_wss(replica: Secure, project: str) -> None:
    broadcast_to_project(project, EVENT | {"jobId": "before"})
    async with replica.watching(project) as socket:
        assert (await until(socket, "progress"))["jobId"] == "before"
        for percent in range(41, 50):
            broadcast_to_project(project, EVENT | {"progress": percent})
        await until(socket, "progress", progress=49)
        replica.signal(signal.SIGTERM)
        await until(socket, "going_away")
        await socket.close()
    assert replica.wait("the end") == 0


async def test_what_does_not_speak_tls_gets_nothing_and_costs_nothing(replica: Secure, project: str) -> None:
    async with replica.watching(project) as socket:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{replica.port}/healthz", timeout=30)
        with pytest.raises(ssl.SSLCertVerificationError):
            await websocket(replica.ws, proxy=None)
        broadcast_to_project(project, EVENT)
        await until(socket, "progress")
    assert "Traceback" not in replica.log
    assert "exception" not in replica.log


async def test_a_client_that_does_not_read_is_behind_and_catches_up(replica: Secure, project: str) -> None:
    async with replica.watching(project) as quick, replica.watching(project, max_queue=1) as slow:
        slow.transport.pause_reading()
        text, count = "x" * 1_900, 0
        while not any(row["behindBy"] > 100 for row in replica.clients()):
            assert count < 20_000
            for _ in range(200):
                broadcast_to_project(project, EVENT | {"progress": count / 200, "message": text})
                count += 1
            await until(quick, "progress", progress=(count - 1) / 200)
        # The buffer, and what a replica that was held up wrote at once: no more than one round, of many.
        assert max(row["unsentBytes"] for row in replica.clients()) < 2 * 65_536 + 200 * 2_200
        assert count > 400
        slow.transport.resume_reading()
        await until(slow, "progress", progress=(count - 1) / 200)
        broadcast_to_project(project, EVENT | {"jobId": "last"})
        await until(slow, "progress", jobId="last")


async def test_a_renewed_certificate_is_shown_to_those_who_come_and_ends_nobody(
    replica: Secure, files: dict[str, Path], another: tuple[Path, Path], project: str
) -> None:
    async def shown() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", replica.port, ssl=trusting(replica.authority))
        [[(_, name)]] = writer.get_extra_info("peercert")["subject"]
        writer.close()
        return str(name)

    async with replica.watching(project) as socket:
        assert await shown() == "replica"
        files["tls_cert"].write_bytes(another[0].read_bytes())  # without its key
        replica.signal(signal.SIGHUP)
        wait_for(lambda: "The certificate cannot be used, what was read before stays" in replica.log, "the error")
        assert await shown() == "replica"
        copy(another, files)
        replica.signal(signal.SIGHUP)
        wait_for(lambda: "certificate: until 20" in replica.log, "the renewal")
        assert await shown() == "another"
        broadcast_to_project(project, EVENT)
        await until(socket, "progress")


def test_the_commands_know_that_their_replica_speaks_tls(
    replica: Secure, redis_server: RedisServer, files: dict[str, Path], project: str
) -> None:
    paths = {f"GATEWAY_{name.upper()}": path for name, path in files.items()}
    env = environment(redis_server.url, GATEWAY_PORT=replica.port, **paths)
    for words in (["healthcheck", "--ready"], ["canary", project]):
        done = run_gateway(*words, env=env)
        assert (done.returncode, done.stderr) == (0, "")
    url = f"wss://127.0.0.1:{replica.port}/ws"
    strange = run_gateway("canary", project, "--url", url, env=env)
    assert strange.returncode == 1
    assert "certificate" in strange.stderr
    trusted = env | {"SSL_CERT_FILE": str(replica.authority.certificate)}
    assert run_gateway("canary", project, "--url", url, env=trusted).returncode == 0


def test_the_metrics_tell_when_the_certificate_expires(replica: Secure) -> None:
    text = replica.on_admin("metrics").text
    (value,) = [line.split()[1] for line in text.splitlines() if line.startswith("gateway_tls_certificate_expires_t")]
    assert abs(float(value) - time.time() - 2 * 86_400) < 7_200

"""Redis over TLS, with an authority of one's own and certificates of clients, and over a Unix socket, with users of
least rights: a replica, a publisher and `watch` work; what is wrong is said with what to do.

Against Redis 7: the embedded Valkey is built without TLS.
"""

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from publisher.transport.advice import with_advice

from .certificates import Authority
from .client import watching
from .conftest import Launch
from .deadlines import eventually
from .events import complete, progress
from .processes import Process, PublisherProcess, environment, free_port, run_gateway
from .servers import Server

RETURN_SECONDS = 60.0
ACL = re.findall(r"^ACL SETUSER .*$", (Path(__file__).parents[2] / "docs" / "operating.md").read_text(), re.MULTILINE)


class Secured(NamedTuple):
    """A server that takes TLS with a client's certificate, and a Unix socket, and nothing else."""

    server: Server
    tls_port: int
    socket: Path
    authority: Authority
    client: tuple[Path, Path]
    other: Authority

    def url(self, form: str, user: str) -> str:
        if form == "unix":
            return f"unix://{user}:secret@{self.socket}?db=0"
        return self.tls(user=f"{user}:secret@", ca=self.authority.certificate, client=self.client)

    def tls(
        self,
        *,
        user: str = "",
        host: str = "127.0.0.1",
        ca: Path | None = None,
        client: tuple[Path, Path] | None = None,
    ) -> str:
        given = [f"ssl_ca_certs={ca}"] if ca else []
        given += [f"ssl_certfile={client[0]}", f"ssl_keyfile={client[1]}"] if client else []
        return f"rediss://{user}{host}:{self.tls_port}/0?{'&'.join(given)}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("tls")
    authority, other = Authority(directory, "ours"), Authority(directory, "others")
    certificate, key = authority.sign("server")
    port, socket = free_port(), directory / "redis.sock"
    server = Server(
        "redis", directory / "server",
        "--tls-port", str(port), "--tls-ca-cert-file", str(authority.certificate), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--tls-auth-clients", "yes", "--unixsocket", str(socket),
    )  # fmt: skip
    for rule in ACL[:3]:
        server.command(*rule.split())
    yield Secured(server, port, socket, authority, authority.sign("client"), other)
    server.end()


@pytest.mark.parametrize("form", ["rediss", "unix"])
async def test_a_replica_a_publisher_and_watch_work_over(
    secured: Secured,
    launch: Launch,
    publisher_of: Callable[..., PublisherProcess],
    project: str,
    tmp_path: Path,
    form: str,
) -> None:
    replica = launch(secured.url(form, "gateway"), ready=False)
    publisher = publisher_of(secured.url(form, "jobs"))
    remembered = publisher.seq(project, progress("early"))
    replica.wait_ready()
    command = [sys.executable, "-m", "gateway", "watch", project, "--url", replica.ws]
    watch = Process(command, environment(None), tmp_path / "watch.log")
    try:
        async with watching(replica.ws, project) as client:
            assert [event["seq"] for event in await client.events(1)] == [remembered]
            await eventually(lambda: "early" in watch.log, "watch to print what is there")
            seqs = publisher.publish_all(project, [progress(f"job_{n}", message="x" * 2_000) for n in range(300)])
            assert [event["seq"] for event in await client.events(300)] == seqs
            done = run_gateway(
                "publish", project, "--job", "shell", "--complete", env=environment(secured.url(form, "jobs"))
            )
            assert done.returncode == 0, done.stderr
            assert (await client.events(1))[0]["seq"] == int(done.stdout)
            await eventually(lambda: "shell" in watch.log, "watch to print the last")
            secured.server.cut_gateways()
            await client.expect("stale")
            await client.until_type("live", within=RETURN_SECONDS)
            last = publisher.seq(project, complete("early"))
            assert [event["seq"] for event in await client.events(1)] == [last]
    finally:
        watch.end()
    assert "secret" not in replica.log
    assert replica.stop() == 0


def test_what_is_wrong_is_said_with_what_to_do(secured: Secured, tmp_path: Path) -> None:
    ours, client = secured.authority.certificate, secured.client
    plain = f"redis://127.0.0.1:{secured.tls_port}/0"
    wrong = {
        secured.tls(ca=secured.other.certificate, client=client): "ssl_ca_certs=/path/ca.pem",
        secured.tls(client=client): "ssl_ca_certs=/path/ca.pem",  # the system's authorities do not know ours
        secured.tls(ca=ours): "ssl_certfile",
        secured.tls(ca=ours, client=secured.other.sign("stranger")): "ssl_certfile",
        secured.tls(ca=ours, client=client, host="localhost"): "the host name that stands in the certificate",
        secured.tls(ca=tmp_path / "nowhere.pem", client=client): "is not there",
        secured.tls(ca=ours, client=client, user="gateway:secrets@"): "user or password of REDIS_URL",
        plain: "rediss://",
        f"rediss://127.0.0.1:{secured.server.port}/0": "redis://",
        f"unix://{tmp_path}/nowhere.sock": "is not there",
    }
    # Where the other side just closes, nobody can tell a wrong URL from a Redis that is not there yet.
    said_why = ("ssl_ca_certs", "host name", "user or password")
    socket_url = f"unix://{tmp_path}/nowhere.sock"  # it comes with the server
    serve = {"GATEWAY_PORT": 0, "GATEWAY_REDIS_WAIT_SECONDS": 0.3}
    calls = [(["serve"], url, environment(url, **serve)) for url in wrong]
    # A publisher goes on for its five seconds.
    calls += [(["publish", "p", "--job", "j", "--complete"], url, environment(url)) for url in [*wrong][:3]]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda call: run_gateway(*call[0], env=call[2]), calls))
    for (words, url, _), done in zip(calls, outcomes, strict=True):
        what = f"{words[0]} with {url}: {done.stderr}"
        if words[0] == "publish":
            assert done.returncode == 1, what
        elif url == socket_url:
            assert done.returncode == 75, what
        else:
            assert done.returncode == 78 or (done.returncode == 75 and not wrong[url].startswith(said_why)), what
        assert len(done.stderr.strip().splitlines()) == 1, what
        assert wrong[url] in done.stderr, what
        assert "secrets" not in done.stderr, what


async def test_a_certificate_that_is_replaced_by_a_strangers_is_found_and_said(
    secured: Secured, launch: Launch, project: str
) -> None:
    """Rotation gone wrong: those who are in stay in; the next connection fails until it is put right."""
    server = secured.server
    right = [secured.authority.certificate.with_name(f"server.{kind}") for kind in ("pem", "key")]
    wrong = secured.other.sign("impostor")
    replica = launch(secured.url("rediss", "gateway"))
    async with watching(replica.ws, project) as client:
        try:
            server.command("CONFIG", "SET", "tls-cert-file", str(wrong[0]), "tls-key-file", str(wrong[1]))
            server.cut_gateways()
            await client.expect("stale")
            await eventually(lambda: "ssl_ca_certs=/path/ca.pem" in replica.log, "the log to say what to do")
        finally:
            server.command("CONFIG", "SET", "tls-cert-file", str(right[0]), "tls-key-file", str(right[1]))
        await client.until_type("live", within=RETURN_SECONDS)
    assert replica.log.count("trying again") == 2, "the loss, and why it lasts"


def test_control_without_the_check_the_wrong_authority_is_taken(secured: Secured) -> None:
    """It is the check that refuses it, nothing else."""
    wrong = secured.tls(ca=secured.other.certificate, client=secured.client)
    with redis.Redis.from_url(wrong + "&ssl_cert_reqs=none") as client:
        assert client.ping()
    with redis.Redis.from_url(wrong) as client, pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY"):
        client.ping()


def test_an_authority_without_key_usage_serves_until_python_3_13_and_then_there_is_a_hint(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path, "lax", key_usage=""), free_port()
    certificate, key = authority.sign("server")
    server = Server(
        "redis", tmp_path / "server", "--tls-port", str(port), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no",
    )  # fmt: skip
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.certificate}"
    try:
        with redis.Redis.from_url(url, retry=None) as client:
            if sys.version_info < (3, 13):
                assert client.ping()
            else:
                with pytest.raises(redis.ConnectionError) as refused:
                    client.ping()
                assert "keyUsage=critical,keyCertSign,cRLSign" in with_advice(refused.value)
    finally:
        server.end()

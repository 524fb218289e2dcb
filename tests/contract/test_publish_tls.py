"""Publishing over TLS, with a user: in a Cluster, and through Sentinels that have a user of their own."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import publisher
from publisher import aio

from .certificates import Authority
from .clusters import cluster_port
from .deadlines import PATIENCE, wait_for
from .events import progress
from .processes import free_port
from .sentinels import NAME
from .servers import program

Start = Callable[..., "TlsServer"]
SENTINEL_RIGHTS = "-@all +sentinel|master +sentinel|get-master-addr-by-name"


class TlsServer:
    """One process that speaks TLS only."""

    def __init__(self, authority: Authority, directory: Path, *lines: str, sentinel: bool = False) -> None:
        self.port, self.ca = cluster_port(), authority.certificate  # in a Cluster it has a bus besides
        directory.mkdir()
        certificate, key = authority.sign(f"server_{self.port}")
        config = directory / "server.conf"
        tls = ["port 0", f"tls-port {self.port}", f"tls-cert-file {certificate}", f"tls-key-file {key}"]
        tls += [f"tls-ca-cert-file {self.ca}", "tls-auth-clients no", "bind 127.0.0.1", f"dir {directory}"]
        config.write_text("\n".join([*tls, *lines]) + "\n")
        words = [program("redis"), str(config), *(["--sentinel"] if sentinel else [])]
        with (directory / "server.log").open("wb") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.client: Any = redis.Redis("127.0.0.1", self.port, ssl=True, ssl_ca_certs=str(self.ca), protocol=2)

    def answers(self) -> bool:
        try:
            return bool(self.client.execute_command("PING"))
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def end(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait(PATIENCE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    authority, servers = Authority(tmp_path / "authority", "ca"), list[TlsServer]()

    def start(*lines: str, sentinel: bool = False) -> TlsServer:
        servers.append(TlsServer(authority, tmp_path / f"server_{len(servers)}", *lines, sentinel=sentinel))
        wait_for(servers[-1].answers, "the server")
        return servers[-1]

    yield start
    for server in servers:
        server.end()


async def test_a_cluster_over_tls(start: Start, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = start("cluster-enabled yes", "tls-cluster yes", 'save ""', "requirepass s%cret")
    _say(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    wait_for(lambda: b"cluster_state:ok" in _say(node, "CLUSTER", "INFO"), "the Cluster")
    monkeypatch.setenv("REDIS_URL", f"rediss+cluster://:s%25cret@127.0.0.1:{node.port}?ssl_ca_certs={node.ca}")
    assert isinstance(publisher.broadcast_to_project(project, progress("job"), strict=True), int)
    assert isinstance(await aio.broadcast_to_project(project, progress("job"), strict=True), int)


def _say(node: TlsServer, *words: str | int) -> Any:
    options: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(node.ca), "password": "s%cret", "protocol": 2}
    with redis.Redis("127.0.0.1", node.port, **options) as client:
        return client.execute_command(*words)


@pytest.mark.parametrize("is_known", [True, False])
async def test_sentinels_over_tls_with_a_user_of_their_own(
    start: Start, project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_known: bool
) -> None:
    primary = start('save ""')
    primary.client.execute_command("ACL", "SETUSER", "jobs", "on", ">secret", "~*", "&*", "+@all")
    monitor = f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 1"
    sentinel = start("tls-replication yes", monitor, sentinel=True)
    sentinel.client.execute_command("ACL", "SETUSER", "finder", "on", ">other", *SENTINEL_RIGHTS.split())
    options = f"ssl_ca_certs={primary.ca}&sentinel_username=finder&sentinel_password={'other' if is_known else 'wrong'}"
    places = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"  # nobody listens at the first
    monkeypatch.setenv("REDIS_URL", f"rediss+sentinel://jobs:secret@{places}/{NAME}/1?{options}")
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 1.0)
    seqs = [publisher.broadcast_to_project(project, progress("job"))]
    seqs.append(await aio.broadcast_to_project(project, progress("job")))
    if is_known:
        assert all(isinstance(seq, int) for seq in seqs)
        with redis.Redis("127.0.0.1", primary.port, db=1, ssl=True, ssl_ca_certs=str(primary.ca)) as client:
            state: Any = client.hgetall(f"{{project:{project}}}:jobs")
        assert json.loads(state[b"job\n"])["seq"] == seqs[-1]
    else:
        assert seqs == [None, None]
        assert "?sentinel_password=" in caplog.text
        assert "wrong" not in caplog.text.replace("WRONGPASS", "")

"""nginx and HAProxy, started with the files of deploy/: only addresses, ports and certificates are put in."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, environment, free_port, listens

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
KINDS = ("nginx", "haproxy")
SERVER = re.compile(r"gateway-(\d):3001")


class Balancer(Process):
    """A load balancer before replicas on these ports; one that does not run is to it a replica that is away."""

    files: Sequence[str]
    listens_at: str  # in the files
    listens_at_v6: str  # as well, in a comment
    tls_line: str

    def __init__(
        self,
        directory: Path,
        ports: Sequence[int],
        changes: Mapping[str, str] | None = None,
        *,
        certificate: tuple[Path, Path] | None = None,
        has_v6: bool = False,
    ) -> None:
        """`changes`: texts of the shipped files and what stands in their place, for controls and quick tests."""
        directory.mkdir(parents=True)
        self.directory = directory
        self.port = free_port()
        self.tls_port = free_port()
        self._has_v6 = has_v6
        self._configure(ports, changes or {}, certificate)
        super().__init__(self.command(), environment(None), directory / "log")

    def _configure(
        self, ports: Sequence[int], changes: Mapping[str, str], certificate: tuple[Path, Path] | None
    ) -> None:
        unused = dict(changes)
        for name in self.files:
            text = (DEPLOY / name).read_text()
            for old in changes:
                if old in text:
                    text = text.replace(old, unused.pop(old, changes[old]))
            text = SERVER.sub(lambda match: f"127.0.0.1:{ports[int(match[1]) - 1]}", text)
            text = text.replace(self.listens_at, f"{self.listens_at.split()[0]} 127.0.0.1:{self.port}")
            if self._has_v6:
                text = text.replace(f"# {self.listens_at_v6}", f"{self.listens_at_v6.split()[0]} [::1]:{self.port}")
            if certificate is not None:
                text = self.with_tls(text, *certificate)
            (self.directory / Path(name).name).write_text(text)
        assert not unused, f"not in the shipped files: {unused}"

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def check(self) -> subprocess.CompletedProcess[str]:
        """What the program itself says of its configuration."""
        raise NotImplementedError

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_listening(self) -> Self:
        def is_listening() -> bool:
            assert self.running(), self.log
            return listens(self.port)

        wait_for(is_listening, f"{type(self).__name__} to listen")
        return self


def program(name: str, package: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
    assert found, f"these tests need {name}: `tests/system-packages {package}`, or your system's own way"
    return found


class Nginx(Balancer):
    files = ("nginx/nginx.conf", "nginx/progress-gateway.conf", "nginx/progress-gateway-tls.conf")
    listens_at = "listen 80"
    listens_at_v6 = "listen [::]:80"

    def _configure(
        self, ports: Sequence[int], changes: Mapping[str, str], certificate: tuple[Path, Path] | None
    ) -> None:
        """Started by another user than root, it may not write where its package has it write."""
        if os.getuid():
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            places = " ".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)
            changes = {**changes, "http {": f"http {{ {places}"}
        super()._configure(ports, changes, certificate)

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        text = text.replace("# include progress-gateway-tls.conf;", "include progress-gateway-tls.conf;")
        text = text.replace("listen 443", f"listen 127.0.0.1:{self.tls_port}")
        text = text.replace("/etc/nginx/certificates/progress-gateway.pem", str(certificate))
        return text.replace("/etc/nginx/certificates/progress-gateway.key", str(key))

    def command(self, *words: str) -> list[str]:
        where = ["-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]
        return [program("nginx", "nginx-light"), *where, "-g", f"daemon off; pid {self.directory}/pid;", *words]

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("-t"), capture_output=True, text=True, timeout=20, check=False)


class HAProxy(Balancer):
    files = ("haproxy/haproxy.cfg",)
    listens_at = "bind :80"
    listens_at_v6 = "bind :::80"

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        pem = self.directory / "both.pem"
        pem.write_text(certificate.read_text() + key.read_text())
        text = text.replace("# bind :443", f"bind 127.0.0.1:{self.tls_port}")
        return text.replace("/etc/haproxy/certificates/progress-gateway.pem", str(pem))

    def command(self, *words: str) -> list[str]:
        return [program("haproxy", "haproxy"), *(words or ["-db"]), "-f", str(self.directory / "haproxy.cfg")]

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("-c"), capture_output=True, text=True, timeout=20, check=False)


def balancer_class(kind: str) -> type[Balancer]:
    return {"nginx": Nginx, "haproxy": HAProxy}[kind]

"""Load balancers, started with the files of deploy/: only addresses, ports, paths and certificates are put in."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, environment, free_port, listens

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
# Asks whether a balancer listens. HAProxy counts a connection for a moment longer than it lasts, and the tests of its
# limit come from 127.0.0.1.
PROBE_ADDRESS = "127.0.0.3"
SERVER = re.compile(r"gateway-(\d):3001")
ENVOY_SERVER = re.compile(r"address: gateway-(\d), port_value: 3001")


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
        super().__init__(self.command(), environment(None, HOME=directory), directory / "log")

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
            text = self.with_addresses(text)
            if certificate is not None:
                text = self.with_tls(text, *certificate)
            (self.directory / Path(name).name).write_text(text)
        assert not unused, f"not in the shipped files: {unused}"

    def with_addresses(self, text: str) -> str:
        text = text.replace(self.listens_at, f"{self.listens_at.split()[0]} 127.0.0.1:{self.port}")
        if self._has_v6:
            text = text.replace(f"# {self.listens_at_v6}", f"{self.listens_at_v6.split()[0]} [::1]:{self.port}")
        return text

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def check(self) -> subprocess.CompletedProcess[str]:
        """What the program itself says of its configuration."""
        raise NotImplementedError

    def reload(self, old: int, new: int) -> None:
        """As an operator does it: another replica, at another port, in the place of one."""
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
            return listens(self.port, PROBE_ADDRESS)

        wait_for(is_listening, f"{type(self).__name__} to listen")
        return self


def program(name: str, package: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
    assert found, f"these tests need {name}: `tests/system-packages {package}`, or your system's own way"
    return found


def tool(name: str) -> str:
    """A program that comes as a wheel."""
    path = DEPLOY.parent / ".venv" / ".deploy" / "bin" / name
    assert path.exists(), f"these tests need {name}: `make .venv/.deploy/.installed`"
    return str(path)


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


class Caddy(Balancer):
    files = ("caddy/Caddyfile",)

    def with_addresses(self, text: str) -> str:
        text = text.replace("unix//run/caddy/admin.sock|0200", f"unix/{self.directory}/admin.sock|0200")
        both = "127.0.0.1 [::1]" if self._has_v6 else "127.0.0.1"
        return text.replace("\n:80 {\n", f"\nhttp://:{self.port} {{\n\tbind {both}\n")

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        head, own = text.split("# With a certificate of yours:\n")
        own = own.replace("# ", "").replace(":443 {\n", f":{self.tls_port} {{\n\tbind 127.0.0.1\n")
        own = own.replace("/etc/caddy/certificates/progress-gateway.pem", str(certificate))
        return head + own.replace("/etc/caddy/certificates/progress-gateway.key", str(key))

    def command(self, *words: str) -> list[str]:
        return [tool("caddy"), *(words or ["run"]), "--config", str(self.directory / "Caddyfile")]

    def check(self) -> subprocess.CompletedProcess[str]:
        return run_to_end(self.command("validate"))

    def reload(self, old: int, new: int) -> None:
        path = self.directory / "Caddyfile"
        path.write_text(with_port(path.read_text(), old, new))
        done = run_to_end(self.command("reload"))
        assert done.returncode == 0, done.stderr


class Traefik(Balancer):
    files = ("traefik/traefik.yaml", "traefik/progress-gateway.yaml")

    def with_addresses(self, text: str) -> str:
        text = text.replace("/etc/traefik/progress-gateway.yaml", str(self.directory / "progress-gateway.yaml"))
        return text.replace('address: ":80"', f'address: "{"" if self._has_v6 else "127.0.0.1"}:{self.port}"')

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        listens = f'  tls:\n    address: "127.0.0.1:{self.tls_port}"\n    http:'
        text = text.replace('  # tls:\n  #   address: ":443"\n  #   http:', listens)
        head, mark, own = text.partition("# tls:\n#   certificates:")
        own = (mark + own).replace("# ", "").replace("/etc/traefik/certificates/progress-gateway.pem", str(certificate))
        return head + own.replace("/etc/traefik/certificates/progress-gateway.key", str(key)).replace("#", " ")

    def command(self) -> list[str]:
        return [tool("traefik"), f"--configfile={self.directory / 'traefik.yaml'}"]

    def wait_listening(self) -> Self:
        """It listens before it has read its routes."""
        super().wait_listening()
        with httpx.Client(trust_env=False, timeout=5) as client:
            wait_for(lambda: client.get(f"{self.http}/healthz").status_code != 404, "Traefik to have its routes")
        return self

    def check(self) -> subprocess.CompletedProcess[str]:
        """Traefik has no command for it: it ends or logs an error when it reads a file that it does not understand."""
        is_wrong = not self.running() or "ERR" in self.log or '"level":"error"' in self.log
        return subprocess.CompletedProcess(self.command(), int(is_wrong), "", self.log)

    def reload(self, old: int, new: int) -> None:
        replace(self.directory / "progress-gateway.yaml", old, new)


class Envoy(Balancer):
    files = ("envoy/envoy.yaml", "envoy/replicas.yaml")

    def with_addresses(self, text: str) -> str:
        text = text.replace("/etc/envoy/replicas.yaml", str(self.directory / "replicas.yaml"))
        text = text.replace("address: 0.0.0.0, port_value: 80}", f"address: 127.0.0.1, port_value: {self.port}}}")
        if self._has_v6:
            v6 = f'additional_addresses: [{{address: {{socket_address: {{address: "::1", port_value: {self.port}}}}}}}]'
            text = re.sub(r"# additional_addresses.*", v6, text)
        return text

    def _configure(
        self, ports: Sequence[int], changes: Mapping[str, str], certificate: tuple[Path, Path] | None
    ) -> None:
        super()._configure(ports, changes, certificate)
        path = self.directory / "replicas.yaml"
        text = path.read_text()

        def address(match: re.Match[str]) -> str:
            return f"address: 127.0.0.1, port_value: {ports[int(match[1]) - 1]}"

        path.write_text(ENVOY_SERVER.sub(address, text))

    def with_tls(self, text: str, certificate: Path, key: Path) -> str:
        head, mark, own = text.partition("    # - name: tls\n")
        own = (mark + own).replace("    # ", "    ")
        own = own.replace("address: 0.0.0.0, port_value: 443", f"address: 127.0.0.1, port_value: {self.tls_port}")
        own = own.replace("/etc/envoy/certificates/progress-gateway.pem", str(certificate))
        return head + own.replace("/etc/envoy/certificates/progress-gateway.key", str(key))

    def command(self, *words: str) -> list[str]:
        # One worker, and no shared memory: other Envoys run on this machine.
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        options += ["--file-flush-interval-msec", "100"]
        return [tool("envoy"), "-c", str(self.directory / "envoy.yaml"), *options, *words]

    def check(self) -> subprocess.CompletedProcess[str]:
        return run_to_end(self.command("--mode", "validate"))

    def reload(self, old: int, new: int) -> None:
        replace(self.directory / "replicas.yaml", old, new)


def replace(path: Path, old: int, new: int) -> None:
    """In one step, for a program that watches it."""
    beside = path.with_suffix(".new")
    beside.write_text(with_port(path.read_text(), old, new))
    beside.rename(path)


def with_port(text: str, old: int, new: int) -> str:
    changed = re.sub(rf"(127\.0\.0\.1:|port_value: ){old}\b", rf"\g<1>{new}", text)
    assert changed != text
    return changed


def run_to_end(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment(None), capture_output=True, text=True, timeout=30, check=False)


CLASSES: dict[str, type[Balancer]] = {
    "nginx": Nginx,
    "haproxy": HAProxy,
    "caddy": Caddy,
    "traefik": Traefik,
    "envoy": Envoy,
}
KINDS = ("nginx", "haproxy")  # of Debian: all tests
WHEELS = ("caddy", "traefik", "envoy")  # of pip: test_wheels.py, and `python -m tests.rolling`


def balancer_class(kind: str) -> type[Balancer]:
    return CLASSES[kind]

"""`make image-check`: builds the Dockerfile with buildah, and runs the image as its user on a read-only file system.

It needs root on Debian or Ubuntu, and no container engine: the build is isolated by chroot, the run by bubblewrap. If
no registry can be reached, a Debian made by debootstrap stands for the base image. Network and process ids are those of
this machine, so what only an engine gives (its network, its limits) is not tried.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer, free_port

from .container import Config, bubblewrap, missing

ROOT = Path(__file__).parents[2]
PULL_SECONDS = 60
PACKAGES = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # those of this machine: a network may have one of its own
WRITES = "open('/opt/gateway/file', 'w')"


class Builder:
    """buildah, with a storage of its own below `work`."""

    def __init__(self, work: Path) -> None:
        self._words = ["buildah", "--root", f"{work}/storage", "--runroot", f"{work}/run", "--storage-driver", "vfs"]
        self._work = work

    def run(self, *words: str, timeout: float | None = None) -> str:
        """What it prints on its output; its progress is shown as it comes. Raises `CalledProcessError`."""
        done = subprocess.run([*self._words, *words], stdout=subprocess.PIPE, text=True, check=True, timeout=timeout)
        return done.stdout.strip()

    def base(self, image: str) -> str:
        """The base image from a registry, or one that stands for it; its name."""
        try:
            self.run("pull", "--quiet", image, timeout=PULL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            print(f"{image} cannot be pulled: a Debian by debootstrap stands for it", flush=True)
            return self.import_directory(debian(self._work / "debian"))
        return image

    def import_directory(self, directory: Path) -> str:
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(directory), "/")
        self.run("commit", "--quiet", container, "localhost/base")
        return "localhost/base"

    def build(self, base: str) -> None:
        self.run(
            "build", "--isolation", "chroot", "--network", "host", "--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro",
            "--build-arg", f"PYTHON_IMAGE={base}", "--format", "docker", "--tag", "localhost/gateway", str(ROOT),
        )  # fmt: skip

    def config(self) -> Config:
        return Config.read(json.loads(self.run("inspect", "--type", "image", "localhost/gateway")))

    def mount(self) -> Path:
        return Path(self.run("mount", self.run("from", "localhost/gateway")))


def debian(directory: Path) -> Path:
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )["VERSION_CODENAME"].strip('"')  # fmt: skip
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, directory], check=True)
    return directory


def check(config: Config, root: Path) -> None:
    """Start the image before a Redis of this machine, and look at it as an engine would."""
    redis, port = RedisServer(), free_port()
    variables = {"REDIS_URL": redis.url, "GATEWAY_PORT": str(port)}
    serving = subprocess.Popen(bubblewrap(config, root, config.entrypoint + config.command, variables))
    try:
        with httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}") as http:

            def is_ready() -> bool:
                assert serving.poll() is None, f"the image ended with {serving.returncode}"
                try:
                    return http.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            wait_for(is_ready, "/readyz of the image", 60)
            assert "Progress" in http.get("/").text

        def status(*words: str) -> int:
            return subprocess.run(bubblewrap(config, root, [*words], variables), check=False).returncode

        assert status(*config.health) == 0, "the health check of a replica that lives"
        assert status("python", "-c", f"import os; assert os.getuid() == {config.user}, os.getuid()") == 0
        assert status("sh", "-c", f'! python -c "{WRITES}" 2>/dev/null') == 0, "its file system can be written to"
        # bubblewrap is the parent; a signal to it would not reach the replica as one from an engine does.
        subprocess.run(["pkill", "-TERM", "-P", str(serving.pid)], check=True)
        assert serving.wait(30) == 0, "its end after SIGTERM"
        assert status(*config.health) == 1, "the health check of a replica that has ended"
    finally:
        serving.kill()
        serving.wait()
        redis.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make image-check", description=__doc__)
    parser.add_argument("--base", type=Path, help="a directory with a Debian and its Python, instead of making one")
    arguments = parser.parse_args()
    if needs := missing():
        sys.exit(f"make image-check needs {needs}")
    work = Path(tempfile.mkdtemp(prefix="gateway-image-check-"))
    builder = Builder(work)
    try:
        [named] = [
            line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG PYTHON_IMAGE=")
        ]
        base = builder.import_directory(arguments.base) if arguments.base else builder.base(named.partition("=")[2])
        builder.build(base)
        config, root = builder.config(), builder.mount()
        check(config, root)
        size = sum(file.lstat().st_size for file in (root / "opt").rglob("*"))
        print(
            f"The image builds on {base}, serves as user {config.user} and writes nothing; /opt has {size >> 20} MiB."
        )
        for name, value in sorted(config.labels.items()):
            print(f"  {name}={value}")
    finally:
        for words in (["umount", "--all"], ["rm", "--all"]):
            subprocess.run([*builder._words, *words], stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

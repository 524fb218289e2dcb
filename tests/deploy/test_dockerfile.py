"""The Dockerfile's own steps, replayed as another user in a clean venv; and what they make, started."""

import contextlib
import json
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator

import httpx

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer, free_port, listens

from .image import DOCKERFILE, ROOT, UID, Image, instructions, is_sent

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
LIST = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"


def run(image: Image, *command: str, **variables: object) -> tuple[int, str]:
    """The exit status of a command of the image, and what it printed."""
    process = image.start([*command], **variables)
    text = process.communicate(timeout=30)[0].decode()
    return process.returncode, text


def output(image: Image, *command: str) -> str:
    status, text = run(image, *command)
    assert status == 0, text
    return text


def locked() -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements-image.lock").read_text(), re.MULTILINE)
    return {name.lower(): version for name, version in pins}


def test_it_has_what_a_replica_needs_in_the_versions_of_the_lock_file_and_nothing_else(image: Image) -> None:
    installed = json.loads(output(image, "python", "-c", LIST))
    assert installed.pop("progress-gateway") == VERSION
    assert installed
    for name, version in installed.items():
        assert locked()[re.sub(r"[-_.]+", "-", name).lower()] == version
    assert not {"pip", "setuptools", "hatchling", "pytest"} & installed.keys()


@contextlib.contextmanager
def container(image: Image, redis_url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """What the image starts, and the port it listens on."""
    port = free_port()
    process = image.start(image.entrypoint + image.command, REDIS_URL=redis_url, GATEWAY_PORT=port)
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, "the port")
        yield process, port
    finally:
        process.kill()
        process.communicate()


def test_a_container_serves_and_ends_in_order(image: Image, redis_server: RedisServer) -> None:
    with (
        container(image, redis_server.url) as (process, port),
        httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}") as http,
    ):
        wait_for(lambda: http.get("/readyz").status_code == 200, "/readyz")
        assert http.get("/healthz").status_code == 200
        assert "Progress" in http.get("/").text, "its own page is in the wheel"
        process.send_signal(signal.Signals[image.stop_signal])
        assert process.wait(60) == 0


def test_its_health_check_says_whether_the_replica_lives(image: Image, redis_server: RedisServer) -> None:
    with container(image, redis_server.url) as (process, port):
        assert run(image, *image.healthcheck, GATEWAY_PORT=port)[0] == 0
        process.kill()
        process.wait()
        assert run(image, *image.healthcheck, GATEWAY_PORT=port)[0] == 1


def test_it_can_trace(image: Image) -> None:
    """What the chart's `tracing.enabled` runs sets a provider, with an exporter."""
    code = (
        "from opentelemetry import trace; from opentelemetry.instrumentation.auto_instrumentation import initialize\n"
        "initialize(); print(type(trace.get_tracer_provider()).__module__)"
    )
    assert output(image, "python", "-c", code).split() == ["opentelemetry.sdk.trace"]
    assert "usage: opentelemetry-instrument" in output(image, "opentelemetry-instrument", "--help")


def test_it_runs_as_a_user_by_number_who_may_write_nothing(image: Image) -> None:
    assert image.user == f"{UID}:{UID}"
    if image.is_root:
        assert output(image, "python", "-c", "import os; print(os.getuid(), os.getgid())").split() == [str(UID)] * 2
        prefix = json.loads(output(image, "python", "-c", "import json, sys; print(json.dumps(sys.prefix))"))
        attempt = f"open({prefix + '/probe'!r}, 'w')"
        assert run(image, "python", "-c", attempt)[0] == 1


def test_it_names_the_version_that_it_has(image: Image) -> None:
    assert image.labels["org.opencontainers.image.version"] == VERSION
    assert {f"org.opencontainers.image.{name}" for name in ("source", "revision", "created")} <= image.labels.keys()
    assert f'"progress-gateway[gateway,otel]=={VERSION}"' in DOCKERFILE.read_text()
    assert f"progress-gateway:{VERSION} " in DOCKERFILE.read_text()


def test_its_python_is_the_one_that_the_tests_have_or_a_newer_one() -> None:
    version = re.search(r"python:(\d+)\.(\d+)\.\d+-slim", DOCKERFILE.read_text())
    assert version, "a base with its full version"
    assert (int(version[1]), int(version[2])) >= (3, 11)


def test_nothing_but_what_is_copied_is_sent_to_the_builder() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    copied = {
        source.rstrip("/")
        for name, text in instructions(DOCKERFILE.read_text())
        if name == "COPY"
        for source in text.split()[:-1]
    }
    sent = {path.split("/")[0] for path in tracked if is_sent(path, ignored)}
    assert sent == {source for source in copied if not source.startswith(("--from", "/"))}
    assert not is_sent("gateway/__pycache__/app.cpython-311.pyc", ignored)
    assert not is_sent(".venv/bin/python", ignored)


def test_a_changed_wheel_would_not_be_installed(image: Image) -> None:
    """The control of --require-hashes: the same step with another hash in the lock file."""
    place = image.root / "src" / "requirements-image.lock"
    pin, first_hash = re.search(
        r"^(six==\S+|click==\S+).*?sha256:([0-9a-f]{64})", place.read_text(), re.M | re.S
    ).groups()  # type: ignore[union-attr]
    wrong = image.root / "wrong.lock"
    wrong.write_text(f"{pin} --hash=sha256:{first_hash[::-1]}\n")
    pip = [str(image.root / "base" / "bin" / "pip"), "wheel", "--quiet", "--no-deps", "--require-hashes"]
    step = subprocess.run(
        [*pip, "--no-index", "--find-links", str(image.root / "wheels"), "--wheel-dir", str(image.root), "-r", wrong],
        capture_output=True,
        text=True,
        check=False,
    )
    assert step.returncode != 0
    assert "DO NOT MATCH" in step.stderr

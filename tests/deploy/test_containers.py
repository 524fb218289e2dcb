"""What Kubernetes and Compose would start, started as processes of the image: their settings, commands and probes."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.deadlines import PATIENCE, wait_for
from tests.contract.processes import RedisServer, free_port

from .image import Image
from .tools import ROOT, passes, rendered

KEY = "k" * 32
VALUES = {"publishing": {"enabled": True}, "gateway": {"lameDuckSeconds": 1}}


class Pod:
    """The chart's pod: its command, with its ConfigMap as environment and its Secret as files."""

    def __init__(self, image: Image, redis_url: str, directory: Path) -> None:
        objects = rendered(**VALUES)
        self.spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
        [self.container] = self.spec["containers"]
        self.ports = {port["name"]: free_port() for port in self.container["ports"]}
        self.tests_code: str = objects["Pod"]["spec"]["containers"][0]["args"][0]
        self.service = f"{objects['Service']['metadata']['name']}:{objects['Service']['spec']['ports'][0]['port']}"
        [mount] = self.container["volumeMounts"]
        secret = {"redis-url": redis_url, "publish-keys": KEY}
        for item in self.spec["volumes"][0]["secret"]["items"]:
            (directory / item["path"]).write_text(secret[item["key"]] + "\n")
        settings = objects["ConfigMap"]["data"] | {
            "GATEWAY_PORT": self.ports["http"],
            "GATEWAY_ADMIN_PORT": self.ports["admin"],
        }
        env = {name: str(value).replace(mount["mountPath"], str(directory)) for name, value in settings.items()}
        self.process = image.start(image.entrypoint + self.container["args"], **env)

    def probe(self, name: str) -> bool:
        """Whether the kubelet would be content."""
        get = self.container[name]["httpGet"]
        try:
            with httpx.Client(trust_env=False) as http:
                return http.get(f"http://127.0.0.1:{self.ports[get['port']]}{get['path']}").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def pod(image: Image, redis_server: RedisServer, tmp_path: Path) -> Iterator[Pod]:
    pod = Pod(image, redis_server.url, tmp_path)
    try:
        yield pod
    finally:
        pod.process.kill()
        pod.process.communicate()


def test_a_pod_answers_its_probes_and_ends_within_its_grace(pod: Pod, image: Image) -> None:
    startup = pod.container["startupProbe"]
    wait_for(lambda: pod.probe("startupProbe"), "startup", startup["periodSeconds"] * startup["failureThreshold"])
    wait_for(lambda: pod.probe("readinessProbe"), "readiness")
    assert pod.probe("livenessProbe")

    code = pod.tests_code.replace(pod.service, f"127.0.0.1:{pod.ports['http']}")
    assert code != pod.tests_code
    test = image.start(["python", "-c", code])
    assert '"ready":true' in test.communicate(timeout=PATIENCE)[0].decode()
    assert test.returncode == 0, "`helm test`"

    pod.process.send_signal(signal.Signals[image.stop_signal])
    wait_for(lambda: not pod.probe("readinessProbe"), "its Service to leave it out")
    assert pod.process.wait(pod.spec["terminationGracePeriodSeconds"]) == 0


def test_what_is_for_operators_is_on_the_admin_port_alone(pod: Pod, project: str) -> None:
    wait_for(lambda: pod.probe("readinessProbe"), "readiness")
    event = {"type": "progress", "jobId": "job", "jobType": "script", "progress": 1}
    with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as http:
        for port, metrics, posted in [("admin", 200, 202), ("http", 404, 404)]:
            base = f"http://127.0.0.1:{pod.ports[port]}"
            assert http.get(f"{base}/metrics").status_code == metrics
            assert http.post(f"{base}/projects/{project}/events", json=event).status_code == posted


@contextlib.contextmanager
def jobs(image: Image, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service `jobs` of docker-compose.yml."""
    config = json.loads(passes("docker-compose", "-f", ROOT / "docker-compose.yml", "config", "--format", "json"))
    service = config["services"]["jobs"]
    command = [word.replace("$$", "$") for word in service["entrypoint"] + service["command"]]
    process = image.start(command, REDIS_URL=redis_url)
    try:
        yield process
    finally:
        for child in image.children(process):
            child.kill()
        process.kill()
        process.communicate()


def test_the_demonstrations_jobs_publish(image: Image, own_redis: RedisServer) -> None:
    with jobs(image, own_redis.url) as process:
        wait_for(lambda: bool(own_redis.command("EXISTS", "{project:demo}:jobs")), "the first event")
        kinds = ("script", "audio", "image", "video", "export")
        wait_for(
            lambda: all(
                any(kind in str(job) for job in own_redis.command("HKEYS", "{project:demo}:jobs")) for kind in kinds
            ),
            "an event of each kind",
            2 * PATIENCE,
        )
        assert process.poll() is None

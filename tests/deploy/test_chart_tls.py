"""An installation whose Redis asks for TLS and a client's certificate, both of an authority of its own.

What the chart renders for it fits Kubernetes' schemas. A replica with that environment and those files at those paths
(below a directory instead of /) delivers an event.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.contract.certificates import Authority
from tests.contract.client import watching
from tests.contract.events import progress
from tests.contract.processes import Replica, environment, free_port, run_gateway
from tests.contract.servers import Server

from .tools import passes, rendered

OPTIONS = "ssl_ca_certs=/etc/redis-tls/ca.crt&ssl_certfile=/etc/redis-tls/tls.crt&ssl_keyfile=/etc/redis-tls/tls.key"
TLS = {"ca": {"configMapName": "authority", "key": "bundle.pem"}, "client": {"secretName": "gateway-certificate"}}
KEY = "k" * 32
Stores = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """The Secrets and ConfigMaps that an operator makes, for a Redis that runs here."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory, "authority")
    certificate, key = authority.sign("server")
    mine, my_key = authority.sign("client")
    port = free_port()
    server = Server(
        "redis", directory / "server", "--tls-port", str(port), "--tls-auth-clients", "yes",
        "--tls-ca-cert-file", str(authority.certificate), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key),
    )  # fmt: skip
    yield {
        ("secret", "progress-gateway"): {"redis-url": f"rediss://127.0.0.1:{port}/0?{OPTIONS}", "publish-keys": KEY},
        ("secret", "gateway-certificate"): {"tls.crt": mine.read_text(), "tls.key": my_key.read_text()},
        ("configMap", "authority"): {"bundle.pem": authority.certificate.read_text()},
    }
    server.end()


def environment_of(objects: dict[str, Any], stores: Stores, root: Path) -> dict[str, str]:
    """What the kubelet would give the container: the files of its volumes below `root`, and its environment."""
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]

    def below_root(text: str) -> str:
        for path in paths:
            text = text.replace(path, str(root) + path)
        return text

    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        place = root / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True)
        for source in volume["projected"]["sources"] if "projected" in volume else [volume]:
            [kind] = source.keys() & {"secret", "configMap"}
            store = stores[kind, source[kind].get("name") or source[kind]["secretName"]]
            for item in source[kind]["items"]:
                (place / item["path"]).write_text(below_root(store[item["key"]]))
    return {name: below_root(value) for name, value in objects["ConfigMap"]["data"].items()}


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_knows_every_field_of_it(version: str, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(rendered(redis={"tls": TLS})["Deployment"]))
    assert "INFO" in passes("kubernetes-validate", "--strict", "-k", version, tmp_path / "deployment.yaml")


async def test_a_replica_of_it_delivers(stores: Stores, project: str, tmp_path: Path) -> None:
    env = environment_of(rendered(redis={"tls": TLS}, publishing={"enabled": True}), stores, tmp_path)
    port, admin = free_port(), free_port()  # those of the chart may be taken here
    settings: dict[str, Any] = env | {"port": port, "GATEWAY_PORT": port, "GATEWAY_ADMIN_PORT": admin}
    replica = Replica(None, tmp_path / "log", **settings)
    try:
        replica.wait_ready()
        async with watching(replica.ws, project) as client, httpx.AsyncClient(trust_env=False) as http:
            url = f"http://127.0.0.1:{admin}/projects/{project}/events"
            posted = await http.post(url, json=progress("job", 7), headers={"Authorization": f"Bearer {KEY}"})
            assert posted.status_code == 202, posted.text
            assert (await client.expect("progress"))["progress"] == 7
    finally:
        replica.end()


def test_it_would_not_start_without_the_clients_certificate(stores: Stores, tmp_path: Path) -> None:
    """The control: the same Secret, without the volume."""
    env = environment_of(rendered(redis={"tls": TLS | {"client": {"secretName": ""}}}), stores, tmp_path)
    env |= {"GATEWAY_PORT": "0", "GATEWAY_ADMIN_PORT": "0", "GATEWAY_REDIS_WAIT_SECONDS": "0"}
    ended = run_gateway("serve", env=environment(None, **env))
    assert ended.returncode == 78, ended.stderr
    assert "tls.crt" in ended.stderr

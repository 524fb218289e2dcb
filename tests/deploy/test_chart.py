"""The chart, by Helm itself; and what it renders, by Kubernetes' own schemas."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.processes import environment, run_gateway

from .tools import CHART, DEPLOY, ROOT, passes, refusal_among, refused, rendered, tool

EVERYTHING: dict[str, Any] = {
    "publishing": {"enabled": True},
    "adminKeys": {"enabled": True},
    "auth": {"enabled": True, "cookie": "progress", "audience": "gateway", "anonymousProjects": ["demo"]},
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "gateway": {
        "origins": ["https://app.example.com"],
        "hosts": ["progress.example.com"],
        "extraSettings": {"GATEWAY_SLOW_SECONDS": "30", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    },
    "redis": {"tls": {"ca": {"configMapName": "authority"}, "client": {"secretName": "client"}}},
    "tracing": {"enabled": True},
    "env": [
        {"name": "TZ", "value": "UTC"},
        {"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": {"secretKeyRef": {"name": "otel", "key": "headers"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ],
    "envFrom": [{"secretRef": {"name": "more", "optional": True}}],
    "extraVolumes": [
        {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "bundle", "projected": {"sources": [{"configMap": {"name": "bundle"}}]}},
    ],
    "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "bundle", "mountPath": "/bundle"}],
    "serviceAccount": {"create": True, "annotations": {"role": "gateway"}},
    "podLabels": {"team": "web"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 1,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app": "redis"}},
                    },
                }
            ]
        },
    },
    "ingress": {"enabled": True, "tlsSecretName": "tls"},
    "nodeSelector": {"pool": "web"},
    "tolerations": [{"key": "web", "operator": "Exists"}],
    "priorityClassName": "high",
    "podAnnotations": {"a": "b"},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "networkPolicy": {
        "clientsFrom": [{"podSelector": {}}],
        "redisTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "extraEgress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
    },
    "monitoring": {"dashboard": {"enabled": True}},
}
CUSTOM = {"monitoring": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}}
NOTHING: dict[str, Any] = {
    name: {"enabled": False} for name in ("podDisruptionBudget", "autoscaling", "topologySpread", "networkPolicy")
}
VERSIONS = ["1.30", "1.37"]


@pytest.mark.parametrize("values", [{}, EVERYTHING, NOTHING], ids=["defaults", "everything", "nothing"])
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_that_is_rendered(values: dict[str, Any], version: str, tmp_path: Path) -> None:
    objects = rendered(**values)
    assert "Deployment" in objects
    for kind, document in objects.items():
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(document))
    said = passes("kubernetes-validate", "--strict", "-k", version, *sorted(tmp_path.glob("*.yaml")))
    assert said.count("INFO") == len(objects), said


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_the_plain_manifests(version: str) -> None:
    said = passes("kubernetes-validate", "--strict", "-k", version, *sorted((DEPLOY / "k8s").glob("*.yaml")))
    assert said.count("INFO") == 7
    assert "WARN" not in said


def test_a_misspelt_field_would_be_found(tmp_path: Path) -> None:
    wrong = (DEPLOY / "k8s" / "deployment.yaml").read_text().replace("minReadySeconds", "minReadySecond")
    (tmp_path / "wrong.yaml").write_text(wrong)
    assert tool("kubernetes-validate", "--strict", "-k", "1.30", tmp_path / "wrong.yaml").returncode != 0


@pytest.mark.parametrize("values", [{}, EVERYTHING, CUSTOM], ids=["defaults", "everything", "monitoring"])
def test_helms_lint_finds_nothing(values: dict[str, Any]) -> None:
    report = json.loads(passes("python", DEPLOY / "helm" / "render.py", "--lint", json.dumps(values)))
    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_the_plain_manifests_are_what_the_chart_renders() -> None:
    made = json.loads(passes("python", DEPLOY / "helm" / "render.py", "--manifests"))
    folder = DEPLOY / "k8s"
    written = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}
    del written["examples/keda.yaml"]
    assert written == made, "make manifests"


def test_the_values_have_a_schema_that_is_one() -> None:
    passes("check-jsonschema", "--check-metaschema", CHART / "values.schema.json")
    passes("check-jsonschema", "--schemafile", CHART / "values.schema.json", CHART / "values.yaml")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 3}, "'replicas' not allowed"),
    ({"gateway": {"drainSecond": 20}}, "'drainSecond' not allowed"),
    ({"gateway": {"drainSeconds": "20"}}, "want integer"),
    ({"gateway": {"port": 70000}}, "maximum"),
    ({"gateway": {"origins": ["app.example.com"]}}, "does not match"),
    ({"gateway": {"origins": ["https://*.example.com"]}}, "does not match"),
    ({"gateway": {"origins": ["https://app.example.com:443"]}}, "'not' failed"),
    ({"gateway": {"host": "127.0.0.1"}}, "one of '0.0.0.0', '::'"),
    ({"gateway": {"logFormat": "yaml"}}, "one of 'json', 'text'"),
    ({"gateway": {"extraSettings": {"GATEWAY_PORT": "1"}}}, "GATEWAY_PORT"),
    ({"gateway": {"extraSettings": {"REDIS_URL": "redis://secret"}}}, "REDIS_URL"),
    ({"image": {"digest": "latest"}}, "does not match"),
    ({"terminationGracePeriodSeconds": 59}, "pods are killed while they drain"),
    ({"gateway": {"drainSeconds": 36}}, "pods are killed while they drain"),
    ({"gateway": {"lameDuckSeconds": 36}}, "pods are killed while they drain"),
    ({"preStopSeconds": 5}, "'preStopSeconds' not allowed"),
    ({"gateway": {"port": 3002}}, "are the same"),
    ({"autoscaling": {"minReplicas": 31}}, "above autoscaling.maxReplicas"),
    ({"httpRoute": {"enabled": True}}, "needs a Gateway"),
    ({"auth": {"enabled": True, "kind": "jwksUrl"}}, "auth.jwksUrl must be set"),
    ({"auth": {"enabled": True, "cookie": "progress"}}, "auth.cookie needs gateway.origins"),
    ({"auth": {"enabled": True, "kind": "password"}}, "one of 'secret', 'publicKeys', 'jwksUrl'"),
    ({"gateway": {"extraSettings": {"GATEWAY_JWT_SECRET": "s"}}}, "GATEWAY_JWT_SECRET"),
]


@pytest.mark.parametrize(("values", "says"), MISTAKES, ids=str)
def test_wrong_values_are_refused(values: dict[str, Any], says: str) -> None:
    assert says in refusal_among([wrong for wrong, _ in MISTAKES], values)


@pytest.mark.parametrize(
    ("kind", "variable"), [("secret", "GATEWAY_JWT_SECRET_FILE"), ("publicKeys", "GATEWAY_JWT_PUBLIC_KEYS_FILE")]
)
def test_keys_of_tokens_are_mounted_and_not_in_the_environment(kind: str, variable: str) -> None:
    objects = rendered(auth={"enabled": True, "kind": kind, "issuer": "app"})
    settings = objects["ConfigMap"]["data"]
    assert settings["GATEWAY_AUTH"] == "jwt"
    assert settings[variable] == "/etc/progress-gateway/token-keys"
    assert settings["GATEWAY_JWT_ISSUER"] == "app"
    [volume] = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"key": "token-keys", "path": "token-keys"} in volume["secret"]["items"]


def test_keys_from_a_url_need_no_secret_and_a_way_out() -> None:
    objects = rendered(auth={"enabled": True, "kind": "jwksUrl", "jwksUrl": "https://id.example/jwks.json"})
    assert objects["ConfigMap"]["data"]["GATEWAY_JWT_JWKS_URL"] == "https://id.example/jwks.json"
    assert "token-keys" not in str(objects["Deployment"])
    assert "443" in str(objects["NetworkPolicy"]["spec"]["egress"])
    assert "GATEWAY_AUTH" not in rendered()["ConfigMap"]["data"]


def test_replicas_listen_on_ipv6_where_they_are_told() -> None:
    assert rendered()["ConfigMap"]["data"]["GATEWAY_HOST"] == "0.0.0.0"
    assert rendered(gateway={"host": "::"})["ConfigMap"]["data"]["GATEWAY_HOST"] == "::"


def test_the_pod_of_helms_test_may_reach_replicas_that_take_few_clients() -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "proxy"}}}]
    objects = rendered(networkPolicy={"clientsFrom": peers})
    clients = objects["NetworkPolicy"]["spec"]["ingress"][0]
    assert clients["from"] == [*peers, {"podSelector": {"matchLabels": objects["Pod"]["metadata"]["labels"]}}]


def test_a_pod_has_no_right_that_it_does_not_need() -> None:
    spec = rendered()["Deployment"]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "GATEWAY_PORT=tcp://... would be taken for a setting"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_rollout_takes_no_pod_before_another_is_there() -> None:
    spec = rendered()["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] == 30
    [container] = spec["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("wait", [0, 30, 60, 86_400])
def test_a_pod_may_wait_for_redis_as_long_as_it_is_told(wait: int) -> None:
    """For Redis, then for events; both times it answers nobody."""
    objects = rendered(gateway={"redisWaitSeconds": wait})
    assert objects["ConfigMap"]["data"]["GATEWAY_REDIS_WAIT_SECONDS"] == str(wait)
    [container] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 2 * wait + 30, "else it is killed while it waits"


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_a_replica_takes_every_setting_that_it_gives(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "redis-url").write_text("redis://gateway:secret@redis:6379/0")
    (tmp_path / "publish-keys").write_text("k" * 32)
    (tmp_path / "admin-keys").write_text("a" * 32)
    (tmp_path / "token-keys").write_text("s" * 32)
    data = rendered(**values)["ConfigMap"]["data"]
    env = {name: value.replace("/etc/progress-gateway", str(tmp_path)) for name, value in data.items()}
    checked = run_gateway("serve", "--check-config", env=environment(None, **env))
    assert checked.returncode == 0, checked.stderr


def test_secrets_are_files_and_never_in_a_config_map_or_the_environment() -> None:
    objects = rendered(**EVERYTHING)
    data = objects["ConfigMap"]["data"]
    assert data["REDIS_URL_FILE"] == "/etc/progress-gateway/redis-url"
    assert data["GATEWAY_PUBLISH_KEYS_FILE"] == "/etc/progress-gateway/publish-keys"
    assert data["GATEWAY_ADMIN_KEYS_FILE"] == "/etc/progress-gateway/admin-keys"
    assert not {"REDIS_URL", "GATEWAY_PUBLISH_KEYS"} & data.keys()
    assert "Secret" not in objects
    volume = objects["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    assert [item["path"] for item in volume["secret"]["items"]] == [
        "redis-url",
        "publish-keys",
        "admin-keys",
        "token-keys",
    ]


def test_what_leads_in_from_outside_leads_to_the_clients_port_only() -> None:
    objects = rendered(ingress={"enabled": True}, httpRoute={"enabled": True, "parentRefs": [{"name": "gateway"}]})
    [rule] = objects["Ingress"]["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["path"] == "/ws"
    assert path["backend"]["service"]["port"] == {"name": "http"}
    [backend] = objects["HTTPRoute"]["spec"]["rules"][0]["backendRefs"]
    assert backend["port"] == objects["Service"]["spec"]["ports"][0]["port"] == 3001
    assert [port["port"] for port in objects["admin"]["spec"]["ports"]] == [3002]
    clients, admin = objects["NetworkPolicy"]["spec"]["ingress"]
    assert "from" not in clients
    assert admin["from"], "nobody but who is named reaches the admin port"
    assert objects["Pod"]["metadata"]["labels"].items() & objects["Service"]["spec"]["selector"].items() == {
        ("app.kubernetes.io/instance", "progress-gateway")
    }, "the test's pod is no replica"


def test_it_grows_at_once_and_shrinks_slower_than_a_drain() -> None:
    objects = rendered(gateway={"maxConnections": 20000})
    hpa = objects["HorizontalPodAutoscaler"]["spec"]
    assert hpa["metrics"][0]["pods"]["target"]["averageValue"] == "14000"
    assert "replicas" not in objects["Deployment"]["spec"], "an upgrade would set them back"
    [policy] = hpa["behavior"]["scaleDown"]["policies"]
    assert policy["periodSeconds"] > objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    keda = yaml.safe_load((DEPLOY / "k8s" / "examples" / "keda.yaml").read_text())["spec"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    assert keda["scaleTargetRef"] == hpa["scaleTargetRef"]
    without = rendered(autoscaling={"enabled": False})["Deployment"]["spec"]
    assert without["replicas"] == 3
    assert "replicas" not in rendered(autoscaling={"enabled": False}, replicaCount=None)["Deployment"]["spec"]


def test_its_alerts_and_dashboard_are_the_files_that_are_tried() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    assert rendered(**CUSTOM)["PrometheusRule"]["spec"] == rules
    elsewhere = {"enabled": True, "runbookUrl": "https://wiki.example.com/runbook"}
    [group] = rendered(monitoring={"prometheusRule": elsewhere})["PrometheusRule"]["spec"]["groups"]
    assert group["rules"][0]["annotations"]["runbook_url"] == "https://wiki.example.com/runbook#gatewaydown"
    dashboard = rendered(monitoring={"dashboard": {"enabled": True}})["dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    shown = json.loads(dashboard["data"]["progress-gateway.json"])
    assert shown == json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())


def test_prometheus_gives_replicas_the_name_that_the_alerts_count_on() -> None:
    [endpoint] = rendered(**CUSTOM)["ServiceMonitor"]["spec"]["endpoints"]
    assert {"action": "replace", "targetLabel": "job", "replacement": "progress-gateway"} in endpoint["relabelings"]
    assert endpoint["port"] == rendered()["admin"]["spec"]["ports"][0]["name"]
    labels = rendered()["admin"]["metadata"]["labels"]
    assert rendered(**CUSTOM)["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_pods_that_drain_are_scraped_where_the_operator_knows_how() -> None:
    assert rendered(**CUSTOM)["ServiceMonitor"]["spec"]["serviceDiscoveryRole"] == "EndpointSlice"
    older = {"monitoring": {"serviceMonitor": {"enabled": True, "serviceDiscoveryRole": ""}}}
    assert "serviceDiscoveryRole" not in rendered(**older)["ServiceMonitor"]["spec"]
    assert "serviceDiscoveryRole" in refused(monitoring={"serviceMonitor": {"serviceDiscoveryRole": "Pod"}})


def test_chart_and_image_have_the_projects_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version


@pytest.mark.parametrize("window", [0, 1, 7, 20, 60])
def test_the_shortest_grace_that_it_takes_is_the_longest_end_of_a_replica(window: int) -> None:
    from gateway import server
    from gateway.clients import drain

    end = math.ceil(5 + drain.longest_seconds(window) + server.END_SECONDS)
    gateway = {"drainSeconds": window}
    refused(gateway=gateway, terminationGracePeriodSeconds=end - 1)
    assert rendered(gateway=gateway, terminationGracePeriodSeconds=end)

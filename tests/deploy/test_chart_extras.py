"""What users add to the chart: it gets to the pod, and mistakes are refused. And the settings that an undo needs."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .test_chart import EVERYTHING
from .tools import DEPLOY, refusal_among, rendered

TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}


def pod_of(**values: object) -> dict[str, Any]:
    spec: dict[str, Any] = rendered(**values)["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_what_is_added_gets_to_the_pod() -> None:
    objects = rendered(**EVERYTHING)
    template = objects["Deployment"]["spec"]["template"]
    spec = template["spec"]
    [container] = spec["containers"]
    assert container["env"] == EVERYTHING["env"]
    assert container["envFrom"][1:] == EVERYTHING["envFrom"]
    assert spec["volumes"][-2:] == EVERYTHING["extraVolumes"]
    assert container["volumeMounts"][-2:] == EVERYTHING["extraVolumeMounts"]
    assert spec["affinity"] == EVERYTHING["affinity"]
    assert spec["tolerations"] == EVERYTHING["tolerations"]
    assert spec["priorityClassName"] == "high"
    assert template["metadata"]["labels"]["team"] == "web"
    assert template["metadata"]["annotations"] == {"a": "b"}
    assert spec["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"] == "progress-gateway"
    assert objects["ServiceAccount"]["metadata"]["annotations"] == {"role": "gateway"}
    assert objects["ConfigMap"]["data"]["GATEWAY_HOSTS"] == "progress.example.com"
    assert objects["NetworkPolicy"]["spec"]["egress"][-1] == {"ports": [{"port": 4318, "protocol": "TCP"}]}
    selector = objects["Deployment"]["spec"]["selector"]["matchLabels"]
    assert "team" not in selector, "a selector cannot be changed later"


def test_an_account_that_is_there_can_be_named_and_gets_no_token() -> None:
    assert pod_of()["serviceAccountName"] == "default"
    spec = pod_of(serviceAccount={"name": "gateway"})
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("gateway", False)
    assert "ServiceAccount" not in rendered(serviceAccount={"name": "gateway"})
    assert rendered(serviceAccount={"create": True})["ServiceAccount"]["automountServiceAccountToken"] is False


def test_traces_start_the_replica_by_the_command_of_opentelemetry() -> None:
    assert "command" not in pod_of()["containers"][0]
    [container] = pod_of(tracing={"enabled": True})["containers"]
    assert container["command"] + container["args"] == ["opentelemetry-instrument", "progress-gateway", "serve"]


def test_probes_of_a_replica_that_speaks_tls_itself_go_to_the_admin_port() -> None:
    tls = {"extraSettings": {"GATEWAY_TLS_CERT": "/tls/tls.crt", "GATEWAY_TLS_KEY": "/tls/tls.key"}}
    for gateway, port, url in [(tls, "admin", "https://progress-gateway:3001/"), ({}, "http", "http://progress")]:
        objects = rendered(gateway=gateway)
        [container] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        assert {container[name]["httpGet"]["port"] for name in container if name.endswith("Probe")} == {port}
        assert url in objects["Pod"]["spec"]["containers"][0]["args"][0]


def test_helms_test_asks_under_a_name_that_is_answered() -> None:
    def code(**gateway: object) -> str:
        return str(rendered(gateway=gateway)["Pod"]["spec"]["containers"][0]["args"][0])

    assert '{"Host": "progress.example.com"}' in code(hosts=["progress.example.com", "other.example.com"])
    assert "Host" not in code(hosts=["*"])
    assert "Host" not in code()


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"redis": {"tsl": {}}}, "'tsl' not allowed"),
    ({"redis": {"tls": {"ca": {"secret": "x"}}}}, "'secret' not allowed"),
    ({"redis": {"tls": {"client": {"certificatekey": "x"}}}}, "'certificatekey' not allowed"),
    ({"redis": {"tls": {"ca": {"secretName": "x", "configMapName": "y"}}}}, "set one of"),
    ({"redis": {"tls": {"ca": {"secretName": "Not_A_Name"}}}}, "does not match"),
    ({"gateway": {"hosts": ["https://progress.example.com"]}}, "does not match"),
    ({"gateway": {"hosts": "progress.example.com"}}, "want array"),
    ({"gateway": {"extraSettings": {"OTEL_SERVICE_NAME": 1}}}, "want string"),
    ({"gateway": {"extraSettings": {"OTLP_ENDPOINT": "x"}}}, "OTLP_ENDPOINT"),
    ({"gateway": {"extraSettings": {"GATEWAY_HOSTS": "x"}}}, "GATEWAY_HOSTS"),
    ({"gateway": {"extraSettings": {"GATEWAY_ADMIN_KEYS": "a key is a secret"}}}, "GATEWAY_ADMIN_KEYS"),
    ({"tracing": {"enable": True}}, "'enable' not allowed"),
    ({"env": {"TZ": "UTC"}}, "want array"),
    ({"env": [{"name": "TZ", "vlaue": "UTC"}]}, "'vlaue' not allowed"),
    ({"env": [{"name": "TZ", "value": 1}]}, "want string"),
    ({"env": [{"name": "TZ"}]}, "'oneOf' failed"),
    ({"env": [{"name": "GATEWAY_PORT", "value": "1"}]}, "'not' failed"),
    ({"env": [{"name": "REDIS_URL", "value": "redis://:secret@redis"}]}, "'not' failed"),
    ({"env": [{"name": "A", "valueFrom": {"secretRef": {"name": "a", "key": "b"}}}]}, "'secretRef' not allowed"),
    ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a"}}}]}, "missing property 'key'"),
    ({"envFrom": [{"configMap": {"name": "a"}}]}, "'configMap' not allowed"),
    ({"extraVolumes": [{"name": "a", "emptydir": {}}]}, "'emptydir' not allowed"),
    ({"extraVolumes": [{"name": "a", "secret": {"name": "b"}}]}, "'name' not allowed"),
    ({"extraVolumes": [{"name": "secrets", "emptyDir": {}}]}, "'not' failed"),
    ({"extraVolumeMounts": [{"name": "a", "path": "/a"}]}, "'path' not allowed"),
    ({"extraVolumeMounts": [{"name": "a", "mountPath": "a"}]}, "does not match"),
    ({"serviceAccount": {"enabled": True}}, "'enabled' not allowed"),
    ({"serviceAccount": {"create": "yes"}}, "want boolean"),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, "'not' failed"),
    ({"podLabels": {"team": "a b"}}, "does not match"),
    ({"tolerations": [{"key": "a", "operater": "Exists"}]}, "'operater' not allowed"),
    ({"affinity": {"podAntiafinity": {}}}, "'podAntiafinity' not allowed"),
    ({"affinity": {"podAffinity": {"requiredDuringScheduling": [TERM]}}}, "'requiredDuringScheduling' not allowed"),
    ({"networkPolicy": {"adminFrom": [{"podselector": {}}]}}, "'podselector' not allowed"),
    ({"networkPolicy": {"extraEgress": [{"from": []}]}}, "'from' not allowed"),
    ({"httpRoute": {"parentRefs": [{"nmae": "gateway"}]}}, "'nmae' not allowed"),
]


@pytest.mark.parametrize(("values", "says"), MISTAKES, ids=str)
def test_a_mistake_in_what_is_added_is_refused(values: dict[str, Any], says: str) -> None:
    assert says in refusal_among([wrong for wrong, _ in MISTAKES], values)


def test_a_pod_template_names_the_settings_that_it_was_made_with() -> None:
    """So an undo, which brings an old template back, brings its settings back."""

    def names(**values: object) -> tuple[str, str]:
        objects = rendered(**values)
        [container] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        return objects["ConfigMap"]["metadata"]["name"], container["envFrom"][0]["configMapRef"]["name"]

    map_name, named = names()
    assert map_name == named
    assert names(replicaCount=5)[0] == map_name
    others = [names(gateway={"maxConnections": 5000}), names(gateway={"extraSettings": {"GATEWAY_SLOW_SECONDS": "9"}})]
    assert len({map_name, *(name for name, _ in others)}) == 3
    assert all(name == referenced for name, referenced in others), "other settings are other pods"


def test_old_settings_outlive_an_upgrade_and_cannot_be_changed() -> None:
    settings = rendered()["ConfigMap"]
    hooks = settings["metadata"]["annotations"]["helm.sh/hook"].split(",")
    assert hooks == ["pre-install", "pre-upgrade", "pre-rollback"], "what is no hook is deleted by an upgrade"
    assert settings["immutable"] is True


def test_old_settings_go_when_no_replica_set_names_them(tmp_path: Path) -> None:
    """deploy/helm/remove-old-settings, before a `kubectl` that answers as a cluster would and notes what is deleted."""
    (tmp_path / "kubectl").write_text(
        f"""#!/bin/sh
        case "$*" in
            *"get configmaps"*"app.kubernetes.io/instance=live,app.kubernetes.io/component=settings"*)
                printf 'configmap/live-%s\\n' aaaaaaaaaa bbbbbbbbbb cccccccccc ;;
            *"get replicasets"*"app.kubernetes.io/instance=live"*)
                printf 'configmap/live-%s\\n' bbbbbbbbbb cccccccccc; echo configmap/ ;;
            *delete*) echo "$*" >>{tmp_path}/deleted ;;
            *) echo "unexpected: $*" >&2; exit 1 ;;
        esac
        """
    )
    (tmp_path / "kubectl").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([DEPLOY / "helm" / "remove-old-settings", "live", "web"], env=env, check=True)
    assert (tmp_path / "deleted").read_text() == "--namespace=web delete configmap/live-aaaaaaaaaa\n"
    (tmp_path / "kubectl").write_text('#!/bin/sh\ncase "$*" in *configmaps*) echo configmap/a ;; *) exit 1 ;; esac\n')
    failed = subprocess.run([DEPLOY / "helm" / "remove-old-settings"], env=env, check=False)
    assert failed.returncode == 1, "it deletes nothing when it does not know what is named"

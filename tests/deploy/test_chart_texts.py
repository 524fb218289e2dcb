"""Texts among the chart's values: rendered as texts, whatever they look like; origins as a replica takes them."""

from typing import Any

import pytest

from gateway.http.origins import check_origin

from .tools import refused, rendered


@pytest.mark.parametrize(
    "origin",
    [
        "*", "https://app.example.com", "https://App.example.com:8443", "http://[::1]:3000", "app://page", "http://a:443",
        "https://app.example.com:443", "http://app.example.com:80", "https://[::1]:443", "https://a/", "https://a:0",
        "https://a@b", "https://ä.example.com", "app.example.com", "https://*.example.com", "https://a,https://b",
    ],
)  # fmt: skip
def test_the_chart_takes_an_origin_if_a_replica_does(origin: str) -> None:
    try:
        check_origin(origin.lower())
    except ValueError:
        refused(gateway={"origins": [origin]})
    else:
        assert rendered(gateway={"origins": [origin]})["ConfigMap"]["data"]["GATEWAY_ORIGINS"] == origin


def strings_of(values: dict[str, Any]) -> list[str]:
    """Where a text is rendered as it is, in what the cluster is told of these values."""
    objects = rendered(**values)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    [volume] = pod["volumes"]
    ingress = objects["Ingress"]["spec"]
    [tls] = ingress["tls"]
    keys = [item[name] for item in volume["secret"]["items"] for name in ("key", "path")]
    names = [objects[kind]["metadata"]["name"] for kind in ("Deployment", "Ingress", "NetworkPolicy")]
    return [
        *names, *keys, volume["secret"]["secretName"], pod["priorityClassName"], ingress["ingressClassName"],
        ingress["rules"][0]["host"], tls["secretName"], *tls["hosts"],
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["123", "1e3", "yes", "null", "0x10"])
def test_a_text_that_looks_like_a_number_stays_one(word: str) -> None:
    """YAML would read it as a number, a boolean or nothing, and Kubernetes refuse it."""
    said = strings_of(
        {
            "nameOverride": word,
            "fullnameOverride": word,
            "secret": {"name": word, "redisUrlKey": word, "publishKeysKey": word},
            "publishing": {"enabled": True},
            "priorityClassName": word,
            "ingress": {"enabled": True, "className": word, "host": word, "tlsSecretName": word},
        }
    )
    assert said == [word] * len(said)


def test_an_ingress_may_be_for_all_names_of_a_domain() -> None:
    ingress = {"enabled": True, "host": "*.example.com", "tlsSecretName": "tls"}
    spec = rendered(ingress=ingress)["Ingress"]["spec"]
    assert spec["rules"][0]["host"] == "*.example.com"
    assert spec["tls"] == [{"hosts": ["*.example.com"], "secretName": "tls"}]

"""The proxies of deploy/ write no query of a handshake into a log: `?token=` may stand there."""

import re

import pytest

from .tools import DEPLOY, ROOT


def directives(path: str) -> list[str]:
    return [line.split("#")[0].strip() for line in (DEPLOY / path).read_text().splitlines()]


def test_haproxy_logs_no_request_line() -> None:
    lines = directives("haproxy/haproxy.cfg")
    assert any(line.startswith("log ") for line in lines)
    assert [
        line for line in lines if re.match(r"option httplog|option httpslog|log-format|capture request", line)
    ] == []


def test_nginx_writes_no_access_log_and_no_error_line_for_handshakes() -> None:
    assert "access_log off;" in directives("nginx/nginx.conf")
    for name in ("progress-gateway.conf", "progress-gateway-tls.conf"):
        text = "\n".join(directives(f"nginx/{name}"))
        for block in re.findall(r"location = /ws \{.*?\n\s*\}", text, re.DOTALL):
            assert "access_log off;" in block
            assert re.search(r"error_log \S+ (emerg|crit|alert)", block), block


def test_caddy_takes_the_query_off_each_line() -> None:
    lines = directives("caddy/Caddyfile")
    assert 'request>uri regexp "\\?.*" ""' in lines
    assert lines.count("log {") == 1, "another log would need the filter too"


@pytest.mark.parametrize("path", ["traefik/traefik.yaml", "traefik/progress-gateway.yaml", "envoy/envoy.yaml"])
def test_traefik_and_envoy_log_no_accesses(path: str) -> None:
    assert not re.search(r"^[^#]*access_?log", "\n".join(directives(path)), re.MULTILINE | re.IGNORECASE)


def test_compose_is_reached_from_this_machine_only() -> None:
    ports = re.findall(r'ports: \["([^"]+)"\]', (ROOT / "docker-compose.yml").read_text())
    assert len(ports) > 2
    assert all(port.startswith("127.0.0.1:") for port in ports)

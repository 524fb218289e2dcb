"""The plain HTTP of a replica: what load balancers, Prometheus and browsers read."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .client import watching
from .events import progress
from .processes import PublisherProcess, Replica


@pytest.fixture
def http(replica: Replica) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replica.http, trust_env=False, timeout=30) as client:
        yield client


class Page(HTMLParser):
    """Notes what a policy without inline scripts would break."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.sources: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.inline += [name for name in named if name.startswith("on")]
        self.inline += [value for value in named.values() if value and value.strip().lower().startswith("javascript:")]
        self._script = tag == "script"
        if self._script and named.get("src"):
            self.sources.append(named["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


def policy_of(answer: httpx.Response) -> dict[str, list[str]]:
    parts = [part.split() for part in answer.headers["content-security-policy"].split(";") if part.strip()]
    return {words[0].lower(): words[1:] for words in parts}


def test_healthz_says_that_the_process_lives(http: httpx.Client) -> None:
    assert http.get("/healthz").status_code == 200


def test_readyz_says_that_it_can_deliver(http: httpx.Client) -> None:
    assert http.get("/readyz").status_code == 200


async def test_metrics_are_prometheus_text_that_knows_the_connections(
    http: httpx.Client, replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    def metrics() -> dict[str, float]:
        answer = http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        families = text_string_to_metric_families(answer.text)
        return {f"{sample.name}{sample.labels}": sample.value for family in families for sample in family.samples}

    before = metrics()
    assert before
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("job"))
        await client.events(1)
        during = metrics()
    assert before.keys() <= during.keys()
    connections = [name for name in during if "connections" in name and during[name] - before.get(name, 0) == 1]
    assert connections, f"no figure of connections grew by the one that was opened: {during}"


def test_metrics_name_no_project(http: httpx.Client, publisher: PublisherProcess, project: str) -> None:
    """A label for each project would grow without bound."""
    publisher.seq(project, progress("job"))
    assert project not in http.get("/metrics").text


def test_the_dashboard_is_html_that_runs_no_inline_script(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = policy_of(answer)
    scripts = policy.get("script-src", policy.get("default-src"))
    assert scripts is not None, policy
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:", "http:", "https:"} & set(scripts), scripts
    page = Page(answer.text)
    assert page.inline == []
    for source in page.sources:
        script = http.get(source)
        assert script.status_code == 200
        assert re.search("javascript", script.headers["content-type"])


def test_the_dashboard_may_speak_to_its_own_socket(http: httpx.Client) -> None:
    policy = policy_of(http.get("/"))
    allowed = policy.get("connect-src", policy.get("default-src", ["*"]))
    assert {"'self'", "ws:", "wss:", "*"} & set(allowed), allowed


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/ws/x", "/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "/static/../cli.py", "/%00", "/%ff"],
)
def test_what_does_not_exist_is_404(http: httpx.Client, replica: Replica, path: str) -> None:
    assert http.get(path).status_code in (400, 404)
    assert "Traceback" not in replica.log


def test_a_plain_request_to_the_sockets_path_is_no_server_error(http: httpx.Client, replica: Replica) -> None:
    assert 400 <= http.get("/ws").status_code < 500
    assert "Traceback" not in replica.log


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/"])
def test_writing_methods_are_refused(http: httpx.Client, replica: Replica, path: str) -> None:
    assert http.post(path, content=b"x" * 100_000).status_code in (404, 405)
    assert http.head(path).status_code == 200
    assert "Traceback" not in replica.log

"""The ASGI application under Starlette's test client, which drives the plain path, and a real Redis."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import create_app
from gateway.http.pages import is_known, takes_gzip
from gateway.projects.hub import Hub
from gateway.settings import Settings
from publisher import broadcast_to_project
from tests.contract.processes import RedisServer, free_port
from tests.starlette_client import TestClient, WebSocketDenialResponse, WebSocketTestSession

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}
PATIENCE = 60.0


class Viewer:
    """A client of `/ws`. It waits for no message that may not come: it pings, and reads what came before the pong."""

    def __init__(self, socket: WebSocketTestSession) -> None:
        self.socket = socket

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send_json({"type": kind} | fields)

    def told(self) -> list[dict[str, Any]]:
        """Everything that the server wrote before it read this ping."""
        self.say("ping")
        messages = []
        while (message := self.socket.receive_json())["type"] != "pong":
            messages.append(message)
        return messages

    def until(self, kind: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        deadline = time.monotonic() + PATIENCE
        while kind not in [message["type"] for message in messages]:
            assert time.monotonic() < deadline, f"waited for {kind}, this came: {messages}"
            messages += self.told()
        return messages

    def watch(self, project: str, **fields: Any) -> dict[str, Any]:
        self.say("subscribe", projectId=project, **fields)
        return next(message for message in self.until("subscribed") if message["type"] == "subscribed")


class Stage:
    """An app that runs."""

    def __init__(self, client: TestClient, hub: Hub) -> None:
        self.client = client
        self.hub = hub

    @contextmanager
    def viewer(self, **headers: str) -> Iterator[Viewer]:
        with self.client.websocket_connect("/ws", headers=headers) as socket:
            viewer = Viewer(socket)
            assert viewer.told()[0]["type"] == "connected"
            yield viewer

    def refused(self, **headers: str) -> WebSocketDenialResponse:
        with pytest.raises(WebSocketDenialResponse) as caught, self.client.websocket_connect("/ws", headers=headers):
            pass
        return caught.value

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited for: {what}"
            time.sleep(0.01)


@contextmanager
def running(redis_url: str, **settings: Any) -> Iterator[Stage]:
    app = create_app(Settings(redis_url=redis_url, **settings))
    with TestClient(app) as client:
        yield Stage(client, app.state.hub)


@pytest.fixture
def stage(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    with running(redis_server.url, linger_seconds=0) as stage:
        yield stage


# The main job


def test_an_event_that_is_published_is_seen(stage: Stage, project: str) -> None:
    with stage.viewer() as viewer:
        assert viewer.watch(project) == {"type": "subscribed", "projectId": project, "seq": 0, "recovered": True}
        seq = broadcast_to_project(project, EVENT)
        assert viewer.until("progress") == [EVENT | {"projectId": project, "seq": seq}]


def test_a_late_client_is_given_each_jobs_last_event(stage: Stage, project: str) -> None:
    for percent in (10, 20, 30):
        seq = broadcast_to_project(project, EVENT | {"progress": percent})
    with stage.viewer() as viewer:
        viewer.say("subscribe", projectId=project)
        subscribed, event = viewer.until("progress")
        assert subscribed["seq"] == event["seq"] == seq
        assert event["progress"] == 30


def test_a_client_that_comes_back_goes_on_at_its_cursor(stage: Stage, project: str) -> None:
    seq = broadcast_to_project(project, EVENT)
    with stage.viewer() as viewer:
        assert viewer.watch(project, since=seq)["recovered"] is True
        assert viewer.told() == []


def test_all_three_kinds_of_event_are_seen_in_order(stage: Stage, project: str) -> None:
    with stage.viewer() as viewer:
        viewer.watch(project)
        broadcast_to_project(project, EVENT)
        broadcast_to_project(
            project, {"type": "job_complete", "jobId": "j", "jobType": "audio", "result": {"file": "f"}}
        )
        broadcast_to_project(project, {"type": "job_failed", "jobId": "k", "jobType": "video", "error": "é\n\x00"})
        events = viewer.until("job_failed")
    assert [event["type"] for event in events] == ["progress", "job_complete", "job_failed"]
    assert events[1]["result"] == {"file": "f"}
    assert events[2]["error"] == "é "


def test_a_plain_publish_is_seen_too(stage: Stage, redis_server: RedisServer, project: str) -> None:
    with stage.viewer() as viewer:
        viewer.watch(project)
        redis_server.publish(project, "junk")
        redis_server.publish(project, EVENT | {"secret": 1})
        assert viewer.until("progress") == [EVENT | {"projectId": project}]
    assert stage.hub.bad_payloads == 1


def test_after_unsubscribe_redis_is_let_go(stage: Stage, redis_server: RedisServer, project: str) -> None:
    with stage.viewer() as viewer:
        viewer.watch(project)
        assert redis_server.watched_by(project) == 1
        viewer.say("unsubscribe", projectId=project)
        assert viewer.told() == [{"type": "unsubscribed", "projectId": project}]
        stage.eventually(lambda: redis_server.watched_by(project) == 0, "the channel to be let go")


def test_a_client_that_goes_is_forgotten(stage: Stage, redis_server: RedisServer, project: str) -> None:
    with stage.viewer() as viewer:
        viewer.watch(project)
        assert len(stage.hub.viewers) == 1
    stage.eventually(lambda: not stage.hub.viewers, "the viewer to be forgotten")
    stage.eventually(lambda: redis_server.watched_by(project) == 0, "the channel to be let go")


# Bad messages


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "not_json"),
        ("[]", "bad_message"),
        ('{"type":"x"}', "unknown_type"),
        ('{"type":"subscribe"}', "bad_project_id"),
    ],
)
def test_a_bad_message_is_answered_and_the_connection_stays(stage: Stage, text: str, code: str) -> None:
    with stage.viewer() as viewer:
        viewer.socket.send_text(text)
        error = viewer.told()[0]
    assert (error["type"], error["code"]) == ("error", code)


def test_a_binary_message_is_answered(stage: Stage) -> None:
    with stage.viewer() as viewer:
        viewer.socket.send_bytes(b'{"type":"ping"}')
        assert viewer.told()[0]["code"] == "not_text"


def closed_with(viewer: Viewer) -> int:
    """Reads on until the server closes."""
    while (message := viewer.socket.receive())["type"] != "websocket.close":
        pass
    code: int = message["code"]
    return code


def test_twenty_bad_messages_in_a_row_end_the_connection(stage: Stage) -> None:
    with stage.viewer() as viewer:
        for _ in range(20):
            viewer.socket.send_text("{")
        assert closed_with(viewer) == 1008


def test_a_message_that_is_too_long_ends_the_connection(stage: Stage) -> None:
    with stage.viewer() as viewer:
        viewer.socket.send_text('"' + "é" * 8_190 + '"')
        assert viewer.told()[0]["code"] == "bad_message"
        viewer.socket.send_text('"' + "é" * 8_192 + '"')
        assert closed_with(viewer) == 1009


def test_lone_surrogates_of_a_server_that_lets_them_through_are_answered(stage: Stage) -> None:
    with stage.viewer() as viewer:
        viewer.socket.send_text("\ud800")
        assert viewer.told()[0]["code"] == "not_json"


# The upgrade


def test_a_page_of_another_origin_is_refused_and_told_why(stage: Stage) -> None:
    refused = stage.refused(origin="https://evil.example")
    assert refused.status_code == 403
    assert "GATEWAY_ORIGINS" in refused.text


def test_a_page_of_the_own_host_is_let_in(stage: Stage) -> None:
    with stage.viewer(origin="http://127.0.0.1"):
        pass


def test_a_named_origin_is_let_in(redis_server: RedisServer) -> None:
    with running(redis_server.url, origins="https://app.example") as stage, stage.viewer(origin="https://app.example"):
        pass


def test_above_the_limit_of_connections_it_is_503_until_one_goes(redis_server: RedisServer) -> None:
    with running(redis_server.url, max_connections=2) as stage, stage.viewer():
        with stage.viewer():
            refused = stage.refused()
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        stage.eventually(lambda: len(stage.hub.viewers) == 1, "one to be gone")
        with stage.viewer():
            pass


def test_a_draining_replica_refuses_new_clients_with_503(stage: Stage) -> None:
    stage.hub.is_draining = True
    assert stage.refused().status_code == 503


def test_ws_without_an_upgrade_is_no_page(stage: Stage) -> None:
    assert stage.client.get("/ws").status_code in (404, 426)
    assert stage.client.post("/ws").status_code in (404, 405, 426)


# HTTP


def test_healthz_answers_while_the_process_lives(stage: Stage) -> None:
    response = stage.client.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


def test_readyz_answers_while_events_arrive(stage: Stage) -> None:
    response = stage.client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["ready"] is True
    assert response.headers["cache-control"] == "no-store"


def test_readyz_counts_the_clients(stage: Stage) -> None:
    assert stage.client.get("/readyz").json()["clients"] == 0
    with stage.viewer() as viewer:
        assert viewer.told() == []  # it is connected
        assert stage.client.get("/readyz").json()["clients"] == 1


def test_readyz_fails_while_it_drains(stage: Stage) -> None:
    stage.hub.is_draining = True
    response = stage.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["draining"] is True


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "Forwarded: for=_x", "Via: 1.1 p", "X-Real-IP: ::1"],
)
def test_readyz_tells_strangers_nothing_else(stage: Stage, header: str) -> None:
    """A proxy on this machine is a loopback peer, too: it says for whom it asks."""
    name, _, value = header.partition(": ")
    short = {"ready": True, "draining": False}
    assert stage.client.get("/readyz", headers={name: value}).json() == short
    assert TestClient(stage.client.app, client=("10.0.0.7", 1)).get("/readyz").json() == short


def test_readyz_tells_operators_all_on_their_port_and_nobody_on_the_other(redis_server: RedisServer) -> None:
    app = create_app(Settings(redis_url=redis_server.url, admin_port=4_001))
    with TestClient(app) as client:
        assert client.get("/readyz").json().keys() == {"ready", "draining"}
        stranger = TestClient(app.state.admin, client=("10.0.0.7", 1))
        assert stranger.get("/readyz").json().keys() >= {"ready", "draining", "redis", "clients"}


def test_a_handshake_elsewhere_is_404_and_counted(stage: Stage) -> None:
    for path in ("/", "/ws/", "/elsewhere"):
        with pytest.raises(WebSocketDenialResponse) as caught, stage.client.websocket_connect(path):
            pass
        assert caught.value.status_code == 404
    assert stage.hub.counters.refused["path"] == 3


def test_readyz_fails_without_a_redis_and_says_why_and_no_password() -> None:
    with running(f"redis://:secret@127.0.0.1:{free_port()}", redis_wait_seconds=0.1) as stage:
        response = stage.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["error"]
        assert "secret" not in response.text
        assert stage.client.get("/healthz").status_code == 200
        with stage.viewer() as viewer:
            viewer.say("subscribe", projectId="p")
            assert {message["type"] for message in viewer.told()} <= {"stale"}


def test_metrics_are_in_the_prometheus_format(stage: Stage) -> None:
    with stage.viewer() as viewer:
        response = stage.client.get("/metrics")
        assert viewer.told() == []
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "gateway_connections 1.0" in response.text
    assert "gateway_redis_connected 1.0" in response.text


def test_the_dashboard_runs_its_own_script_only_and_is_asked_for_again(stage: Stage) -> None:
    response = stage.client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["cache-control"] == "no-cache"


def test_every_file_that_the_dashboard_names_is_there_beside_it(stage: Stage) -> None:
    """No link begins with a slash: a proxy may serve the page below a path of its own."""
    page = stage.client.get("/").text
    names = [part.split('"')[0] for attribute in (' href="', ' src="') for part in page.split(attribute)[1:]]
    assert not [name for name in names if name.startswith("/")]
    files = [name for name in names if name.startswith("static/")]
    assert {Path(name).suffix for name in files} == {".css", ".js"}
    for name in files:
        assert stage.client.get(f"/{name}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/dashboard.js", "/static/dashboard.css"])
def test_a_file_is_compressed_for_who_takes_it_and_sent_once(stage: Stage, path: str) -> None:
    plain = stage.client.get(path, headers={"Accept-Encoding": "identity"})
    small = stage.client.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert small.text == plain.text
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"])
    assert plain.headers["etag"] != small.headers["etag"]
    for response in (plain, small):
        assert response.headers["vary"] == "Accept-Encoding"
        again = {"Accept-Encoding": response.headers.get("content-encoding", "identity")}
        known = stage.client.get(path, headers=again | {"If-None-Match": response.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert (known.headers["etag"], known.headers["vary"]) == (response.headers["etag"], "Accept-Encoding")
        assert stage.client.get(path, headers=again | {"If-None-Match": '"other"'}).status_code == 200
    head = stage.client.head(path, headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == plain.headers["content-length"]


@pytest.mark.parametrize(
    ("header", "is_taken"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=x", False),
        ("br", False),
        ("", False),
    ],
)
def test_gzip_is_for_who_says_so(header: str, is_taken: bool) -> None:
    assert takes_gzip(header) is is_taken


@pytest.mark.parametrize(
    ("header", "is_named"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_a_tag_is_known_to_who_names_it(header: str, is_named: bool) -> None:
    assert is_known('"a"', header) is is_named


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/nothing", "/static/dashboard.js", "/projects/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_says_that_its_type_is_not_to_be_guessed(stage: Stage, path: str, method: str) -> None:
    assert stage.client.request(method, path).headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize(
    "path", ["/static/../settings.py", "/static/%2e%2e/settings.py", "/static/..%2fsettings.py", "/static//etc/passwd"]
)
def test_nothing_beside_the_dashboard_can_be_read(stage: Stage, path: str) -> None:
    assert stage.client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "/api", "/docs", "/ws/", "/static", "/static/"])
def test_what_is_not_there_is_404(stage: Stage, path: str) -> None:
    assert stage.client.get(path, follow_redirects=False).status_code == 404


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics"])
def test_pages_are_read_only(stage: Stage, path: str) -> None:
    assert stage.client.post(path).status_code == 405
    assert stage.client.head(path).status_code == 200


# Two replicas in one process, begin and end


def test_two_apps_in_one_process_share_nothing_but_redis(stage: Stage, redis_server: RedisServer, project: str) -> None:
    with running(redis_server.url) as other, stage.viewer() as one, other.viewer() as two:
        one.watch(project)
        two.watch(project)
        broadcast_to_project(project, EVENT)
        assert one.until("progress") == two.until("progress")
        assert (len(stage.hub.viewers), len(other.hub.viewers)) == (1, 1)


def test_at_the_end_the_connection_to_redis_is_closed(own_redis: RedisServer) -> None:
    def pubsubs() -> int:
        return len(own_redis.command("CLIENT", "LIST", "TYPE", "PUBSUB").splitlines())

    with running(own_redis.url) as stage:
        assert pubsubs() == 1
    stage.eventually(lambda: pubsubs() == 0, "the end of the feed")


def test_messages_are_json_text_in_camel_case(stage: Stage, project: str) -> None:
    with stage.viewer() as viewer:
        viewer.socket.send_text(json.dumps({"type": "subscribe", "projectId": project}))
        assert list(viewer.until("subscribed")[0]) == ["type", "projectId", "seq", "recovered"]

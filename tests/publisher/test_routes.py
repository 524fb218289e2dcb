"""Which server is asked for what, behind Sentinels and in a Cluster: the steps, played by hand. No Redis."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeVar

import pytest
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from publisher.publication import SCRIPT, Answer, Publication
from publisher.settings import PublisherSettings
from publisher.transport import routes as module
from publisher.transport.circuit import NotAsked, Redirected, circuit_of
from publisher.transport.conversation import Conversation, Probe, Request, Together
from publisher.transport.routes import ClusterRoutes, Routes, SentinelRoutes, ask, routes_of
from publisher.transport.sending import Sending, send_batch
from publisher.transport.sending import send as send_all
from publisher.transport.sentinels import Known
from publisher.transport.slot_map import slot_of
from publisher.transport.url import RedisUrl

A, B, C = (f"redis://h:{port}/0" for port in (1, 2, 3))
URL = "redis+cluster://h:1,h:2,h:3"
AWAY = ConnectionError("away")
Returned = TypeVar("Returned")


def cluster(epoch: int = 5) -> ClusterRoutes:
    """A has all slots."""
    routes = ClusterRoutes(RedisUrl.parse(URL))
    play(routes.learn(), {}, slots={A: (epoch, A), B: (epoch, A), C: (epoch, A)})
    assert not routes.is_stale
    return routes


def slots(owner: str) -> list[Any]:
    return [[0, 16_383, [b"h", int(owner[-3]), b"id"]]]


def play(
    steps: Conversation[Returned],
    answers: dict[str, list[Any]],
    *,
    slots: dict[str, Any] | None = None,
    log: list[Request] | None = None,
) -> Returned:
    """Play the servers: `answers` of each to commands, in turn; `slots`: its epoch and who has all, or its error."""
    log = [] if log is None else log
    try:
        step = next(steps)
        while True:
            assert isinstance(step, Request)
            log.append(step)
            if step.commands[0] == ("CLUSTER", "INFO"):
                said = (slots or {})[step.url]
                answer = said if isinstance(said, Exception) else told(*said)
            else:
                answer = answers[step.url].pop(0)
            step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as end:
        returned: Returned = end.value
        return returned


def told(epoch: int, owner: str) -> list[Any]:
    return [f"cluster_current_epoch:{epoch}\r\n".encode(), slots(owner)]


def publication(job: str = "j", project: str = "p") -> Publication:
    return Publication.of(project, {"type": "progress", "jobId": job, "jobType": "audio", "progress": 1}, "")


def send(
    routes: Routes,
    batch: Sequence[Publication],
    *,
    answers: dict[str, list[Any]],
    replay: bool = True,
    until: float = inf,
    **plays: Any,
) -> tuple[list[Answer], list[Request]]:
    log: list[Request] = []
    return play(send_batch(routes, batch, replay, until), answers, log=log, **plays), log


def words(request: Request) -> list[list[bytes]]:
    """The commands of a request, each as its words."""
    return [
        [word if isinstance(word, bytes) else str(word).encode() for word in command]
        if isinstance(command, tuple)
        else command.split(b"\r\n")[2::2]
        for command in request.commands
    ]


# One server


def test_a_wrong_url_is_named() -> None:
    with pytest.raises(ValueError, match="write"):
        routes_of("nonsense://h")


def test_one_server_has_everything_and_nothing_is_learnt_from_what_it_says() -> None:
    routes = routes_of("redis://h:1/0")
    for error in (AWAY, ReadOnlyError("x"), MovedError("1 h:2"), AskError("1 h:2"), ResponseError("MOVED 1 h:2")):
        answers, log = send(routes, [publication()], answers={A: [[error]]})
        assert (answers, len(log)) == ([error], 1)
        with pytest.raises(type(error)):
            play(ask(routes, "k", "HMGET"), {A: [[error]]})
    answers, log = send(routes, [publication(), publication("2")], answers={A: [[1, 2]]})
    assert (answers, words(log[0])[0][-1]) == ([1, 2], b"PUBLISH")


def test_circuits_are_by_node_in_a_cluster_and_else_by_url() -> None:
    for url in ("redis://h", "redis+sentinel://h/m"):
        assert routes_of(url).circuit_for("k") is circuit_of(url)
    routes = ClusterRoutes(RedisUrl.parse(URL))
    assert routes.circuit_for("k") is circuit_of(URL), "as long as no node is known"
    play(routes.learn(), {}, slots={A: (1, A), B: (1, A), C: (1, A)})
    assert routes.circuit_for("k") is circuit_of(A)


# Sentinels


def known(host: str, port: int) -> list[Known | Exception]:
    return [Known(1, host, port, 9.0)]


def test_behind_sentinels_the_primary_is_located_first_and_after_each_loss() -> None:
    routes = SentinelRoutes(RedisUrl.parse("redis+sentinel://:p@s1,s2/m/3"))
    steps = send_batch(routes, [publication()], True, inf)
    assert isinstance(together := next(steps), Together)
    assert len(together.conversations) == 2
    request = steps.send(known("h", 1))
    assert isinstance(request, Request)
    assert request.url == "redis://:p@h:1/3"
    assert words(request)[0][-1] == b"PUBLISH"
    with pytest.raises(StopIteration) as end:
        steps.send([7])
    assert end.value.value == [7]
    assert not routes.is_stale


@pytest.mark.parametrize(
    "error", [AWAY, ReadOnlyError("x"), ResponseError("NOREPLICAS Not enough good replicas to write.")]
)
def test_what_is_no_primary_any_more_is_located_anew(error: Exception) -> None:
    routes = SentinelRoutes(RedisUrl.parse("redis+sentinel://s1,s2/m"))
    learn(routes, known("h", 1))
    answers, _ = send(routes, [publication()], answers={A: [[error]]})
    assert answers == [error]
    assert routes.is_stale


def learn(routes: SentinelRoutes, answer: list[Known | Exception]) -> None:
    steps = routes.learn()
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(answer)


def test_the_word_of_sentinels_holds_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover by hand the old primary goes on taking events that it will throw away."""
    routes = SentinelRoutes(RedisUrl.parse("redis+sentinel://s1,s2/m"))
    assert routes.is_due
    learn(routes, known("one", 1))
    assert (routes.is_due, routes.node_of("k")) == (False, "redis://one:1/0")
    monkeypatch.setattr(module, "LOCATED_SECONDS", -1.0)
    assert routes.is_due
    learn(routes, [AWAY])
    assert routes.node_of("k") == "redis://one:1/0", "no Sentinel says nothing against it"
    learn(routes, known("two", 2))
    assert routes.node_of("k") == "redis://two:2/0"


def test_where_no_sentinel_answers_what_was_known_is_tried() -> None:
    routes = SentinelRoutes(RedisUrl.parse("redis+sentinel://s1/m"))
    learn(routes, known("h", 1))
    routes.is_stale = True
    steps = send_batch(routes, [publication()], True, inf)
    next(steps)
    request = steps.send([AWAY])
    assert isinstance(request, Request)
    assert request.url == A


# The map of a Cluster


def test_a_node_that_does_not_answer_is_passed_over_and_asked_last_from_then_on() -> None:
    routes = ClusterRoutes(RedisUrl.parse(URL))
    for _ in range(20):
        log: list[Request] = []
        routes.is_stale = True
        play(routes.learn(), {}, slots={A: AWAY, B: (1, C), C: (1, C)}, log=log)
        if A in routes._failing:
            break
    log = []
    routes.is_stale = True
    play(routes.learn(), {}, slots={B: (1, C), C: (1, C)}, log=log)
    assert len(log) == 1


def test_the_map_of_a_node_that_was_cut_off_is_not_believed() -> None:
    for _ in range(20):  # in whatever order they are asked
        routes = cluster(epoch=6)
        routes.is_stale = True
        play(routes.learn(), {}, slots={A: (5, A), B: (5, A), C: (7, B)})
        assert routes.node_of("k") == B
        assert routes.epoch == 7


def test_where_all_know_less_than_before_the_newest_of_them_counts() -> None:
    """The Cluster was made anew at the same addresses."""
    routes = cluster(epoch=100)
    routes.is_stale = True
    play(routes.learn(), {}, slots={A: (1, A), B: (2, B), C: (1, A)})
    assert (routes.node_of("k"), routes.epoch) == (B, 2)


def test_who_may_not_ask_for_the_epoch_takes_the_map_as_it_is() -> None:
    routes = ClusterRoutes(RedisUrl.parse("redis+cluster://h:1"))
    steps = routes.learn()
    next(steps)
    with pytest.raises(StopIteration):
        steps.send([ResponseError("NOPERM"), slots(A)])
    assert routes.node_of("k") == A


@pytest.mark.parametrize(
    "answer", [[b"", []], [b"", b"nonsense"], [b"", ResponseError("cluster support disabled")], AWAY]
)
def test_where_nobody_has_a_map_that_is_the_error(answer: Any) -> None:
    steps = ClusterRoutes(RedisUrl.parse("redis+cluster://h:1")).learn()
    next(steps)
    with pytest.raises((ConnectionError, ResponseError)):
        steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)


# Publishing in a Cluster


def test_a_batch_is_one_request_for_each_node_and_publishes_on_the_shard() -> None:
    routes = cluster()
    routes._slots[slot_of("project:other")] = B
    batch = [publication("1"), publication("2", "other"), publication("3")]
    answers, log = send(routes, batch, answers={A: [[1, 3]], B: [[2]]})
    assert answers == [1, 2, 3]
    assert [(request.url, len(request.commands)) for request in log] == [(A, 2), (B, 1)]
    assert words(log[0])[0][-1] == b"SPUBLISH"
    assert words(log[0])[0][5] == batch[0].payload


def test_without_replay_it_is_a_plain_spublish() -> None:
    answers, log = send(cluster(), [publication()], answers={A: [[1]]}, replay=False)
    assert answers == [None]
    assert log[0].commands[0] == ("SPUBLISH", "project:p", publication().payload)


def test_a_script_that_a_node_lacks_is_loaded_with_the_first_event_that_it_refused() -> None:
    batch = [publication("1"), publication("2"), publication("3")]
    unknown = NoScriptError("x")
    answers, log = send(cluster(), batch, answers={A: [[unknown] * 3, [1, 2, 3]]})
    assert answers == [1, 2, 3]
    assert [command[0] for command in words(log[1])] == [b"EVAL", b"EVALSHA", b"EVALSHA"]
    assert words(log[1])[0][1] == SCRIPT.encode()


def test_a_node_that_never_has_a_script_is_not_asked_for_ever() -> None:
    answers, log = send(cluster(), [publication()], answers={A: [[NoScriptError("x")]] * 9})
    assert isinstance(answers[0], NoScriptError)
    assert len(log) < 9


def test_a_slot_that_moved_is_followed_and_the_node_to_which_it_moved_is_asked_for_the_rest() -> None:
    routes = cluster()
    answers, _ = send(routes, [publication()], answers={A: [[MovedError(f"{slot_of('project:p')} h:2")]]})
    assert isinstance(answers[0], Redirected)
    answers, log = send(routes, [publication()], answers={B: [[1]]}, slots={B: (6, B)})
    assert answers == [1]
    assert [request.url for request in log] == [B, B]


def test_a_moved_without_a_host_means_the_host_that_was_asked() -> None:
    routes = cluster()
    send(routes, [publication()], answers={A: [[MovedError(f"{slot_of('project:p')} :2")]]})
    assert routes.node_of("project:p") == B


@pytest.mark.parametrize("place", ["?:2", "h:0", "h:70000", "h/x:2", "h@x:2"])
@pytest.mark.parametrize("kind", [MovedError, AskError])
def test_where_nobody_can_be_reached_nobody_is_asked_and_the_map_is_learnt_anew(kind: type, place: str) -> None:
    """A `?` or / in a URL ends its host: user and password would go to this machine's port 6379."""
    routes = cluster()
    said = ResponseError(f"{'MOVED' if kind is MovedError else 'ASK'} {slot_of('project:p')} {place}")
    batch = [publication("1"), publication("2", "other")]
    routes._slots[slot_of("project:other")] = B
    answers, log = send(routes, batch, answers={A: [[said]], B: [[2]]})
    assert isinstance(answers[0], ConnectionError)
    assert "nobody can be reached there" in str(answers[0])
    assert answers[1] == 2
    assert [request.url for request in log] == [A, B]
    assert (routes.is_stale, routes.node_of("project:p")) == (True, A)
    answers, _ = send(routes, batch[:1], answers={B: [[1]]}, slots={A: (6, B), B: (6, B), C: (6, B)})
    assert answers == [1]
    with pytest.raises(ConnectionError, match="nobody can be reached there"):
        play(ask(cluster(), "k", "X"), {A: [[said]] * 9}, slots={A: (5, A), B: (5, A), C: (5, A)})


@pytest.mark.parametrize("text", ["MOVED", "MOVED 12", "MOVED 12 nowhere", "ASK 1", "ASK x h:1", "MOVED 1 h:x"])
def test_a_move_that_cannot_be_read_is_a_node_that_failed(text: str) -> None:
    """redis-py from 6 on reads it by itself, and raises `ValueError`; see test_odd_answers.py."""
    routes = cluster()
    answers, _ = send(routes, [publication()], answers={A: [[ResponseError(text)]]})
    assert isinstance(answers[0], ConnectionError)
    assert routes.is_stale


def test_a_slot_that_no_cluster_has_is_not_kept() -> None:
    routes = cluster()
    send(routes, [publication()], answers={A: [[MovedError("99999999 h:2")]]})
    assert 99_999_999 not in routes._slots


def test_a_project_whose_slot_is_being_moved_is_asked_for_where_it_is_and_nothing_else_changes() -> None:
    routes = cluster()
    away = AskError(f"{slot_of('project:p')} h:2")
    batch = [publication("1"), publication("2")]
    answers, log = send(routes, batch, answers={A: [[away, away]], B: [[b"OK", 1, b"OK", 2]]})
    assert answers == [1, 2]
    assert [command[0] for command in words(log[1])] == [b"ASKING", b"EVALSHA", b"ASKING", b"EVALSHA"]
    assert routes.node_of("project:p") == A
    assert not routes.is_stale


def test_a_shard_that_is_away_keeps_no_other() -> None:
    routes = cluster()
    routes._slots[slot_of("project:other")] = B
    answers, _ = send(routes, [publication(), publication("2", "other")], answers={A: [AWAY], B: [[2]]})
    assert answers == [AWAY, 2]
    assert routes.is_stale


def test_no_second_server_is_asked_when_there_is_no_time_left_for_an_answer() -> None:
    routes = cluster()
    routes._slots[slot_of("project:other")] = B
    batch = [publication(), publication("2", "other")]
    answers, log = send(routes, batch, answers={A: [[7]]}, until=0)
    assert answers[0] == 7
    assert isinstance(answers[1], NotAsked)
    assert [request.url for request in log] == [A]


def test_where_a_circuit_is_open_that_server_is_passed_over() -> None:
    routes = cluster()
    routes._slots[slot_of("project:other")] = B
    circuit_of(A)._closed.clear()
    circuit_of(A).grace()  # used up
    answers, log = send(routes, [publication(), publication("2", "other")], answers={B: [[2]]})
    assert isinstance(answers[0], NotAsked)
    assert (answers[1], [request.url for request in log]) == (2, [B])
    assert not routes.is_stale, "who was not asked has not failed"


def test_a_slot_that_nobody_owns_is_an_error_that_may_pass() -> None:
    routes = cluster()
    del routes._slots[slot_of("project:p")]
    answers, _ = send(routes, [publication()], answers={})
    assert isinstance(answers[0], ConnectionError)
    assert routes.is_stale


@pytest.mark.parametrize(("text", "node"), [(f"MOVED {slot_of('project:p')} h:2", B), ("CLUSTERDOWN x", A)])
def test_errors_that_an_older_redis_py_does_not_know_are_known(text: str, node: str) -> None:
    routes = cluster()
    answers, _ = send(routes, [publication()], answers={A: [[ResponseError(text)]]})
    assert isinstance(answers[0], Redirected | ClusterDownError)
    assert routes.is_stale
    assert routes.node_of("project:p") == node


# A command of one key


def test_one_command_follows_a_slot_and_a_failover_and_ends() -> None:
    moved = MovedError(f"{slot_of('k')} h:2")
    assert play(ask(cluster(), "k", "HMGET"), {A: [[moved]], B: [[[b"x"]]]}, slots={B: (6, B)}) == [b"x"]
    asked = AskError(f"{slot_of('k')} h:2")
    assert play(ask(cluster(), "k", "HMGET"), {A: [[asked]], B: [[b"OK", [b"x"]]]}) == [b"x"]
    with pytest.raises(ConnectionError):
        play(ask(cluster(), "k", "HMGET"), {A: [AWAY] * 9}, slots={A: (5, A), B: (5, A), C: (5, A)})
    log: list[Request] = []
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        play(ask(cluster(), "k", "HMGET"), {A: [[ResponseError("WRONGTYPE")]]}, log=log)
    assert len(log) == 1


# What becomes of the answers


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sending]:
    """Of two projects, each at a node of its own."""
    routes = cluster()
    routes._slots[slot_of("project:other")] = B
    monkeypatch.setattr("publisher.transport.sending.routes_of", lambda url: routes)
    return lambda *publications: Sending(PublisherSettings(URL), publications)


def test_what_was_taken_is_not_sent_again(sending: Callable[..., Sending]) -> None:
    all_ = sending(publication("1"), publication("2", "other"), publication("3"))
    with pytest.raises(ConnectionError, match="away"):
        all_.take([AWAY, 2, AWAY])
    assert [one.event.job_id for one in all_.batch] == ["1", "3"]
    all_.take([1, 3])
    assert (all_.seqs, list(all_.batch), all_.given_up) == ([1, 2, 3], [], set())


def test_but_an_event_that_overtook_one_of_its_job_is(sending: Callable[..., Sending]) -> None:
    """Else the older event would arrive last, and be what viewers see."""
    all_ = sending(publication("j"), publication("other"), publication("j"))
    with pytest.raises(TryAgainError):
        all_.take([TryAgainError("x"), 2, 3])
    assert [one.event.job_id for one in all_.batch] == ["j", "j"]


@pytest.mark.parametrize("error", [TryAgainError("x"), ClusterDownError("x"), Redirected("x"), ResponseError("BUSY x")])
def test_these_are_tried_again(sending: Callable[..., Sending], error: Exception) -> None:
    assert sending(publication()).delay_after(error) is not None


def test_a_slot_that_moved_is_followed_at_once_but_not_for_ever(sending: Callable[..., Sending]) -> None:
    one = sending(publication())
    delays = [one.delay_after(Redirected("x")) for _ in range(5)]
    assert delays[:3] == [0, 0, 0]
    assert all(delay is not None and delay > 0 for delay in delays[3:])


def test_only_the_circuit_of_the_node_that_failed_is_opened(
    sending: Callable[..., Sending], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 0)
    monkeypatch.setattr("publisher.transport.circuit.Circuit._ask", lambda *_: None)
    batch = publication("1"), publication("2", "other")
    steps = send_all(PublisherSettings(URL), batch)
    assert isinstance(request := next(steps), Request)
    assert request.url == A
    probe = steps.throw(AWAY)  # no time is left for the other node
    assert isinstance(probe, Probe)
    assert probe.circuit is circuit_of(A)
    probe.circuit.open(lambda: None)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.given_up == {0, 1}
    assert (circuit_of(A).is_open, circuit_of(B).is_open) == (True, False)
    assert sending(publication("1")).is_open
    assert not sending(*batch).is_open
    log: list[Request] = []
    play(probe.conversation(), {A: [[0]]}, slots={A: (5, A), B: (5, A), C: (5, A)}, log=log)
    assert log[-1] == Request(A, [("HDEL", batch[0].key, "~probe")])

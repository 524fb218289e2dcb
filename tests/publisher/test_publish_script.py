"""publish.lua on fakeredis and on the real server: what it remembers, what it refuses, and what cannot confuse it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis.exceptions import NoScriptError, ResponseError

from publisher.events import event_from_json
from publisher.names import job_field, jobs_key
from publisher.publication import (
    BOUNDS,
    MAX_JOBS,
    MAX_PARTS,
    SCRIPT,
    SCRIPT_SHA,
    TIME_TO_LIVE_SECONDS,
    Publication,
    Sent,
)
from publisher.transport.circuit import is_worth_retrying
from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.contract.servers import Server

KEY = jobs_key("project:p")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One that the tests may flush."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(params=["fakeredis", "valkey"])
def client(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Any]:
    if request.param == "fakeredis":
        fake = fakeredis.FakeRedis()
        yield fake
        fake.close()
        return
    with redis.Redis(port=server.port) as real:
        real.flushall()
        yield real


def run(client: Any, kind: str = "progress", *, job: str = "j", bounds: str = BOUNDS, **fields: Any) -> Any:
    """Run the script as the publisher does; return what it answers. `attempt` may be "next" or "next from 4"."""
    event: dict[str, Any] = {"type": kind, "jobId": job, "jobType": "audio"}
    usual: dict[str, dict[str, Any]] = {"progress": {"progress": 1}, "job_complete": {}, "job_failed": {"error": "e"}}
    event |= usual[kind] | fields
    least = None
    if str(event.get("attempt", "")).startswith("next"):
        least = int(event.pop("attempt").partition(" from ")[2] or 0)
    arguments = Publication.of("p", event, "", least_attempt=least).script_arguments()
    return client.eval(SCRIPT, *(bounds if argument == BOUNDS else argument for argument in arguments))


def publish(client: Any, kind: str = "progress", **fields: Any) -> int | None:
    """Run the script; return the seq, None if the event was refused."""
    return Sent.of(run(client, kind, **fields)).seq


def begin(client: Any, **fields: Any) -> int | None:
    """Begin the next attempt; return its number."""
    return Sent.of(run(client, **{"progress": 0, "attempt": "next", **fields})).attempt


def remembered(client: Any) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = client.execute_command("HGETALL", KEY)
    return state


def last(client: Any, job: str = "j", sentence: str | None = None) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(remembered(client)[job_field(job, sentence).encode()])
    return event


def clock(client: Any) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * 1_000_000 + int(microseconds)


# seq


def test_seq_is_the_servers_clock_in_microseconds(client: Any) -> None:
    before = clock(client)
    seq = publish(client)
    assert seq is not None
    assert before <= seq <= clock(client)


def test_seq_rises_with_every_event_of_a_project(client: Any) -> None:
    seqs = [publish(client, job=f"job_{number % 3}") for number in range(50)]
    assert None not in seqs
    assert seqs == sorted(set(seqs))  # type: ignore[type-var]


def test_seq_rises_where_the_clock_is_behind_the_last_one(client: Any) -> None:
    """After a failover to a server whose clock is a little behind."""
    ahead = clock(client) + 10_000_000
    client.hset(KEY, "seq", ahead)
    assert [publish(client) for _ in range(3)] == [ahead + 1, ahead + 2, ahead + 3]


def test_seq_rises_though_redis_was_emptied(client: Any) -> None:
    before = publish(client)
    client.flushall()
    after = publish(client)
    assert before is not None
    assert after is not None
    assert after > before


def test_seq_is_below_2_to_the_53_for_another_two_hundred_years(client: Any) -> None:
    seq = publish(client)
    assert seq is not None
    assert seq < 2**53 / 5


# What is remembered and published


def test_the_event_is_remembered_with_its_seq_as_the_last_of_its_job(client: Any) -> None:
    seq = publish(client, progress=12.5, message="voice 2 of 5")
    assert remembered(client)[b"seq"] == str(seq).encode()
    assert last(client) == {
        "seq": seq, "type": "progress", "jobId": "j", "jobType": "audio", "progress": 12.5, "message": "voice 2 of 5",
    }  # fmt: skip


def test_a_later_event_takes_the_place_of_the_one_before(client: Any) -> None:
    publish(client)
    seq = publish(client, "job_failed", error="é\n")
    assert last(client) == {"seq": seq, "type": "job_failed", "jobId": "j", "jobType": "audio", "error": "é "}
    assert len(remembered(client)) == 4


def test_each_sentence_has_a_last_event_of_its_own(client: Any) -> None:
    publish(client, sentenceId="s1", progress=10)
    publish(client, sentenceId="s2", progress=20)
    publish(client, progress=30)
    assert [last(client, "j", sentence)["progress"] for sentence in ("s1", "s2", None)] == [10, 20, 30]


def test_from_is_the_first_seq_and_stays(client: Any) -> None:
    first = publish(client)
    publish(client)
    assert remembered(client)[b"from"] == str(first).encode()


def test_from_begins_anew_with_a_state_that_expired(client: Any) -> None:
    publish(client)
    client.delete(KEY)
    seq = publish(client)
    assert remembered(client)[b"from"] == str(seq).encode()


def test_it_lives_for_an_hour(client: Any) -> None:
    publish(client)
    assert TIME_TO_LIVE_SECONDS - 5 <= int(client.ttl(KEY)) <= TIME_TO_LIVE_SECONDS == 3_600


def test_its_life_is_renewed_by_the_first_event_of_a_minute(client: Any) -> None:
    publish(client)
    client.expire(KEY, 100)
    client.hset(KEY, "seq", clock(client) - 60_000_000)
    publish(client)
    assert int(client.ttl(KEY)) > 100


def test_subscribers_hear_the_event_with_its_seq(client: Any) -> None:
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("project:p")
    assert pubsub.get_message(timeout=30) is None
    seq = publish(client, progress=40)
    message = pubsub.get_message(timeout=30)
    pubsub.close()
    assert message is not None
    assert json.loads(message["data"]) == last(client)
    assert json.loads(message["data"])["seq"] == seq


def test_a_refused_event_changes_and_says_nothing(client: Any) -> None:
    publish(client, "job_complete", attempt=1)
    before = remembered(client)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("project:p")
    pubsub.get_message(timeout=30)
    assert publish(client, attempt=1) is None
    assert remembered(client) == before
    assert pubsub.get_message(timeout=0.05) is None
    pubsub.close()


# The rules for attempts: tests/cases/ has them, and tests/test_job_rules.py plays them on the script. Here is what the
# script answers, and what it keeps beside the events.

Given = tuple[str, dict[str, Any]]


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (("job_complete", {"attempt": 1}), ("progress", {"attempt": 1, "progress": 100})),
        (("job_failed", {"attempt": 1}), ("job_complete", {"attempt": 1})),
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 1, "progress": 49.9})),
        (("progress", {"attempt": 0, "progress": 50.5}), ("progress", {"attempt": 0, "progress": 0})),
        (("progress", {"attempt": 2**53 - 1, "progress": 2}), ("progress", {"attempt": 2**53 - 1})),
    ],
)
def test_within_an_attempt_an_end_is_final_and_a_progress_does_not_go_down(
    client: Any, before: Given, then: Given
) -> None:
    assert publish(client, before[0], **before[1]) is not None
    assert run(client, then[0], **then[1]) is None


@pytest.mark.parametrize("then", ["progress", "job_complete", "job_failed"])
@pytest.mark.parametrize("before", ["progress", "job_complete", "job_failed"])
@pytest.mark.parametrize(("sentence", "later"), [(None, None), ("s", None), (None, "s"), ("s", "s"), ("s", "t")])
def test_what_a_replaced_attempt_says_is_refused_and_told_which_one_replaced_it(
    client: Any, before: str, then: str, sentence: str | None, later: str | None
) -> None:
    publish(client, before, attempt=3, sentenceId=later)
    answer = run(client, then, attempt=2, sentenceId=sentence)
    assert answer == [0, 3]
    assert Sent.of(answer) == Sent(None, replaced_by=3)


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 1, "progress": 50})),
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 2, "progress": 0})),
        (("progress", {"attempt": 1, "progress": 99}), ("job_failed", {"attempt": 1})),
        (("job_complete", {"attempt": 9}), ("progress", {"attempt": 10})),
        (("job_complete", {}), ("progress", {"progress": 0})),
        (("job_complete", {}), ("progress", {"attempt": 0})),
        (("job_complete", {"attempt": 3}), ("progress", {})),
        (("job_complete", {"attempt": 1}), ("progress", {"attempt": 1, "sentenceId": "s"})),
        (("job_complete", {"attempt": 1}), ("progress", {"attempt": 0, "job": "other"})),
        (("progress", {"attempt": 0, "progress": 1e-320}), ("progress", {"attempt": 0, "progress": 1e-300})),
        (("job_complete", {"attempt": 2**53 - 2}), ("progress", {"attempt": 2**53 - 1})),
    ],
)
def test_not_refused(client: Any, before: Given, then: Given) -> None:
    """A later attempt, an end, as much or more; where one of the two carries no attempt; another part or job."""
    assert publish(client, before[0], **before[1]) is not None
    assert isinstance(run(client, then[0], **then[1]), int)


def test_the_next_attempt_is_the_number_after_the_last_one_and_0_where_there_is_none(client: Any) -> None:
    assert begin(client) == 0
    assert last(client)["attempt"] == 0
    assert begin(client) == 1
    publish(client, "job_complete", attempt=1)
    assert begin(client) == 2, "an end is replaced too"
    publish(client, attempt=7)
    assert begin(client) == 8
    assert last(client)["attempt"] == 8


def test_the_next_attempt_may_be_given_a_least_number(client: Any) -> None:
    assert begin(client, attempt="next from 4") == 4
    assert begin(client, attempt="next from 2") == 5
    assert begin(client, attempt="next from 9") == 9


def test_a_sentence_may_begin_the_next_attempt(client: Any) -> None:
    publish(client, "job_complete", attempt=1)
    publish(client, sentenceId="old", attempt=1)
    assert begin(client, sentenceId="s") == 2
    assert [name for name in remembered(client) if b"\n" in name] == [b"j\ns"]


def test_after_the_largest_number_there_is_no_next_one_and_viewers_can_still_read_the_event(client: Any) -> None:
    publish(client, attempt=2**53 - 1)
    assert begin(client) == 2**53 - 1
    assert event_from_json(remembered(client)[b"j\n"]).attempt == 2**53 - 1


def test_subscribers_hear_the_number_and_nothing_else_of_the_event_is_changed(client: Any) -> None:
    text = ',"attempt":"next",'
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("project:p")
    assert pubsub.get_message(timeout=30) is None
    begin(client, job=text, sentenceId=text, message=text, data={"attempt": "next", "x": text})
    message = pubsub.get_message(timeout=30)
    pubsub.close()
    event = json.loads(message["data"])
    assert event == last(client, text, text)
    assert (event["jobId"], event["attempt"], event["message"]) == (text, 0, text)
    assert event["data"] == {"attempt": "next", "x": text}


def fields_of(client: Any) -> set[str]:
    return {name.decode() for name in remembered(client)} - {"seq", "from", "format"}


def test_a_job_with_sentences_has_a_field_with_its_attempt_and_their_number(client: Any) -> None:
    publish(client, attempt=3, progress=0)
    assert fields_of(client) == {"j\n"}, "the job's own event tells the attempt"
    publish(client, attempt=3, sentenceId="s1")
    publish(client, attempt=3, sentenceId="s2")
    publish(client, attempt=3, sentenceId="s2", progress=2)
    publish(client, sentenceId="s3")
    assert remembered(client)[b"\tj"] == b"3:3"
    publish(client, sentenceId="s", job="k")
    assert remembered(client)[b"\tk"] == b":1"
    publish(client, attempt=4, progress=0)
    assert remembered(client)[b"\tj"] == b"4:0"
    assert fields_of(client) == {"j\n", "\tj", "k\ns", "\tk"}


def test_the_number_outlives_an_event_without_one(client: Any) -> None:
    publish(client, attempt=3)
    publish(client, progress=5)
    assert remembered(client)[b"\tj"] == b"3:0"
    assert run(client, attempt=2) == [0, 3]
    assert begin(client) == 4


@pytest.mark.parametrize("sentences", [1, 999, 1_000, 1_001, 9_999])
def test_an_attempt_that_begins_deletes_every_other_part_of_its_job_and_no_other_job(
    client: Any, sentences: int
) -> None:
    """Also more parts than Lua can unpack at once."""
    event = '{"seq":1000000000000000,"type":"progress","jobId":"j","jobType":"audio","sentenceId":"s","progress":1}'
    state = {job_field("j", str(number)): event for number in range(sentences)}
    others = {job_field("jj", None): event, job_field("jj", "1"): event, job_field("k", "j"): event}
    client.hset(KEY, mapping={"seq": "1000000000000000", "from": "1", "\tj": f":{sentences}", **state, **others})
    assert begin(client) == 0
    assert fields_of(client) == {"j\n", "\tj", *others}
    assert remembered(client)[b"\tj"] == b"0:0"


def test_a_progress_of_0_without_attempt_begins_a_job_anew_that_had_begun(client: Any) -> None:
    for begun in ({"progress": 1}, {"kind": "job_complete"}):
        publish(client, **begun)
        publish(client, sentenceId="s", progress=50)
        publish(client, progress=-0.0)
        assert fields_of(client) == {"j\n", "\tj"}
        publish(client, sentenceId="s", progress=0)
        publish(client, progress=0)
        assert fields_of(client) == {"j\n", "j\ns", "\tj"}, "it had not begun: 0 was the last"


# What version 0.1 left there


def write_0_1(client: Any, *events: dict[str, Any]) -> None:
    """As version 0.1 wrote it: each part on its own, with no field but `seq` and `from` beside them."""
    seq = 1_000_000_000_000_000
    state = {"from": str(seq)}
    for event in events:
        kind = {"type": "progress", "jobId": "j", "jobType": "audio"}
        whole = {"seq": seq, **kind, **event}
        state[job_field(whole["jobId"], whole.get("sentenceId"))] = json.dumps(whole, separators=(",", ":"))
        state["seq"] = str(seq)
        seq += 1
    client.hset(KEY, mapping=state)


@pytest.mark.parametrize("asks_for", ["job", "sentence", "new sentence"])
def test_the_number_of_a_job_of_version_0_1_is_the_highest_of_its_own_event_and_the_part(
    client: Any, asks_for: str
) -> None:
    write_0_1(client, {"attempt": 2, "progress": 5}, {"sentenceId": "s", "attempt": 1, "progress": 5})
    part = {"job": None, "sentence": "s", "new sentence": "t"}[asks_for]
    assert run(client, attempt=1, sentenceId="t") == [0, 2]
    assert begin(client, sentenceId=part) == 3
    assert {name for name in fields_of(client) if "\n" in name} == {job_field("j", part)}


def test_an_event_of_version_0_1_may_carry_more_than_the_header_says(client: Any) -> None:
    publish(client, attempt=3, sentenceId="s")
    write_0_1(client, {"attempt": 5, "progress": 0})
    assert run(client, attempt=4) == [0, 5]
    assert begin(client) == 6


def test_a_job_of_version_0_1_begins_without_what_was_there(client: Any) -> None:
    write_0_1(client, {"type": "job_complete", "result": {}}, {"sentenceId": "s", "progress": 5})
    publish(client, progress=0)
    assert {name for name in fields_of(client) if "\n" in name} == {"j\n"}


# The rule reads the usual last event without decoding it. Whatever stands there, the answer must be the decoder's.

HOSTILE_TEXTS = (
    ',"attempt":0,"progress":0,',
    '"attempt":9,"progress":99',
    'x","attempt":9,"progress":99,"',
    '\\","attempt":9,"progress":99',
    "{",
    "}",
    '{"attempt":9}',
    "\\",
    ",",
    '",',
)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
@pytest.mark.parametrize("where", ["jobId", "sentenceId", "message"])
def test_texts_that_look_like_an_attempt_are_none(client: Any, where: str, text: str) -> None:
    def say(attempt: int | None, progress: int) -> Any:
        event = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": progress} | {where: text}
        if attempt is not None:
            event["attempt"] = attempt
        arguments: tuple[Any, ...] = Publication.of("p", event, "").script_arguments()
        return client.eval(SCRIPT, *arguments)

    assert say(2, 50) is not None
    assert say(2, 50) is not None
    assert say(2, 49) is None
    assert say(1, 99) == [0, 2]
    assert say(3, 0) is not None
    assert say(None, 1) is not None
    assert say(3, 0) is not None, "the last event has no attempt but in its texts"


PROGRESS_2 = '{"seq":1000000000000000,"type":"progress","jobId":"j","jobType":"audio",'


@pytest.mark.parametrize(
    ("written", "refuses"),
    [
        (PROGRESS_2 + '"attempt":2,"progress":50}', False),
        (PROGRESS_2 + '"attempt":2,"progress":50.5}', True),
        (PROGRESS_2 + '"attempt":2,"progress":5e1,"message":"x"}', False),
        (PROGRESS_2 + '"attempt":2,"progress":9e1}', True),
        (PROGRESS_2 + '"attempt":2,"progress":"51"}', True),
        (PROGRESS_2 + '"attempt":2,"progress":null}', False),
        (PROGRESS_2 + '"attempt":2,"progress":[51]}', False),
        (PROGRESS_2 + '"attempt":2, "progress":51}', True),
        (PROGRESS_2 + '"attempt":2}', False),
        (PROGRESS_2 + '"attempt":3}', True),
        (PROGRESS_2 + '"attempt":3,"progress":0}', True),
        (PROGRESS_2 + '"attempt":2.5,"progress":0}', False),
        (PROGRESS_2 + '"attempt":-3,"progress":99}', False),
        (PROGRESS_2 + '"progress":51,"attempt":2}', True),
        (PROGRESS_2 + '"x":{"y":1,"attempt":0,"progress":0},"attempt":3}', True),
        (PROGRESS_2 + '"x":{"y":1,"attempt":3,"progress":0},"attempt":2,"progress":1}', False),
        (PROGRESS_2 + '"x":["\\"",{"y":1,"attempt":0,"progress":0}],"attempt":3}', True),
        (PROGRESS_2 + '"attempt":1e300,"progress":0}', False),
        (PROGRESS_2 + '"attempt":9007199254740992,"progress":0}', False),
        # No JSON: not refused, however high an attempt or progress it seems to carry.
        (PROGRESS_2 + '"attempt":2,"progress":99', False),
        (PROGRESS_2 + '"attempt":3,"progress":0', False),
        (PROGRESS_2 + '"attempt":3,"progress":99}x', False),
        # Ends with a progress, and what begins like a progress but is none.
        (PROGRESS_2.replace("progress", "job_complete") + '"attempt":2,"progress":1}', True),
        (PROGRESS_2.replace("progress", "job_failed") + '"attempt":1,"progress":1}', False),
        ('{"seq":1,"type":"job_failed","type_":"progress","attempt":2,"progress":1}', True),
        ('{"seq":1,"x":["12345",{"a":0,"type":"progress","attempt":0,"progress":1}],"attempt":3}', True),
        ('{"attempt":3,"seq":1000000,"type":"progress","progress":1}', True),
    ],
)  # fmt: skip
def test_what_somebody_else_wrote_counts_as_what_it_says(client: Any, written: str, refuses: bool) -> None:
    client.hset(KEY, mapping={"seq": "1000000000000000", "from": "1", job_field("j", None): written})
    assert (publish(client, attempt=2, progress=50) is None) == refuses


# Seen and not remembered


def test_a_redis_without_memory_says_the_event_forgets_the_older_one_and_tells(server: RedisServer) -> None:
    """A late viewer is not to be shown the older event for the newest; a returning one is to hear of a gap."""
    with redis.Redis(port=server.port) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        client.flushall()
        publish(client, progress=10)
        publish(client, job="other", progress=10)
        pubsub.subscribe("project:p")
        assert pubsub.get_message(timeout=30) is None
        client.config_set("maxmemory", 1)
        try:
            answers: list[Any] = [run(client, progress=20), run(client, job="new", progress=30)]
        finally:
            client.config_set("maxmemory", 0)
        seqs = [seq for seq, _, _ in answers]
        assert all(error.startswith(b"OOM") for _, _, error in answers)
        assert all(attempt == -1 for _, attempt, _ in answers)
        messages = [pubsub.get_message(timeout=30) for _ in seqs]
        assert [json.loads(message["data"])["seq"] for message in messages if message] == seqs
        assert list(remembered(client)) == [job_field("other", None).encode()]
        seq = publish(client, progress=40)
        state = remembered(client)
        assert state[b"from"] == state[b"seq"] == str(seq).encode()


def test_an_attempt_that_begins_while_memory_is_full_has_its_number_and_leaves_nothing_of_the_one_before(
    server: RedisServer,
) -> None:
    """Late viewers would be shown that every sentence has ended, of a job that runs."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
        publish(client, attempt=4)
        publish(client, "job_complete", attempt=4, sentenceId="s")
        client.config_set("maxmemory", 1)
        try:
            sent = Sent.of(run(client, progress=0, attempt="next"))
            other = Sent.of(run(client, job="k", progress=0, attempt="next"))
        finally:
            client.config_set("maxmemory", 0)
        assert sent.attempt == 5
        assert other.attempt == 0
        assert other.unremembered is not None
        assert other.unremembered.startswith("OOM")
        assert not [name for name in remembered(client) if name.startswith(b"j\ns")]
        assert run(client, attempt=4) == [0, 5] or run(client, attempt=5) is not None


def test_control_without_forgetting_a_late_viewer_would_be_shown_the_older_event(server: RedisServer) -> None:
    forgetful = SCRIPT.replace("redis.pcall('HDEL', key, 'format', 'seq', 'from', field)", "0")
    assert forgetful != SCRIPT
    event = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 90}
    with redis.Redis(port=server.port) as client:
        client.flushall()
        publish(client, progress=10)
        client.config_set("maxmemory", 1)
        try:
            client.eval(forgetful, *Publication.of("p", event, "").script_arguments())
        finally:
            client.config_set("maxmemory", 0)
        assert last(client)["progress"] == 10


def test_a_redis_that_may_write_nothing_is_an_error_and_nothing_is_sent(tmp_path: Path) -> None:
    """It could not even forget the older event, which late viewers would be shown for the newest, and nobody knew."""
    server = Server("redis", tmp_path / "server")
    try:
        with server.client.pubsub(ignore_subscribe_messages=True) as pubsub:
            first: Any = publish(server.client, progress=10)
            pubsub.subscribe("project:p")
            assert pubsub.get_message(timeout=30) is None
            shutil.rmtree(tmp_path / "server")  # its disk
            server.client.config_set("save", "3600 1")
            server.client.execute_command("BGSAVE")
            wait_for(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", "BGSAVE to fail")
            with pytest.raises(ResponseError, match="MISCONF") as refused:
                publish(server.client, progress=20)
            assert is_worth_retrying(refused.value), "so that a tracked job's end is sent when the disk is mended"
            assert pubsub.get_message(timeout=0.2) is None
            server.client.config_set("stop-writes-on-bgsave-error", "no")
            second: Any = publish(server.client, progress=20)
            assert second > first
    finally:
        server.end()


def test_a_user_that_may_not_write_says_the_event_and_tells(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.flushall()
        publish(client, progress=10)
        client.execute_command("ACL", "SETUSER", "reader", "on", "nopass", "~*", "&*", "+@all", "-hset")
        with redis.Redis(port=server.port, username="reader", password="x") as reader:
            answer: Any = run(reader, progress=20)
        client.execute_command("ACL", "DELUSER", "reader")
        assert b"NOPERM" in answer[2] or b"permission" in answer[2]
        assert remembered(client) == {}


def test_a_user_with_the_rights_that_version_0_1_needed_can_do_everything(server: RedisServer) -> None:
    rights = "+evalsha +eval +hmget +hset +hgetall +hdel +hlen +time +expire +publish +hello +auth"
    with redis.Redis(port=server.port) as client:
        client.flushall()
        command = f"ACL SETUSER jobs on nopass resetchannels &project:* ~{{project:*}}:jobs -@all {rights}"
        client.execute_command(*command.split())
        fill(client, MAX_JOBS + 125)
        try:
            with redis.Redis(port=server.port, username="jobs", password="x", driver_info=None) as user:
                for sentence in (None, "s"):
                    publish(user, attempt=1, sentenceId=sentence, message="x" * 900)
                    publish(user, job="k", sentenceId=sentence)
                assert begin(user) == 2
        finally:
            client.execute_command("ACL", "DELUSER", "jobs")
        assert len(jobs_in(client)) <= MAX_JOBS + 2
        assert {name for name in fields_of(client) if name.startswith("j\n")} == {"j\n"}


def test_a_read_only_redis_is_an_error_and_nothing_is_sent(server: RedisServer) -> None:
    """A primary that was demoted: the publisher connects again, perhaps to the new one."""
    with redis.Redis(port=server.port) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        client.flushall()
        publish(client)
        pubsub.subscribe("project:p")
        assert pubsub.get_message(timeout=30) is None
        client.execute_command("REPLICAOF", "127.0.0.1", 1)
        try:
            with pytest.raises(redis.ReadOnlyError):
                publish(client)
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert pubsub.get_message(timeout=0.05) is None


# The bounds: 1,000 jobs, 10,000 parts, 8 MiB


def stored(seq: int, kind: str = "progress", size: int = 0) -> str:
    return json.dumps({"seq": seq, "type": kind, "x": "x" * size}, separators=(",", ":"))


def fill(client: Any, count: int, kind: str = "progress", sentences: int = 0, size: int = 0) -> None:
    """So many jobs, each with its own event and `sentences` more, at the seqs 1,000, 1,001, and so on."""
    seq, state = 999, {"from": "1000"}
    for number in range(count):
        for sentence in (None, *range(sentences)):
            seq += 1
            field = job_field(f"job_{number}", None if sentence is None else str(sentence))
            state[field] = stored(seq, kind if sentence is None else "progress", size)
        if sentences:
            state[f"\tjob_{number}"] = f":{sentences}"
    client.hset(KEY, mapping={"seq": str(seq), **state})


def jobs_in(client: Any) -> set[str]:
    return {name.partition(b"\n")[0].decode() for name in remembered(client) if b"\n" in name}


def test_no_job_is_forgotten_before_the_slack_is_used_up(client: Any) -> None:
    fill(client, MAX_JOBS + 120)
    publish(client, job="new")
    assert len(jobs_in(client)) == MAX_JOBS + 121
    assert remembered(client)[b"from"] == b"1000"


def test_above_it_jobs_are_forgotten_down_to_a_thousand_and_from_moves_up(client: Any) -> None:
    fill(client, MAX_JOBS + 125)
    seq = publish(client, job="new")
    assert len(jobs_in(client)) == MAX_JOBS
    assert "job_125" not in jobs_in(client)
    assert "job_126" in jobs_in(client)
    assert remembered(client)[b"from"] == b"1125", "the seq of the newest job that was forgotten"
    assert last(client, "new")["seq"] == seq
    counts = []
    for number in range(260):
        publish(client, job=f"new_{number}")
        counts.append(len(jobs_in(client)))
    assert MAX_JOBS + 115 < max(counts) <= MAX_JOBS + 125, "there is slack again: a check reads everything"
    assert 1 <= counts.count(MAX_JOBS) <= 2
    assert remembered(client)[b"from"] > b"1125"


def test_a_known_part_is_no_reason_to_forget(client: Any) -> None:
    fill(client, MAX_JOBS + 130)
    publish(client, job="job_0")
    publish(client, "job_complete", job="job_1", attempt=2)
    assert len(jobs_in(client)) == MAX_JOBS + 130


def test_jobs_that_ended_are_forgotten_first_those_that_ended_longest_ago_before_others(client: Any) -> None:
    """Never by how old their sentences are: those announced at the begin are the oldest of a job that runs."""
    fill(client, MAX_JOBS + 125, "progress")
    ends = {"job_900": 500, "job_7": 300, "job_1000": 400}
    client.hset(KEY, mapping={job_field(job, None): stored(seq, "job_complete") for job, seq in ends.items()})
    client.hset(KEY, mapping={job_field("job_7", "s"): stored(9_000), "\tjob_7": ":1"})
    publish(client, job="new", bounds="1124:10000:8388608")
    assert jobs_in(client) >= {"job_900", "new", "job_0"}
    assert not jobs_in(client) & {"job_7", "job_1000"}
    assert remembered(client)[b"from"] == b"9000", "whole jobs: its sentence was newer than its end"
    assert b"\tjob_7" not in remembered(client)


@pytest.mark.parametrize("kinds", [("progress", "job_complete"), ("job_failed", "job_complete")])
def test_a_job_without_an_event_of_its_own_has_ended_when_all_its_sentences_have(
    client: Any, kinds: tuple[str, str]
) -> None:
    fill(client, MAX_JOBS + 125, "progress")
    state = {job_field("s", str(number)): stored(2 + number, kind) for number, kind in enumerate(kinds)}
    client.hset(KEY, mapping={**state, job_field("t", "x"): stored(4, "job_failed")})
    publish(client, job="new", bounds="1127:10000:8388608")
    assert jobs_in(client) >= ({"s"} if "progress" in kinds else {"t"})
    assert not jobs_in(client) & ({"t"} if "progress" in kinds else {"s"})


def test_parts_above_the_bound_are_forgotten_with_their_job(client: Any) -> None:
    fill(client, 10, sentences=999)
    publish(client, job="job_9", sentenceId="new")
    state = remembered(client)
    assert sum(b"\n" in name for name in state) == MAX_PARTS - 1_000 + 1
    assert jobs_in(client) == {f"job_{number}" for number in range(1, 10)}
    assert state[b"from"] == b"1999"
    assert state[b"left"] == str(1_000 - 9 + 125).encode(), "a job more needs one part at least"


def test_eight_megabytes_are_kept(client: Any) -> None:
    fill(client, 300, size=30_000)
    publish(client, job="new", message="x" * 900)
    state = remembered(client)
    size = sum(len(name) + len(value) for name, value in state.items() if b"\n" in name)
    assert 8_388_608 - 31_000 < size <= 8_388_608
    assert "job_0" not in jobs_in(client)
    assert {"job_299", "new"} <= jobs_in(client)
    assert state[b"from"] == str(1_000 + 300 - len(jobs_in(client))).encode()


def test_bytes_of_large_events_are_counted_until_the_next_check(client: Any) -> None:
    publish(client, data={"x": "x" * 5_000})
    left = int(remembered(client)[b"left_bytes"])
    assert 8_388_608 < left < 8_388_608 + 1_048_576
    publish(client, data={"x": "x" * 5_000})
    assert left - 5_200 < int(remembered(client)[b"left_bytes"]) < left - 5_000
    client.hset(KEY, "left_bytes", "10")
    publish(client, data={"x": "x" * 5_000})
    assert int(remembered(client)[b"left_bytes"]) == left


def test_one_job_that_passes_the_bounds_alone_is_forgotten_and_the_next_event_is_remembered(client: Any) -> None:
    publish(client, data={"x": "x" * 5_000}, bounds="1000:10000:4000")
    assert not jobs_in(client)
    seq = publish(client)
    assert last(client)["seq"] == seq


def test_junk_among_the_parts_is_forgotten_first(client: Any) -> None:
    fill(client, MAX_JOBS + 123)
    client.hset(KEY, mapping={"junk\n": "junk", "more\n": "", "job_5\n": '{"type":"job_complete"}'})
    publish(client, job="new")
    assert not jobs_in(client) & {"junk", "more", "job_5"}
    assert len(jobs_in(client)) == MAX_JOBS
    assert remembered(client)[b"from"] == b"1123"


@pytest.mark.parametrize("seq", ["9" * 17, "9" * 400])
def test_a_seq_of_others_that_no_clock_gave_does_not_move_from(client: Any, seq: str) -> None:
    fill(client, MAX_JOBS + 124)
    client.hset(KEY, "other\n", f'{{"seq":{seq},"type":"job_complete"}}')
    publish(client, job="new")
    assert "other" not in jobs_in(client)
    assert remembered(client)[b"from"] == b"1124"


def test_where_anything_may_be_missing_forgetting_does_not_make_it_complete(client: Any) -> None:
    fill(client, MAX_JOBS + 125)
    client.hdel(KEY, "from")
    publish(client, job="new")
    assert len(jobs_in(client)) == MAX_JOBS
    assert b"from" not in remembered(client)


def test_fields_of_others_that_are_no_parts_are_left_alone(client: Any) -> None:
    fill(client, MAX_JOBS + 125)
    client.hset(KEY, mapping={"junk": "x", "": "y"})
    publish(client, job="new")
    assert {b"junk", b""} <= remembered(client).keys()


@pytest.mark.parametrize("junk", ["", "x", "nan", "inf", "-inf", "1e300", "-9223372036854775808", "1.5", "-5"])
@pytest.mark.parametrize("name", ["left", "left_bytes"])
def test_junk_where_the_script_counts_is_replaced_by_a_check(client: Any, name: str, junk: str) -> None:
    fill(client, MAX_JOBS + 125)
    client.hset(KEY, name, junk)
    assert publish(client, job="new", message="x" * 900) is not None
    assert len(jobs_in(client)) == MAX_JOBS
    assert all(remembered(client)[field].isdigit() for field in (b"left", b"left_bytes"))


# Whatever else stands there


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "junk",
        "null",
        "1",
        "[]",
        "{}",
        '"x"',
        "{",
        '{"attempt":null}',
        '{"attempt":{}}',
        '{"attempt":"x"}',
        '{"attempt":[1]}',
        '{"attempt":true,"type":"progress"}',
        '{"attempt":1,"type":"progress","progress":null}',
        '{"attempt":1,"type":"progress","progress":{}}',
        '{"attempt":1,"type":"progress"}',
        "[" * 5_000,
        "\x00\xff",
        '{"attempt":1e999}x',
        '{"attempt":1e999}',
        '{"attempt":1e300,"type":"job_complete"}',
        '{"attempt":-1,"type":"job_complete"}',
        '{"attempt":9007199254740993,"type":"job_complete"}',
    ],
)
def test_junk_in_a_jobs_field_is_replaced_by_its_next_event(client: Any, junk: str) -> None:
    client.hset(KEY, mapping={"seq": "1", "from": "1", job_field("j", None): junk})
    assert publish(client, attempt=2) is not None
    assert last(client)["attempt"] == 2
    client.hset(KEY, job_field("k", None), junk)
    assert begin(client, job="k") in (0, 2)
    client.hset(KEY, job_field("l", None), junk)
    assert publish(client, job="l", progress=0) is not None
    assert event_from_json(remembered(client)[b"l\n"])


@pytest.mark.parametrize(
    "junk", ["", "junk", ":", "x:1", "-3:1", "3:-1", "3", "1e3:1", "9" * 400 + ":1", ":" + "9" * 400]
)
def test_junk_in_a_jobs_header_is_replaced(client: Any, junk: str) -> None:
    publish(client, attempt=3)
    client.hset(KEY, mapping={"\tj": junk, "j\nold": "junk"})
    assert run(client, attempt=2, sentenceId="s") == [0, 3]
    assert publish(client, attempt=3, sentenceId="s") is not None
    assert publish(client, sentenceId="t") is not None
    assert remembered(client)[b"\tj"] == b"3:2"
    assert begin(client) == 4
    assert {name for name in fields_of(client) if "\n" in name} == {"j\n"}


@pytest.mark.parametrize(
    "state", [{"from": "5"}, {"seq": "5"}, {"seq": ""}, {"seq": "junk"}, {"seq": "-5"}, {"seq": "nan"}, {"other": "x"}]
)
def test_a_state_with_missing_or_wrong_fields_does_no_harm(client: Any, state: dict[str, str]) -> None:
    client.hset(KEY, mapping=state)
    before = clock(client)
    first, second = publish(client), publish(client, job="k")
    assert first is not None
    assert second is not None
    assert before <= first < second
    assert last(client)["seq"] == first


@pytest.mark.parametrize("seq", ["inf", "1e300", "0x7fffffffffffffff", str(2**53)])
def test_a_seq_that_no_clock_gave_does_not_stop_the_project(client: Any, seq: str) -> None:
    client.hset(KEY, mapping={"seq": seq, "from": "1"})
    first, second = publish(client), publish(client)
    assert first is not None
    assert second is not None
    assert 0 < first < second < 2**53
    assert last(client)["seq"] == second


def test_a_key_of_another_type_is_an_error_and_nothing_is_sent(client: Any) -> None:
    client.set(KEY, "a string")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(client)


def test_texts_that_look_like_commands_are_texts(client: Any) -> None:
    text = "' .. redis.call('FLUSHALL') .. ' %s %d {} [] \" \\"
    publish(client, message=text)
    assert last(client)["message"] == text


# Loading


def test_the_script_is_known_by_its_hash_once_it_was_evaluated_and_forgotten_after_script_flush(
    client: Any,
) -> None:
    publish(client)
    arguments: tuple[Any, ...] = Publication.of(
        "p", {"type": "job_complete", "jobId": "j", "jobType": "audio"}, ""
    ).script_arguments()
    assert client.evalsha(SCRIPT_SHA, *arguments)
    client.script_flush()
    with pytest.raises(NoScriptError):
        client.evalsha(SCRIPT_SHA, *arguments)


def test_its_keys_and_arguments_are_named_in_its_opening_comment() -> None:
    opening = SCRIPT[: SCRIPT.index("\nlocal ")]
    used = {f"ARGV[{number}]" for number in range(1, 20) if f"ARGV[{number}]" in SCRIPT} | {"KEYS[1]"}
    assert used == {"KEYS[1]"} | {f"ARGV[{number}]" for number in range(1, 9)}
    assert all(name in opening for name in used)
    assert "Returns" in opening

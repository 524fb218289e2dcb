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

from publisher.names import job_field, jobs_key
from publisher.publication import MAX_JOBS, SCRIPT, SCRIPT_SHA, TIME_TO_LIVE_SECONDS, TRIM_SLACK, Publication
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


def publish(client: Any, kind: str = "progress", *, job: str = "j", **fields: Any) -> int | None:
    """Run the script as the publisher does."""
    event: dict[str, Any] = {"type": kind, "jobId": job, "jobType": "audio"}
    usual: dict[str, dict[str, Any]] = {"progress": {"progress": 1}, "job_complete": {}, "job_failed": {"error": "e"}}
    event |= usual[kind] | fields
    arguments: tuple[Any, ...] = Publication.of("p", event, "").script_arguments()
    seq: int | None = client.eval(SCRIPT, *arguments)
    return seq


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
    assert last(client) == {"seq": seq, "type": "job_failed", "jobId": "j", "jobType": "audio", "error": "é"}
    assert len(remembered(client)) == 3


def test_jobs_that_differ_by_their_sentence_are_different_jobs(client: Any) -> None:
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
    assert pubsub.get_message(timeout=5) is None
    seq = publish(client, progress=40)
    message = pubsub.get_message(timeout=5)
    pubsub.close()
    assert message is not None
    assert json.loads(message["data"]) == last(client)
    assert json.loads(message["data"])["seq"] == seq


def test_a_refused_event_changes_and_says_nothing(client: Any) -> None:
    publish(client, "job_complete", attempt=1)
    before = remembered(client)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("project:p")
    pubsub.get_message(timeout=5)
    assert publish(client, attempt=1) is None
    assert remembered(client) == before
    assert pubsub.get_message(timeout=0.05) is None
    pubsub.close()


# The attempt rule

Said = tuple[str, dict[str, Any]]


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (("progress", {"attempt": 2}), ("progress", {"attempt": 1, "progress": 99})),
        (("progress", {"attempt": 2}), ("job_complete", {"attempt": 1})),
        (("progress", {"attempt": 2}), ("job_failed", {"attempt": 0})),
        (("job_failed", {"attempt": 2}), ("job_complete", {"attempt": 1})),
        (("job_complete", {"attempt": 1}), ("progress", {"attempt": 1, "progress": 100})),
        (("job_failed", {"attempt": 1}), ("progress", {"attempt": 1})),
        (("job_failed", {"attempt": 1}), ("job_complete", {"attempt": 1})),
        (("job_complete", {"attempt": 0}), ("job_complete", {"attempt": 0})),
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 1, "progress": 49.9})),
        (("progress", {"attempt": 0, "progress": 50.5}), ("progress", {"attempt": 0, "progress": 0})),
    ],
)
def test_refused(client: Any, before: Said, then: Said) -> None:
    """A lower attempt; anything after the end of the same attempt; a progress below the last of the same attempt."""
    assert publish(client, before[0], **before[1]) is not None
    assert publish(client, then[0], **then[1]) is None


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 1, "progress": 50})),
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 1, "progress": 50.1})),
        (("progress", {"attempt": 1, "progress": 50}), ("progress", {"attempt": 2, "progress": 0})),
        (("progress", {"attempt": 1, "progress": 99}), ("job_complete", {"attempt": 1})),
        (("progress", {"attempt": 1, "progress": 99}), ("job_failed", {"attempt": 1})),
        (("job_failed", {"attempt": 1}), ("progress", {"attempt": 2, "progress": 0})),
        (("job_complete", {"attempt": 1}), ("job_failed", {"attempt": 2})),
        (("job_complete", {"attempt": 9}), ("progress", {"attempt": 10})),
        (("job_complete", {}), ("progress", {"progress": 0})),
        (("job_complete", {}), ("progress", {"attempt": 0})),
        (("job_complete", {"attempt": 3}), ("progress", {})),
        (("progress", {"attempt": 3, "progress": 50}), ("progress", {"progress": 10})),
        (("job_complete", {"attempt": 1}), ("progress", {"attempt": 1, "sentenceId": "s"})),
        (("job_complete", {"attempt": 1}), ("progress", {"attempt": 1, "job": "other"})),
        (("progress", {"attempt": 0, "progress": 1e-320}), ("progress", {"attempt": 0, "progress": 1e-300})),
        (("job_complete", {"attempt": 2**53 - 2}), ("progress", {"attempt": 2**53 - 1})),
    ],
)
def test_not_refused(client: Any, before: Said, then: Said) -> None:
    """A later attempt, an end, as much or more; where one of the two carries no attempt; another job."""
    assert publish(client, before[0], **before[1]) is not None
    assert publish(client, then[0], **then[1]) is not None


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
    def say(attempt: int | None, progress: int) -> int | None:
        event = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": progress} | {where: text}
        if attempt is not None:
            event["attempt"] = attempt
        arguments: tuple[Any, ...] = Publication.of("p", event, "").script_arguments()
        seq: int | None = client.eval(SCRIPT, *arguments)
        return seq

    assert say(2, 50) is not None
    assert say(2, 50) is not None
    assert say(2, 49) is None
    assert say(1, 99) is None
    assert say(3, 0) is not None
    assert say(None, 1) is not None
    assert say(0, 0) is not None, "the last event has no attempt but in its texts"


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
        (PROGRESS_2 + '"attempt":2.5,"progress":0}', True),
        (PROGRESS_2 + '"attempt":-3,"progress":99}', False),
        (PROGRESS_2 + '"progress":51,"attempt":2}', True),
        (PROGRESS_2 + '"x":{"y":1,"attempt":0,"progress":0},"attempt":3}', True),
        (PROGRESS_2 + '"x":{"y":1,"attempt":3,"progress":0},"attempt":2,"progress":1}', False),
        (PROGRESS_2 + '"x":["\\"",{"y":1,"attempt":0,"progress":0}],"attempt":3}', True),
        # No JSON: not refused, however high an attempt it seems to carry.
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
        assert pubsub.get_message(timeout=5) is None
        client.config_set("maxmemory", 1)
        try:
            answers: list[Any] = [publish(client, progress=20), publish(client, job="new", progress=30)]
        finally:
            client.config_set("maxmemory", 0)
        seqs = [seq for seq, _ in answers]
        assert all(error.startswith(b"OOM") for _, error in answers)
        messages = [pubsub.get_message(timeout=5) for _ in seqs]
        assert [json.loads(message["data"])["seq"] for message in messages if message] == seqs
        assert list(remembered(client)) == [job_field("other", None).encode()]
        seq = publish(client, progress=40)
        state = remembered(client)
        assert state[b"from"] == state[b"seq"] == str(seq).encode()


def test_control_without_forgetting_a_late_viewer_would_be_shown_the_older_event(server: RedisServer) -> None:
    forgetful = SCRIPT.replace("redis.pcall('HDEL', key, 'seq', 'from', field)", "0")
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
            assert pubsub.get_message(timeout=5) is None
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
            answer: Any = publish(reader, progress=20)
        client.execute_command("ACL", "DELUSER", "reader")
        assert b"NOPERM" in answer[1] or b"permission" in answer[1]
        assert remembered(client) == {}


def test_a_read_only_redis_is_an_error_and_nothing_is_sent(server: RedisServer) -> None:
    """A primary that was demoted: the publisher connects again, perhaps to the new one."""
    with redis.Redis(port=server.port) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        client.flushall()
        publish(client)
        pubsub.subscribe("project:p")
        assert pubsub.get_message(timeout=5) is None
        client.execute_command("REPLICAOF", "127.0.0.1", 1)
        try:
            with pytest.raises(redis.ReadOnlyError):
                publish(client)
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert pubsub.get_message(timeout=0.05) is None


# A thousand jobs


def fill(client: Any, count: int) -> None:
    """As if so many jobs had each said something, at the seqs 1,000, 1,001, and so on."""
    state = {"seq": str(999 + count), "from": "1000"}
    for number in range(count):
        state[job_field(f"job_{number}", None)] = json.dumps(
            {"seq": 1_000 + number, "type": "progress"}, separators=(",", ":")
        )
    client.hset(KEY, mapping=state)


def test_no_job_is_forgotten_before_the_slack_is_used_up(client: Any) -> None:
    fill(client, MAX_JOBS + TRIM_SLACK - 1)
    publish(client, job="new")
    assert client.hlen(KEY) == 2 + 1_125
    assert remembered(client)[b"from"] == b"1000"


def test_above_it_the_oldest_jobs_are_forgotten_down_to_a_thousand_and_from_moves_up(client: Any) -> None:
    fill(client, MAX_JOBS + TRIM_SLACK)
    seq = publish(client, job="new")
    state = remembered(client)
    assert len(state) == 2 + 1_000
    assert state[b"from"] == b"1125", "the seq of the newest job that was forgotten"
    assert job_field("job_125", None).encode() not in state
    assert job_field("job_126", None).encode() in state
    assert last(client, "new")["seq"] == seq


def test_a_known_job_trims_nothing(client: Any) -> None:
    fill(client, MAX_JOBS + TRIM_SLACK + 10)
    publish(client, job="job_0")
    assert client.hlen(KEY) == 2 + 1_135


def test_junk_among_the_jobs_is_forgotten_first(client: Any) -> None:
    fill(client, MAX_JOBS + TRIM_SLACK - 3)
    client.hset(KEY, mapping={"junk": "x", "more junk": "", "job_5\n": '{"type":"progress"}'})
    client.hset(KEY, "one more\n", "{}")
    publish(client, job="new")
    state = remembered(client)
    assert len(state) == 2 + 1_000
    assert b"junk" not in state
    assert state[b"from"].isdigit()


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
    ],
)
def test_junk_in_a_jobs_field_is_replaced_by_its_next_event(client: Any, junk: str) -> None:
    client.hset(KEY, mapping={"seq": "1", "from": "1", job_field("j", None): junk})
    assert publish(client, attempt=2) is not None
    assert last(client)["attempt"] == 2


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
    assert used == {"KEYS[1]"} | {f"ARGV[{number}]" for number in range(1, 10)}
    assert all(name in opening for name in used)
    assert "Returns" in opening

"""The last events of a project: what is remembered, in which order, and what is given for a cursor."""

import json
from typing import Any

import pytest

from gateway.clients.frames import payloads
from gateway.projects.channel import MAX_PAYLOAD_BYTES, Channel, ChannelState, Cursor
from publisher.events import MAX_SEQ
from publisher.publication import MAX_JOBS
from tests.simulation import as_published, load


def event(job: str = "a", seq: int | None = None, **fields: Any) -> bytes:
    """A payload as it comes from Redis."""
    base: dict[str, Any] = {"type": "progress", "jobId": job, "jobType": "audio", "progress": 1}
    if seq is not None:
        base["seq"] = seq
    return as_published(json.dumps(base | fields).encode())


def end(job: str = "a", seq: int | None = None, **fields: Any) -> bytes:
    return event(job, seq, type="job_failed", error="no", **fields)


def remembered(*events: bytes, from_: int | None = None) -> dict[bytes, bytes]:
    """The hash that publish.lua keeps."""
    if not events:
        return {}
    read = [json.loads(payload) for payload in events]
    jobs = {f"{e['jobId']}\n{e.get('sentenceId', '')}".encode(): json.dumps(e).encode() for e in read}
    seqs = [e["seq"] for e in read]
    return {b"seq": str(max(seqs)).encode(), b"from": str(from_ or min(seqs)).encode(), **jobs}


def loaded(*events: bytes, from_: int | None = None) -> Channel:
    channel = Channel("p")
    load(channel, remembered(*events, from_=from_))
    return channel


def seen(frames: bytes) -> list[tuple[str, int | None]]:
    """What a client sees of frames: (job or type, seq)."""
    messages = [json.loads(payload) for payload in payloads(frames)]
    return [(message.get("jobId", message["type"]), message.get("seq")) for message in messages]


def at(position: int) -> Cursor:
    """The cursor of a client that has everything up to this position."""
    return Cursor(position, position, 0)


def since(channel: Channel, position: int) -> bytes:
    """What arrived after `position`, for a client that was told of every gap."""
    return channel.catch_up(Cursor(position, position, channel.position))[0]


def test_events_go_out_as_they_came_in_with_the_project_and_only_the_known_fields() -> None:
    channel = loaded()
    frames = channel.receive([event("a", 1, message="hi", projectId="another", secret="x"), end("b", 2)])
    assert [json.loads(payload) for payload in payloads(frames)] == [
        {
            "projectId": "p",
            "type": "progress",
            "seq": 1,
            "jobId": "a",
            "jobType": "audio",
            "progress": 1,
            "message": "hi",
        },
        {"projectId": "p", "type": "job_failed", "seq": 2, "jobId": "b", "jobType": "audio", "error": "no"},
    ]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"null", b"[]", b'{"type":"x"}', b"[" * 10_000, event(seq=1)[:-1], b" " * (MAX_PAYLOAD_BYTES + 1)],
)
def test_a_bad_payload_is_counted_and_the_next_one_is_delivered(payload: bytes) -> None:
    channel = loaded()
    assert seen(channel.receive([payload, event("a", 1)])) == [("a", 1)]
    assert channel.bad_payloads == 1


def test_bad_payloads_in_the_remembered_state_are_passed_over() -> None:
    channel = Channel("p")
    load(channel, {b"seq": b"x", b"from": b"9" * 30, b"a\n": b"junk", b"b\n": event("b", 5), b"c\n": event("c")})
    assert seen(channel.replay(0)[0]) == [("b", 5)]
    assert channel.bad_payloads == 1


TOO_LARGE = [str(MAX_SEQ + 1).encode(), b"9" * 16, b"9" * 17]


@pytest.mark.parametrize("seq", TOO_LARGE)
def test_a_seq_that_no_client_could_send_back_is_none(seq: bytes) -> None:
    channel = Channel("p")
    load(channel, {b"seq": seq})
    assert (channel.seq, channel.recovers(0)) == (0, True)
    assert not channel.recovers(MAX_SEQ)
    channel = Channel("p")
    load(channel, remembered(event("a", 5), from_=3) | {b"seq": seq})
    assert channel.seq == 5, "that of the newest event"
    assert [since for since in range(8) if channel.recovers(since)] == [0, 3, 4, 5]
    channel.begin_load()
    position = channel.position
    load(channel, remembered(event("a", 5), from_=3) | {b"seq": seq})
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 5)], "what was the newest seq there, nobody knows"


@pytest.mark.parametrize("beginning", [*TOO_LARGE, b"x", b"0", b""])
def test_a_beginning_that_is_no_seq_covers_nobody(beginning: bytes) -> None:
    channel = Channel("p")
    load(channel, remembered(event("a", 5), event("b", 10)) | {b"from": beginning})
    assert seen(channel.replay(0)[0]) == [("a", 5), ("b", 10)]
    assert [since for since in range(12) if channel.recovers(since)] == [0]
    channel.receive([event("c", 12)])
    assert channel.recovers(12)


@pytest.mark.parametrize("seq", [MAX_SEQ + 1, 10**16 - 1, 10**400, -1, 0])
def test_an_event_with_a_seq_that_is_none_is_dropped(seq: int) -> None:
    channel = loaded(event("a", 5))
    assert seen(channel.receive([event("b", seq), event("c", 6)])) == [("c", 6)]
    channel.begin_load()
    load(channel, remembered(event("a", 5), event("c", 6)) | {b"b\n": event("b", seq)})
    assert (channel.seq, channel.bad_payloads) == (6, 2)


def test_a_beginner_is_given_each_job_once_in_order_of_seq() -> None:
    channel = loaded(event("b", 7), end("a", 3))
    channel.receive([event("c", 8), event("a", 9)])
    assert seen(channel.replay(0)[0]) == [("b", 7), ("c", 8), ("a", 9)]


def test_sentences_are_jobs_of_their_own() -> None:
    channel = loaded()
    channel.receive([event("a", 1, sentenceId="s1"), event("a", 2, sentenceId="s2"), event("a", 3, sentenceId="s1")])
    assert seen(channel.replay(0)[0]) == [("a", 2), ("a", 3)]


def test_a_resume_is_given_what_is_newer_and_nothing_else() -> None:
    channel = loaded(event("a", 1), event("b", 2), event("c", 3))
    assert seen(channel.replay(2)[0]) == [("c", 3)]
    assert channel.replay(3)[0] == b""


def test_a_cursor_is_covered_from_where_the_state_is_complete() -> None:
    channel = loaded(event("a", 5), event("b", 9), from_=4)
    assert [since for since in range(12) if channel.recovers(since)] == [0, 4, 5, 6, 7, 8, 9]


def test_a_state_that_begins_here_is_complete_from_its_first_event() -> None:
    channel = loaded()
    assert channel.recovers(0)
    assert not channel.recovers(1)
    channel.receive([event("a", 5)])
    assert [since for since in range(7) if channel.recovers(since)] == [0, 5]


def test_a_cursor_that_was_never_given_gets_everything() -> None:
    channel = loaded(event("a", 5))
    assert seen(channel.replay(6)[0]) == [("a", 5)]
    assert not channel.recovers(6)


def test_a_slow_client_is_given_the_last_event_of_each_job_since_its_position_in_order_of_arrival() -> None:
    channel = loaded(event("a", 1))
    channel.receive([event("b", 2)])
    position = channel.position
    channel.receive([event("a", 3), event("c", 4), end("a", 5)])
    assert seen(since(channel, position)) == [("c", 4), ("a", 5)]
    assert since(channel, channel.position) == b""


def test_an_event_without_seq_goes_to_slow_clients_but_is_not_replayed() -> None:
    channel = loaded(event("a", 1))
    position = channel.position
    channel.receive([event("b", 2), event("a"), event("x")])
    assert seen(since(channel, position)) == [("b", 2), ("a", None), ("x", None)]
    assert seen(channel.replay(0)[0]) == [("a", 1), ("b", 2)]


def test_a_seq_that_publish_lua_did_not_give_is_none() -> None:
    """It would be a cursor that this project never gave: it could pass for news, or hide what is."""
    channel = loaded(event("a", 5))
    lines = [
        b'{"type":"progress","jobId":"a","jobType":"audio","progress":9,"seq":9007199254740991}',
        b'{"seq": 3, "type":"progress","jobId":"a","jobType":"audio","progress":9}',
        b'{"seq":"3","type":"progress","jobId":"a","jobType":"audio","progress":9}',
    ]
    for line in lines:
        assert [seq for _, seq in seen(channel.receive([line]))] == [None]
    assert channel.seq == 5
    assert seen(channel.replay(0)[0]) == [("a", 5)]
    assert seen(channel.receive([event("a", 6)])) == [("a", 6)]


def test_an_event_with_seq_takes_the_place_of_an_earlier_one_without() -> None:
    channel = loaded()
    channel.receive([event("a"), event("a"), event("a", 3)])
    assert seen(since(channel, 0)) == [("a", 3)]


def test_after_a_failover_a_lower_seq_wins_by_arrival_and_a_resume_finds_it() -> None:
    channel = loaded(event("a", 1_000), event("b", 900))
    position = channel.position
    assert seen(channel.receive([end("a", 950)])) == [("a", 950)]
    assert seen(since(channel, position)) == [("a", 950)]
    assert seen(channel.replay(1_000)[0]) == [("a", 950)], "a client that has seen 1,000 has not seen it"
    assert channel.seq == 1_000


def test_events_that_come_while_the_state_loads_are_merged_behind_it() -> None:
    channel = Channel("p")
    assert channel.receive([event("a", 4), event("b", 3), event("raw")]) == b""
    load(channel, remembered(event("a", 4), event("b", 2), event("c", 1)))
    assert channel.state is ChannelState.LIVE
    assert seen(channel.replay(0)[0]) == [("c", 1), ("b", 3), ("a", 4)]
    assert seen(since(channel, 0))[-1] == ("raw", None)


def test_what_comes_while_loading_is_bounded() -> None:
    channel = Channel("p")
    for number in range(MAX_JOBS + 5):
        channel.receive([event(str(number))])
    load(channel, {})
    assert len(seen(since(channel, 0))) == MAX_JOBS


def test_a_reload_gives_what_was_missed_and_only_that() -> None:
    channel = loaded(event("a", 1), event("b", 2))
    position = channel.position
    channel.begin_load()
    assert channel.receive([event("c", 5)]) == b"", "held back: a client must not get a cursor above what it missed"
    load(channel, remembered(event("a", 1), end("b", 4), event("c", 5)))
    assert seen(channel.catch_up(at(position))[0]) == [("b", 4), ("c", 5)]
    assert channel.recovers(2)


def test_a_reload_of_an_emptied_redis_says_that_something_may_be_missing() -> None:
    channel = loaded(event("a", 1), event("b", 2))
    position = channel.position
    channel.begin_load()
    load(channel, {})
    [message] = [json.loads(payload) for payload in payloads(channel.catch_up(at(position))[0])]
    assert message == {"type": "subscribed", "projectId": "p", "seq": 2, "recovered": False}
    assert not channel.recovers(2)
    assert seen(channel.replay(0)[0]) == [("a", 1), ("b", 2)], "this replica still knows, and offers it to its own"
    assert channel.catch_up(at(channel.position))[0] == b"", "said once"


def test_a_reload_of_a_state_that_began_anew_tells_the_gap_and_what_is_there() -> None:
    channel = loaded(event("a", 1))
    position = channel.position
    channel.begin_load()
    load(channel, remembered(event("b", 50)))
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 50), ("b", 50)]
    assert not channel.recovers(1)
    assert channel.recovers(50)


HOUR = 3_600 * 1_000_000
MINUTE = 60 * 1_000_000
LOST_AT = 10 * HOUR


def reloaded(
    channel: Channel,
    remembered: dict[bytes, bytes],
    *,
    before: bytes | None = b"same",
    after: bytes | None = b"same",
    lost_for: int | None = MINUTE,
) -> bool:
    """Whether a break of the feed recovers everything: what a client that is here is told."""
    channel._memory_id = before
    position = channel.position
    channel.begin_load(lost_at=None if lost_for is None else LOST_AT)
    load(channel, remembered, memory_id=after, now=LOST_AT + (lost_for or 0))
    return "subscribed" not in dict(seen(channel.catch_up(at(position))[0]))


NEW_STATE = remembered(event("b", LOST_AT + 5), event("c", LOST_AT + 6))
FULL_STATE = remembered(*[event(str(number), LOST_AT + number) for number in range(1, MAX_JOBS + 1)])


@pytest.mark.parametrize("state", [{}, NEW_STATE], ids=["gone", "anew"])
@pytest.mark.parametrize("seen_ago", [None, HOUR, 5 * HOUR], ids=["never", "an hour", "five hours"])
@pytest.mark.parametrize(
    ("before", "after", "recovers"),
    [
        (b"same", b"same", True),
        (b"one", b"another", False),
        (None, b"one", False),
        (b"one", None, False),
        (None, None, False),
    ],
)
def test_redis_memory_tells_a_state_that_expired_or_never_was_from_one_that_was_lost(
    state: dict[bytes, bytes], seen_ago: int | None, before: bytes | None, after: bytes | None, recovers: bool
) -> None:
    channel = loaded() if seen_ago is None else loaded(event("a", LOST_AT - seen_ago))
    cursor = channel.seq
    assert reloaded(channel, state, before=before, after=after) is recovers
    if cursor:
        assert channel.recovers(cursor) is recovers
    if state:
        assert channel.recovers(LOST_AT + 5)
        assert [job for job, _ in seen(channel.replay(0)[0])][-2:] == ["b", "c"]


@pytest.mark.parametrize("state", [{}, NEW_STATE], ids=["gone", "anew"])
def test_a_state_that_went_before_its_time_is_a_gap_in_the_same_memory_too(state: dict[bytes, bytes]) -> None:
    """It was evicted or deleted: Redis lost events that still matter."""
    assert not reloaded(loaded(event("a", LOST_AT - 50 * MINUTE)), state)


def test_a_state_lives_up_to_a_minute_less_than_an_hour() -> None:
    """Its time to live is renewed once a minute."""
    assert reloaded(loaded(event("a", LOST_AT - 58 * MINUTE)), {}, lost_for=MINUTE)


@pytest.mark.parametrize("seen_ago", [None, 2 * HOUR])
def test_after_a_break_as_long_as_a_states_life_an_end_may_have_come_and_expired(seen_ago: int | None) -> None:
    def channel() -> Channel:
        return loaded() if seen_ago is None else loaded(event("a", LOST_AT - seen_ago))

    assert reloaded(channel(), {}, lost_for=58 * MINUTE)
    assert not reloaded(channel(), {}, lost_for=59 * MINUTE)
    late = remembered(event("b", LOST_AT + 59 * MINUTE))
    assert not reloaded(channel(), late, lost_for=60 * MINUTE), "nothing may be remembered from before that"
    early = remembered(event("b", LOST_AT + MINUTE))
    assert reloaded(channel(), early, lost_for=60 * MINUTE), "it has lived on since the break began"


@pytest.mark.parametrize("seen_ago", [None, 2 * HOUR])
def test_a_state_that_began_in_the_break_and_is_full_may_have_been_trimmed(seen_ago: int | None) -> None:
    channel = loaded() if seen_ago is None else loaded(event("a", LOST_AT - seen_ago))
    assert not reloaded(channel, FULL_STATE)


def test_a_state_that_began_in_the_break_and_lost_its_beginning_is_a_gap() -> None:
    state = dict(NEW_STATE)
    del state[b"from"]
    assert not reloaded(loaded(), state)


@pytest.mark.parametrize(("before", "after"), [(b"same", b"same"), (b"one", b"another"), (None, None)])
def test_a_state_that_joins_what_was_seen_here_is_whole_whatever_the_memory_is_called(
    before: bytes | None, after: bytes | None
) -> None:
    """A user without a right to the memory's id recovers wherever the state itself proves that it can."""
    first = event("a", LOST_AT - HOUR)
    state = remembered(first, event("b", LOST_AT + 5))
    assert reloaded(loaded(first), state, before=before, after=after, lost_for=5 * HOUR)


@pytest.mark.parametrize("seen_ago", [None, 2 * HOUR])
def test_a_slot_takes_its_keys_along_to_a_shard_with_another_memory(seen_ago: int | None) -> None:
    channel = loaded() if seen_ago is None else loaded(event("a", LOST_AT - seen_ago))
    assert reloaded(channel, {}, before=b"one", after=b"another", lost_for=None)
    assert reloaded(channel, {}, before=b"another", after=b"another"), "the new shard's memory counts from then on"


@pytest.mark.parametrize("state", [{}, remembered(event("a", LOST_AT - 9), from_=1)], ids=["emptied", "older copy"])
def test_after_a_gap_a_cursor_from_another_replica_is_covered_from_the_next_event_on(state: dict[bytes, bytes]) -> None:
    """That replica may have heard events of the break which are gone here, and some of those that it did not hear."""
    channel = loaded(event("a", LOST_AT - 9), event("b", LOST_AT), from_=1)
    assert not reloaded(channel, state, after=b"another")
    channel.receive([event("c", LOST_AT + 30)])
    assert [cursor for cursor in range(40) if channel.recovers(LOST_AT + cursor)] == [30]
    channel = loaded(event("b", LOST_AT))
    assert not reloaded(channel, state, after=b"another")
    channel.receive([event("c", LOST_AT - 5)])
    assert not channel.recovers(LOST_AT - 1), "the clock of the server that took over is behind"


def test_a_move_within_a_break_is_part_of_the_break() -> None:
    channel = loaded()
    channel.begin_load(lost_at=LOST_AT)
    assert not reloaded(channel, {}, before=b"one", after=b"another", lost_for=None)


def test_a_break_that_is_lost_again_while_it_loads_is_one_break() -> None:
    channel = loaded()
    channel.begin_load(lost_at=LOST_AT - HOUR)
    assert not reloaded(channel, {}), "it is longer than a state lives"


def test_after_a_failover_what_arrives_while_the_state_loads_wins_with_a_lower_seq_too() -> None:
    channel = loaded(event("a", 80), from_=1)
    position = channel.position
    channel.begin_load()
    channel.receive([event("a", 72)])
    load(channel, remembered(event("a", 72), from_=1))
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 80), ("a", 72)]  # other writes may be lost, too


def test_what_arrived_before_the_feed_was_lost_again_does_not_come_back() -> None:
    channel = Channel("p")
    channel.receive([event("a", 3), event("raw")])
    channel.begin_load()
    load(channel, remembered(event("a", 9)))
    assert seen(since(channel, 0)) == [("a", 9), ("raw", None)]


def test_a_reload_cannot_bring_back_events_without_seq_and_says_so() -> None:
    channel = loaded()
    channel.receive([event("a")])
    position = channel.position
    channel.begin_load()
    load(channel, {})
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 0)]


def test_a_reload_of_a_project_that_had_no_event_is_no_gap() -> None:
    channel = loaded()
    channel.begin_load()
    load(channel, remembered(event("a", 5)))
    assert seen(channel.catch_up(at(0))[0]) == [("a", 5)]


def test_a_reload_never_replaces_newer_by_older() -> None:
    channel = loaded(event("a", 9), event("b", 10))
    position = channel.position
    channel.begin_load()
    load(channel, remembered(event("a", 5), event("b", 10)))
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 10)], "Redis lost something it had: that is told"
    assert seen(channel.replay(0)[0]) == [("a", 9), ("b", 10)]


def test_an_end_that_was_seen_does_not_come_back_over_a_later_run_that_a_failover_lost() -> None:
    channel = loaded(event("a", 9))
    channel.receive([end("a", 10), event("a", 20), event("a", 21), event("b", 22)])
    position = channel.position
    channel.begin_load()
    load(channel, remembered(end("a", 10), event("b", 30), from_=9))
    assert seen(channel.catch_up(at(position))[0])[0] == ("subscribed", 30), "a failover lost something: that is told"
    assert seen(since(channel, position)) == [("b", 30)], "the run after that end goes on, as far as anybody knows"
    channel.begin_load()
    load(channel, remembered(end("a", 15), event("b", 30), from_=9))
    assert seen(since(channel, position)) == [("b", 30), ("a", 15)], "an end that nobody here has seen is news"


def test_a_redis_that_came_back_from_an_older_copy_is_a_gap_and_takes_nothing_away() -> None:
    channel = loaded(event("a", 5), event("b", 10), from_=1)
    position = channel.position
    channel.begin_load()
    load(channel, remembered(event("a", 5), from_=1))
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 10)]
    assert seen(channel.replay(0)[0]) == [("a", 5), ("b", 10)]
    assert not channel.recovers(10), "what was published after it may be lost with it"
    channel.receive([event("c", 12)])
    assert channel.recovers(12)


def test_a_state_without_its_beginning_covers_nobody() -> None:
    """Redis could not remember an event, its memory was full, say: which, nobody knows."""
    state = remembered(event("a", 5), event("b", 10))
    del state[b"from"], state[b"seq"]
    channel = Channel("p")
    load(channel, state)
    assert seen(channel.replay(0)[0]) == [("a", 5), ("b", 10)]
    assert not channel.recovers(10)
    assert not channel.recovers(5)
    channel.receive([event("c", 12)])
    assert channel.recovers(12)


def test_a_state_that_lost_its_beginning_during_an_outage_is_a_gap() -> None:
    channel = loaded(event("a", 5), event("b", 10), from_=1)
    position = channel.position
    channel.begin_load()
    state = remembered(event("a", 5))
    del state[b"from"], state[b"seq"]
    load(channel, state)
    assert seen(channel.catch_up(at(position))[0]) == [("subscribed", 10)]
    assert not channel.recovers(10)


@pytest.mark.parametrize(
    ("known", "in_redis", "wins"),
    [
        (event("a", 9), end("a", 5), True),  # the progress was lost by a failover; the end is what Redis knows
        (event("a", 9, attempt=1), end("a", 5, attempt=0), False),  # the job goes on, in a later attempt
        (event("a", 9, attempt=0), end("a", 5, attempt=1), True),
        (end("a", 9), end("a", 5), False),
        (end("a", 9), event("a", 5), False),
    ],
)
def test_after_a_failover_an_end_is_not_lost_behind_a_progress_with_a_higher_seq(
    known: bytes, in_redis: bytes, wins: bool
) -> None:
    channel = loaded(known, event("b", 4))
    position = channel.position
    channel.begin_load()
    load(channel, remembered(in_redis, event("b", 4)))
    gap = ("subscribed", 9)  # Redis ends before the last event that was seen here: others may be lost, too
    assert seen(channel.catch_up(at(position))[0]) == ([gap, ("a", 5)] if wins else [gap])


def test_the_newest_thousand_jobs_are_kept_and_the_cursor_of_the_rest_is_not_covered() -> None:
    channel = loaded()
    position = channel.position
    channel.receive([event(str(number), number) for number in range(1, MAX_JOBS + 3)])
    assert len(seen(channel.replay(0)[0])) == MAX_JOBS
    assert seen(channel.replay(0)[0])[0] == ("3", 3)
    assert not channel.recovers(1)
    assert channel.recovers(2)
    assert seen(channel.catch_up(at(position))[0])[0] == ("subscribed", MAX_JOBS + 2), (
        "jobs that a slow client missed are gone"
    )
    assert seen(channel.catch_up(at(2))[0])[0] == ("3", 3)


def test_a_state_with_more_jobs_than_are_kept_is_trimmed_when_it_is_read() -> None:
    channel = loaded(*[event(str(number), number) for number in range(1, MAX_JOBS + 11)])
    assert len(seen(channel.replay(0)[0])) == MAX_JOBS
    assert next(since for since in range(1, 20) if channel.recovers(since)) == 10


def test_a_project_id_is_quoted_in_the_frame() -> None:
    channel = Channel("a.b:c-d_e")
    load(channel, {})
    [payload] = payloads(channel.receive([event()]))
    assert json.loads(payload)["projectId"] == "a.b:c-d_e"


# Attempts. tests/test_job_rules.py compares channels with the script and the rules on random events.


def parts(channel: Channel) -> set[str]:
    """The sentences that a client that comes now is given; `-` stands for the job itself."""
    return {json.loads(payload).get("sentenceId", "-") for payload in payloads(channel.replay(0)[0])}


def test_an_attempt_that_begins_drops_every_other_part_of_its_job() -> None:
    channel = loaded(event("a", 1, attempt=0), end("a", 2, sentenceId="s", attempt=0), event("b", 3))
    channel.receive([event("a", 4, sentenceId="t", attempt=1)])
    assert seen(channel.replay(0)[0]) == [("b", 3), ("a", 4)]
    assert seen(since(channel, 0)) == [("b", 3), ("a", 4)], "also for a slow client"


def test_a_progress_of_0_of_the_job_itself_begins_it_anew() -> None:
    channel = loaded(end("a", 1), end("a", 2, sentenceId="s"))
    channel.receive([event("a", 3, progress=0, sentenceId="s")])
    assert parts(channel) == {"-", "s"}
    channel.receive([event("a", 4, progress=0)])
    assert parts(channel) == {"-"}


def test_the_number_of_a_job_that_its_events_do_not_carry_stands_in_the_hash() -> None:
    """Otherwise the next event of the same attempt would seem to begin it, and drop what Redis keeps."""
    state = remembered(event("a", 5), event("a", 4, sentenceId="s"))
    channel = Channel("p")
    load(channel, state | {b"\ta": b"3:1"})
    channel.receive([event("a", 6, sentenceId="t", attempt=3)])
    assert parts(channel) == {"-", "s", "t"}
    channel.receive([event("a", 7, sentenceId="t", attempt=4)])
    assert parts(channel) == {"t"}


@pytest.mark.parametrize("header", [b"", b":", b":2", b"x:1", b"-3:1", b"9" * 30 + b":1", b"\xff"])
def test_junk_in_place_of_a_number_is_none(header: bytes) -> None:
    channel = Channel("p")
    load(channel, remembered(event("a", 5, attempt=1)) | {b"\ta": header, b"\t\xff": b"3:1", b"\t": b"3:1"})
    assert seen(channel.receive([event("a", 6, attempt=1)])) == [("a", 6)]
    assert channel.bad_payloads == 0


def test_a_plain_publish_of_a_later_attempt_takes_nothing_from_others() -> None:
    """Redis still has it for everybody who comes."""
    channel = loaded(event("a", 1, attempt=0), event("a", 2, sentenceId="s", attempt=0))
    position = channel.position
    assert seen(channel.receive([event("a", attempt=7, progress=3)])) == [("a", None)]
    assert parts(channel) == {"-", "s"}
    assert seen(since(channel, position)) == [("a", None)]
    assert channel.receive([event("a", sentenceId="s", attempt=0)]) != b""


def test_a_plain_publish_does_not_decide_what_an_event_of_the_script_does() -> None:
    channel = loaded(event("a", 1, progress=0), event("a", 2, sentenceId="s"))
    channel.receive([event("a", progress=50), event("a", 3, progress=0)])
    assert parts(channel) == {"-", "s"}, "Redis knows a progress of 0 only: it did not begin anew"


def test_a_plain_publish_is_delivered_whatever_the_script_would_say() -> None:
    channel = loaded(end("a", 1, attempt=2))
    assert seen(channel.receive([event("a", attempt=1), event("a", attempt=2)])) == [("a", None), ("a", None)]
    assert seen(channel.replay(0)[0]) == [("a", 1)]


def test_what_arrived_before_the_state_and_was_replaced_in_it_does_not_come_back() -> None:
    """The state is newer than all that arrived before it."""
    for begin in (event("a", 6, attempt=1), event("a", 6, progress=0)):
        channel = Channel("p")
        channel.receive([event("a", 4), event("a", 5, sentenceId="s"), begin])
        load(channel, remembered(begin, event("b", 3)))
        assert parts(channel) == {"-"}


def test_what_arrived_and_could_not_be_remembered_stays() -> None:
    """Redis' memory was full for a moment; then its hash begins anew."""
    channel = Channel("p")
    channel.receive([event("a", 5, sentenceId="s"), event("a", 6)])
    load(channel, remembered(event("a", 6)))
    assert parts(channel) == {"-", "s"}


def test_a_reload_keeps_what_redis_could_not_remember() -> None:
    channel = loaded(event("a", 1), from_=1)
    channel.receive([end("a", 5, sentenceId="s"), event("a", 6)])
    channel.begin_load()
    load(channel, remembered(event("a", 6)))
    assert parts(channel) == {"-", "s"}, "its hash begins after the end of the sentence, so it does not tell"


def test_events_without_a_seq_do_not_keep_a_replaced_part() -> None:
    channel = loaded(event("a", 1), event("a", 2, sentenceId="s"), from_=1)
    channel.receive([event("raw")])
    channel.begin_load()
    load(channel, remembered(event("a", 3, progress=0), from_=1))
    assert parts(channel) == {"-"}


def test_whole_jobs_are_forgotten_once_a_state_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it looks as if it had ended: the first sentence has."""
    monkeypatch.setattr("gateway.projects.last_events.MAX_JOBS", 1)
    channel = loaded(end("a", 1, sentenceId="s"), end("b", 2), event("a", 3, sentenceId="t"))
    assert seen(channel.replay(0)[0]) == [("a", 1), ("a", 3)]
    assert [since for since in range(5) if channel.recovers(since)] == [0, 2, 3]

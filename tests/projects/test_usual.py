"""A usual progress read at a glance: everywhere the same as what the models make of it."""

import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.clients.frames import text_frame
from gateway.projects import channel as module
from gateway.projects.channel import Channel
from gateway.projects.entry import Entry, entry_of
from gateway.projects.usual import USUAL, read_usual
from publisher.events import Progress, check_event, event_from_json, event_to_json
from tests.simulation import load

PAYLOAD = b'{"seq":1764547200000123,"type":"progress","jobId":"job_1","jobType":"audio"%b,"progress":%b%b}'


@given(st.from_regex(USUAL, fullmatch=True))
@example(PAYLOAD % (b',"sentenceId":"s","attempt":0', b"40", b',"message":"voice 2 of 5","nextWithin":45.0'))
@example(PAYLOAD % (b"", b"0.01", b""))
def test_whatever_is_usual_is_an_event_that_the_models_write_in_the_same_bytes(payload: bytes) -> None:
    usual, event = read_usual(payload, b"{"), event_from_json(payload)
    assert usual is not None
    by_models = entry_of(event, text_frame(event_to_json(event)))
    for entry in (usual, by_models):
        entry.put(1, 0, None)
    for name in Entry.__slots__:
        assert getattr(usual, name) == getattr(by_models, name), name


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
ANY = st.text(max_size=40)


@given(
    st.fixed_dictionaries(
        {"type": st.just("progress"), "jobId": PLAIN, "jobType": st.just("audio"), "progress": st.floats(0, 100)},
        optional={"attempt": st.integers(0, 2**53 - 1), "message": ANY, "nextWithin": st.integers(1, 86_400)},
    )
)
def test_a_channel_gives_the_same_frames_with_the_short_way_and_without(fields: dict[str, object]) -> None:
    event = event_to_json(check_event(fields))
    payload = b'{"seq":1764547200000123,' + event[1:]

    def frames() -> bytes:
        channel = Channel("p")
        load(channel, {})
        return channel.receive([payload])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_usual", lambda *_: None)
        by_models = frames()
    assert frames() == by_models


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event | {"data": {}},
        lambda event: event | {"jobId": "a\\"},
        lambda event: event | {"message": "ä"},
        lambda event: event | {"progress": 101},
        lambda event: event | {"jobType": "1"},
        lambda event: event | {"jobId": ""},
        lambda event: event | {"seq": 2**53},
        lambda event: event | {"type": "job_failed"},
        lambda event: event | {"unknown": 1},
        lambda event: dict(reversed(event.items())),
    ],
)
def test_anything_else_is_for_the_models(change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    event = json.loads(PAYLOAD % (b"", b"40", b""))
    assert read_usual(json.dumps(event, separators=(",", ":")).encode(), b"{") is not None
    assert read_usual(json.dumps(change(event), separators=(",", ":")).encode(), b"{") is None


def test_what_a_tracked_job_of_ours_says_is_usual() -> None:
    event = Progress(job_id="job_1", job_type="audio", attempt=2, progress=12.5, message="voice", next_within=45)
    assert read_usual(b'{"seq":1764547200000123,' + event_to_json(event)[1:], b"{") is not None

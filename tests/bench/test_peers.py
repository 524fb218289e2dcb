"""The parts of `python -m bench peers` that are logic: what the publisher writes for each peer, and the table."""

import re

from bench.intake import PUBLISH, redis_command
from bench.peers.centrifugo import publication, settings
from bench.peers.command import PEERS
from bench.peers.table import table
from bench.toolchain import HERE

EVENT = b'{"jobId":"job-1"}'


def test_an_event_becomes_a_redis_command() -> None:
    assert PUBLISH.command(7, b"{}") == b"*3\r\n$7\r\nPUBLISH\r\n$15\r\nproject:bench-7\r\n$2\r\n{}\r\n"
    assert redis_command(b"PING") == b"*1\r\n$4\r\nPING\r\n"


def test_a_publication_of_centrifugo_is_protobuf_with_the_event_as_field_4() -> None:
    assert publication(b"x" * 5) == b"\x22\x05xxxxx"
    assert publication(b"x" * 200) == b"\x22\xc8\x01" + b"x" * 200  # 200 needs two bytes: 0x48 and the rest, 1
    assert publication(b"x" * 20_000)[:4] == b"\x22\xa0\x9c\x01"


def test_history_is_the_only_difference_between_the_two_settings_of_centrifugo() -> None:
    plain, history = settings(1, 2, {}), settings(1, 2, {"history_size": 5})
    assert history["channel"]["without_namespace"].pop("history_size") == 5
    assert plain == history


def test_every_peer_can_be_started_spoken_to_and_explained() -> None:
    dialects = re.findall(r'\.name = "(\w+)"', (HERE / "dialects.h").read_text())
    for peer in PEERS:
        assert peer.install.startswith(("apt install", "GOBIN="))
        assert {kind.name for kind in peer.kinds} == set(peer.settings)
        for kind in peer.kinds:
            assert kind.dialect in dialects
            assert EVENT in kind.intake.command(1, EVENT)


def test_nchan_counts_the_answers_that_say_somebody_is_subscribed() -> None:
    intake = next(kind.intake for peer in PEERS for kind in peer.kinds if kind.name == "nchan")
    heard = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    assert (heard.count(intake.answer), intake.heard(heard)) == (2, 1)


def test_the_table_shows_medians_with_their_range_and_no_figure_of_a_server_that_lost() -> None:
    def server(values: list[float], ratios: list[float] | None = None, *, lost: bool = False) -> dict[str, object]:
        return {"values": values, "ratios_to_c": ratios, "lost": lost, "notes": []}

    figures = [
        {
            "name": "P1",
            "title": "one",
            "unit": "us",
            "servers": {
                "gateway": server([5.0, 6.0, 7.0], [1.0, 1.25, 1.5]),
                "c": server([4.0], [1.0]),
                "ws": server([1.0], [0.1], lost=True),
            },
        },
        {"name": "P3", "title": "two", "unit": "bytes", "servers": {"gateway": server([2048.0])}},
    ]
    assert table(figures).splitlines() == [
        "| figure | gateway | c | ws |",
        "| --- | --- | --- | --- |",
        "| P1: one | **1.25** (1.00-1.50) | 4.00 us | LOST |",
        "| P3: two | 2.00 KB |  |  |",
    ]

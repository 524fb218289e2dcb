"""Publishing through Sentinels while the primary changes by hand, dies, freezes and is cut off."""

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import publisher
from publisher import aio
from publisher.transport import async_driver
from publisher.transport import sentinels as module
from publisher.transport.circuit import unsent
from publisher.transport.sentinels import locate
from publisher.transport.sync_driver import run
from publisher.transport.url import RedisUrl

from .deadlines import STALL_SECONDS, wait_for
from .events import progress
from .load import Load
from .processes import environment, run_python
from .sentinels import NAME, Sentinel, Sentinels
from .servers import Server
from .test_publish_cluster import BOUND_SECONDS, EVERY_WAY, LOST_SECONDS


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """A primary, two replicas, three Sentinels; each test leaves them whole.

    The servers refuse writes without a replica (`min-replicas-to-write 1`): what a primary takes that another has
    replaced is lost, and it learns of that seconds later; but its replicas leave it at once.
    """
    sentinels = Sentinels(tmp_path_factory.mktemp("sentinels"))
    for server in sentinels.servers:
        server.config("min-replicas-to-write", 1)
    yield sentinels
    sentinels.end()


@pytest.fixture(autouse=True)
def _published_there(sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", sentinels.url)
    yield
    for one in sentinels.sentinels:
        one.thaw()
    for server in sentinels.servers:
        if server.is_running:
            server.thaw()
        else:
            server.start("--min-replicas-to-write", "1")
    sentinels.wait_until_whole()


@pytest.fixture
def load(project: str) -> Load:
    names = [f"{project}_{number}" for number in range(4)]
    return Load(names[:2], names[2:])


def remembered(server: Server) -> Any:
    return lambda project: server.command("HGETALL", f"{{project:{project}}}:jobs")


def test_every_way_of_publishing_finds_the_primary(sentinels: Sentinels, project: str) -> None:
    done = run_python(EVERY_WAY, environment(sentinels.url), project)
    words = ["job_complete", "2", "job_complete", "job_complete", "True", "240"]
    assert (done.stdout.split(), done.stderr) == (words, "")


async def test_the_primary_is_the_one_of_the_newest_failover(sentinels: Sentinels, tmp_path: Path) -> None:
    """Also where a Sentinel that was cut off names another, and others do not answer."""
    before = sentinels.primary()
    sentinels.sentinels[2].freeze()
    primary = sentinels.fail_over_with(2)
    sentinels.sentinels[0].freeze()
    try:
        # A Sentinel that has seen no failover, and goes on naming the old primary.
        alone = Sentinel(tmp_path / "alone", before.port)
        wait_for(alone.answers, "the Sentinel")
        alone.command("SENTINEL", "MASTER", NAME)
        places = (
            f"127.0.0.1:{alone.port},127.0.0.1:{sentinels.sentinels[0].port},127.0.0.1:{sentinels.sentinels[1].port}"
        )
        url = RedisUrl.parse(f"redis+sentinel://{places}/{NAME}")
        began = time.monotonic()
        assert run(locate(url)) == await async_driver.run(locate(url)) == ("127.0.0.1", primary.port)
        assert time.monotonic() - began < 3 + STALL_SECONDS
    finally:
        alone.end()


@pytest.mark.parametrize("is_left_out", [True, False])
async def test_a_frozen_sentinel_delays_one_event_and_no_other(
    sentinels: Sentinels, project: str, monkeypatch: pytest.MonkeyPatch, is_left_out: bool
) -> None:
    """Though Sentinels are asked twice a second. The control waits for it each time."""
    if not is_left_out:
        monkeypatch.setattr("publisher.transport.sentinels.SILENT_SECONDS", math.inf)
    publisher.broadcast_to_project(project, progress("job"), strict=True)
    frozen, asked, ask = sentinels.sentinels[1], [], module._ask

    def count(sentinel: str, service: str) -> Any:
        if str(frozen.port) in sentinel and threading.current_thread().name != "publisher-probe":
            asked.append(sentinel)
        return ask(sentinel, service)

    monkeypatch.setattr(module, "_ask", count)
    frozen.freeze()
    for number in range(30):
        if number % 2:
            await aio.broadcast_to_project(project, progress("job"), strict=True)
        else:
            publisher.broadcast_to_project(project, progress("job"), strict=True)
        time.sleep(0.1)
    assert (len(asked) == 1) == is_left_out


def test_a_failover_by_hand_loses_nothing_where_the_primary_is_paused_before(
    sentinels: Sentinels, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    with load:
        sentinels.primary().command("CLIENT", "PAUSE", 10_000, "WRITE")
        primary = sentinels.fail_over()
        load.wait_for_more(40)
    assert load.given_up == []
    assert load.forgotten(remembered(primary)) == []
    assert caplog.messages == []


@pytest.mark.parametrize("is_asked_again", [True, False])
def test_without_the_pause_events_are_lost_until_the_sentinels_are_asked_again(
    sentinels: Sentinels, load: Load, monkeypatch: pytest.MonkeyPatch, is_asked_again: bool
) -> None:
    """They make the old primary a replica only some ten seconds later. The control asks them after an error only."""
    if not is_asked_again:
        monkeypatch.setattr("publisher.transport.routes.LOCATED_SECONDS", math.inf)
    before = sentinels.primary()
    for server in sentinels.servers:
        server.config("min-replicas-to-write", 0)
    try:
        with load:
            primary = sentinels.fail_over()
            replaced_at = time.monotonic()
            time.sleep(4)
            before.command("REPLICAOF", "127.0.0.1", primary.port)
            load.wait_for_more(40)
    finally:
        for server in sentinels.servers:
            server.config("min-replicas-to-write", 1)
    assert load.given_up == []
    late = [call for call in load.forgotten(remembered(primary)) if call.began > replaced_at + 2]
    assert (late == []) == is_asked_again


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_primary_that_goes_is_replaced(sentinels: Sentinels, load: Load, project: str, how: str) -> None:
    before = sentinels.primary()
    with load, publisher.track_job(project, "tracked", "audio") as job:
        gone_at = time.monotonic()
        (before.kill if how == "killed" else before.freeze)()
        job.progress(50)
        primary = sentinels.wait_for_another(before)
        load.wait_for_more(40)
    lost = load.forgotten(remembered(primary))
    assert [call for call in lost if abs(call.ended - gone_at) > LOST_SECONDS] == []
    assert load.longest_seconds < BOUND_SECONDS
    wait_for(
        lambda: (last := publisher.last_event(project, "tracked")) is not None and last.type == "job_complete", "it"
    )


async def test_where_no_sentinel_answers_it_is_given_up_within_the_bound_and_said(
    sentinels: Sentinels, project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a process that begins then; one that knows the primary goes on."""
    publisher.broadcast_to_project(project, progress("job"), strict=True)
    for one in sentinels.sentinels:
        one.freeze()
    assert isinstance(publisher.broadcast_to_project(project, progress("job")), int)
    monkeypatch.setenv("REDIS_URL", f"{sentinels.url}?socket_timeout=1")  # as another process, which knows nothing yet
    before = unsent.count
    for publish in (publisher.broadcast_to_project, aio.broadcast_to_project):
        began = time.monotonic()
        seq: Any = publish(project, progress("job"))
        assert (seq if publish is publisher.broadcast_to_project else await seq) is None
        assert time.monotonic() - began < BOUND_SECONDS + STALL_SECONDS
    assert unsent.count == before + 2
    assert len(caplog.messages) == 1
    assert "no Sentinel tells where 'mymaster' is" in caplog.text


@pytest.mark.parametrize(("service", "says"), [("another", "the name that the Sentinels know"), ("mymaster", "")])
def test_a_name_that_the_sentinels_do_not_know_is_said(
    sentinels: Sentinels,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    service: str,
    says: str,
) -> None:
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 0.5)
    monkeypatch.setenv("REDIS_URL", sentinels.url.replace("mymaster", service))
    publisher.broadcast_to_project(project, progress("job"))
    assert says in caplog.text
    assert bool(says) == bool(caplog.messages)

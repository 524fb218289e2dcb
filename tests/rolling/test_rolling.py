"""Rolled, killed and scaled at noon: behind nginx and behind HAProxy, with 300 clients, and jobs all the while."""

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.clients.drain import longest_seconds
from tests.contract.deadlines import STALL_SECONDS, eventually
from tests.contract.processes import Process, environment
from tests.rolling.balancers import KINDS
from tests.rolling.stage import DRAIN, Stage, most_at_once, stage

CLIENTS = 300
Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Show:
    """Figures are printed, also where nothing fails."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}", end="", flush=True)

    return show


def check_spread(made: Stage, began_at: float) -> str:
    """Those who waited for the close were closed one after the other."""
    closes = made.closes(began_at)
    waiting = sum(not viewer.obeys for viewer in made.viewers)
    assert 0 < len(closes) <= waiting
    spread = closes[-1] - closes[0]
    assert spread > 0.25 * min(DRAIN["drain_seconds"], len(closes) / DRAIN["drain_rate"]), spread
    at_once = most_at_once(closes, 0.2)
    assert at_once < 0.9 * len(closes)
    return f"{len(closes)} closes over {spread:.1f} s, {at_once} at most in 0.2 s"


@pytest.mark.parametrize("kind", KINDS)
async def test_both_replicas_are_rolled_and_one_is_killed(kind: str, tmp_path: Path, show: Show) -> None:
    async with stage(tmp_path, kind) as made:
        await made.open_viewers(CLIENTS)
        made.start_jobs()
        await made.jobs_are_busy()
        refused_before = made.refused()
        for number in (0, 1):
            drained = await made.drain(number)
            assert drained.status == 0
            assert drained.took < longest_seconds(DRAIN["drain_seconds"]) + STALL_SECONDS
            log = made.replicas[number].log
            (said,) = re.findall(r"Drained in [\w.,: ]*", log)
            show(f"rolled in {drained.took:.1f} s, {check_spread(made, drained.began_at)}; {said}")
            assert "0 of them by force" in said
            made.start(number)
            await made.wait_known(number)
        await made.all_watch()
        assert made.refused() == refused_before == 0, "a planned roll refuses nobody"
        assert made.longest_gap(obey=True) == 0, "make before break"
        assert made.longest_gap(obey=False) > 0
        assert sum(viewer.moves for viewer in made.viewers) >= CLIENTS / 2
        waiting_gap = made.longest_gap(obey=False)

        victim = max(made.replicas, key=made.clients_of)
        orphans = made.clients_of(victim)
        assert orphans >= CLIENTS / 2
        made.replicas[victim].signal(signal.SIGKILL)
        made.replicas[victim].wait("the killed replica to be gone")
        await made.all_watch()
        figures = await made.end_jobs()
    show(
        f"{figures}; of the roll: 0 s and {waiting_gap:.2f} s, 0 refused; of the kill: {orphans} orphans, "
        f"{made.refused()} refused, all back"
    )
    assert (figures.ends_lost, figures.differences) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_third_replica_comes_under_load_and_goes_again(kind: str, tmp_path: Path, show: Show) -> None:
    async with stage(tmp_path, kind) as made:
        await made.open_viewers(200)
        made.start_jobs()
        await made.jobs_are_busy()
        made.start(2)
        await made.wait_known(2)
        assert made.clients_of(2) == 0, "those who are connected stay where they are"
        await made.open_viewers(100)
        took = made.clients_of(2)
        assert took > 5, "new clients go to the one that has none"
        drained = await made.drain(2)
        assert drained.status == 0
        await made.all_watch()
        assert made.refused() == 0
        figures = await made.end_jobs()
    show(f"{took} of 100 new clients to the new replica; {figures}; 0 refused; drained in {drained.took:.1f} s")
    assert (figures.ends_lost, figures.differences) == (0, 0)
    assert figures.longest_gap_obeying == 0


async def test_the_watch_command_moves_without_a_word(tmp_path: Path) -> None:
    """The real client: `progress-gateway watch`, behind nginx, while both replicas are rolled."""
    async with stage(tmp_path, "nginx") as made:
        made.start_jobs()
        assert made.balancer is not None
        command = [sys.executable, "-m", "gateway", "watch", "p0", "--url", made.balancer.ws]
        watcher = Process(command, environment(None), tmp_path / "watch.log")
        try:
            await eventually(lambda: "job_" in watcher.log, "the first event to be shown")
            for number in (0, 1):
                assert (await made.drain(number)).status == 0
                drained = made.replicas[number].log
                made.start(number)
                await made.wait_known(number)
            assert "1 clients left, 0 were closed" in drained, "wherever it began, it was on the second one at last"
            await made.end_jobs()
            await eventually(lambda: all(job in watcher.log for job in made.ended["p0"]), "every job to be shown")
            assert watcher.running()
            assert "reconnecting in" not in watcher.log
            assert "missed" not in watcher.log
        finally:
            watcher.end()


@pytest.mark.parametrize("kind", KINDS)
async def test_control_without_going_away_those_who_would_obey_have_a_gap(
    kind: str, tmp_path: Path, show: Show
) -> None:
    async with stage(tmp_path, kind, drain_seconds=0) as made:
        await made.open_viewers(60)
        made.start_jobs()
        await made.jobs_are_busy()
        assert (await made.drain(0)).status == 0
        await made.all_watch()
        closes = made.closes(0)
        assert len(closes) > 10
        assert closes[-1] - closes[0] < STALL_SECONDS, "all at once"
        figures = await made.end_jobs()
    show(f"{figures}; {len(closes)} closes within {closes[-1] - closes[0]:.2f} s")
    assert figures.longest_gap_obeying > 0.05
    assert (figures.ends_lost, figures.differences) == (0, 0), "resume by cursor repairs it all the same"


NO_SECOND_TRY = {
    "nginx": {
        "proxy_next_upstream error timeout http_502 http_503;": "proxy_next_upstream off;",
        "server gateway-3:3001 max_fails=0;": "server gateway-3:3001 max_fails=0 down;",
    },
    "haproxy": {"retry-on conn-failure empty-response response-timeout 503": "retry-on none"},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_control_without_a_second_try_a_drain_refuses_handshakes(kind: str, tmp_path: Path, show: Show) -> None:
    """With the shipped file the same drain refuses none: see above."""
    async with stage(tmp_path, kind, changes=NO_SECOND_TRY[kind], drain_seconds=2, drain_rate=20) as made:
        await made.open_viewers(60)
        assert made.refused() == 0
        assert (await made.drain(0)).status == 0
    show(f"{made.refused()} handshakes refused")
    assert made.refused() > 0

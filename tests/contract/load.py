"""Jobs that publish at a steady pace while Redis is being changed, and whether Redis knows all that it took."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import publisher
from publisher import aio

from .deadlines import PATIENCE, Stalls, wait_for
from .events import progress

PAUSE_SECONDS = 0.05  # between two events of a project


class Call(NamedTuple):
    """One call of `broadcast_to_project`, about a job of its own."""

    project: str
    job: str
    ended: float
    seconds: float
    seq: int | None

    @property
    def began(self) -> float:
        return self.ended - self.seconds


class Load:
    """Publishes to some projects from a thread each, and to the others from one event loop, until its block is left."""

    def __init__(self, in_threads: Sequence[str], in_a_loop: Sequence[str] = ()) -> None:
        self.calls: list[Call] = []
        self._stalls = Stalls()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(project,)) for project in in_threads]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._work_in_a_loop(in_a_loop))))

    def __enter__(self) -> Self:
        self._stalls.__enter__()
        for thread in self._threads:
            thread.start()
        self.wait_for_more(len(self._threads) * 3)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._stalls.__exit__()
        assert not any(thread.is_alive() for thread in self._threads), "a call does not end"

    def wait_for_more(self, calls: int, projects: Sequence[str] = (), within: float = PATIENCE) -> None:
        """Until so many more events were taken, of these projects."""

        def taken() -> int:
            return sum(call.seq is not None and (not projects or call.project in projects) for call in self.calls)

        until = taken() + calls
        wait_for(lambda: taken() >= until, f"{calls} more events", within)

    def _work(self, project: str) -> None:
        number = 0
        while not self._is_over.wait(PAUSE_SECONDS):
            number += 1
            began = time.monotonic()
            seq = publisher.broadcast_to_project(project, progress(f"job_{number}"))
            self._note(project, f"job_{number}", began, seq)

    async def _work_in_a_loop(self, projects: Sequence[str]) -> None:
        await asyncio.gather(*map(self._work_async, projects))

    async def _work_async(self, project: str) -> None:
        number = 0
        while not self._is_over.is_set():
            await asyncio.sleep(PAUSE_SECONDS)
            number += 1
            began = time.monotonic()
            seq = await aio.broadcast_to_project(project, progress(f"job_{number}"))
            self._note(project, f"job_{number}", began, seq)

    def _note(self, project: str, job: str, began: float, seq: int | None) -> None:
        ended = time.monotonic()
        self.calls.append(Call(project, job, ended, ended - began, seq))

    # Afterwards

    @property
    def given_up(self) -> list[Call]:
        return [call for call in self.calls if call.seq is None]

    @property
    def longest_seconds(self) -> float:
        return self.longest_of({call.project for call in self.calls})

    def longest_of(self, projects: Collection[str]) -> float:
        """Without the time that the machine took."""
        calls = [call for call in self.calls if call.project in projects]
        return max(self._stalls.without(call.began, call.ended) for call in calls)

    def forgotten(self, remembered: Callable[[str], dict[bytes, bytes]]) -> list[Call]:
        """What was taken, and is not what Redis knows of the job."""
        projects = {call.project for call in self.calls}
        states = {project: remembered(project) for project in projects}

        def knows(call: Call) -> bool:
            event = states[call.project].get(f"{call.job}\n".encode())
            return event is not None and json.loads(event)["seq"] == call.seq

        return [call for call in self.calls if call.seq is not None and not knows(call)]

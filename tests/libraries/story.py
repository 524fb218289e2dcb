"""What viewers see of one job, from its begin on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.examples.test_redelivered import Workers
from tests.listener import Listener

WITHIN = 60.0


class Story:
    """The events of a project that has one job, as lines; repeated lines (heartbeats) are told once."""

    def __init__(self, listener: Listener, workers: Workers) -> None:
        self._listener = listener
        self._workers = workers

    @property
    def lines(self) -> list[str]:
        lines = [_line(event) for event in list(self._listener.events)]
        return [line for index, line in enumerate(lines) if line not in lines[:index]]

    def until(self, *lines: str) -> list[str]:
        """All that was told, once the last of the lines was; fails unless it is just these."""
        try:
            wait_for(lambda: lines[-1] in self.lines, lines[-1], WITHIN)
        except AssertionError as error:
            raise AssertionError(f"{error}\nheard: {self.lines}\n{self._workers.log[-6000:]}") from None
        return self.lines


def _line(event: dict[str, Any]) -> str:
    attempt = event.get("attempt")
    if event["type"] == "job_complete":
        return f"{attempt}: complete"
    if event["type"] == "job_failed":
        return f"{attempt}: failed, {event.get('reason', 'error')}, {event['error']}"
    message = f", {event['message']}" if "message" in event else ""
    return f"{attempt}: {event['progress']:g}%{message}"


@contextmanager
def heard(server: RedisServer, project: str, workers: Workers) -> Iterator[Story]:
    listener = Listener(server, project)
    yield Story(listener, workers)
    listener.close()

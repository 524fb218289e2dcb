"""Where events go instead of Redis: nowhere (`publisher.disable`), or to a record (`publisher.testing`)."""

from collections.abc import Sequence
from typing import Protocol

from publisher.events import Event
from publisher.publication import NOT_SENT, Publication, Sent
from publisher.settings import PublisherSettings


class Outlet(Protocol):
    """Takes checked events in place of Redis. Called from any thread, also within an event loop: it must not wait."""

    def send(self, publications: Sequence[Publication]) -> list[Sent]:
        """Take events; returns what became of each."""

    def last_event(self, project_id: str, job_id: str, sentence_id: str | None) -> Event | None:
        """The last event of a job that was taken."""

    def revoke(self, sub: str) -> None:
        """Take a revocation."""


class Nowhere:
    """Drops all events: each returns as if Redis had refused it."""

    def send(self, publications: Sequence[Publication]) -> list[Sent]:
        return [NOT_SENT] * len(publications)

    def last_event(self, project_id: str, job_id: str, sentence_id: str | None) -> Event | None:
        return None

    def revoke(self, sub: str) -> None: ...


NOWHERE = Nowhere()


class Outlets:
    """Where this process publishes to. Lives as long as the process; a change counts from the next event or job on."""

    def __init__(self) -> None:
        self._is_disabled = False
        self._records: list[Outlet] = []  # the newest last

    def instead_of_redis(self, settings: PublisherSettings) -> Outlet | None:
        """The outlet in use; None for Redis. A record goes before `disable`: a test asked for it."""
        if self._records:
            return self._records[-1]
        return NOWHERE if self._is_disabled or settings.disabled else None

    def disable(self) -> None:
        """Publish nothing from now on in this process: no thread and no connection.

        For tests of code that publishes. Wrong events still raise `ValueError`. All calls return as if Redis had
        refused the event: `None`; `last_event` returns None. Jobs that are tracked already go on. The same as
        `PROGRESS_DISABLED=1` in the environment, which the workers that a test starts inherit.
        """
        self._is_disabled = True

    def enable(self) -> None:
        """Undo `disable`. `PROGRESS_DISABLED` still counts."""
        self._is_disabled = False

    def put(self, record: Outlet) -> None:
        """Send everything to a record, until `remove`."""
        self._records.append(record)

    def remove(self, record: Outlet) -> None:
        self._records.remove(record)


outlets = Outlets()

"""Publishing from ordinary code: threads, forked workers, scripts."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from publisher.events import Event, event_or_none
from publisher.publication import Publication, where_remembered
from publisher.settings import PublisherSettings

# `publisher.transport.sync_driver` is imported in functions: who imports this package need not wait for redis-py.


def broadcast_to_project(project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    `event` is one of this package's models or a mapping such as
    `{"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40}`.

    Returns the event's `seq`, or None when the attempt rule refused it, when replay is off, or when it could not be
    sent: Redis is tried for at most 5 seconds, then the loss is logged (once a minute) and counted, so that a job is
    never broken because its viewers cannot be reached. The events after that are not each tried for as long.

    Raises `ValueError` for a bad project id or event, before anything is sent, and with `strict=True` also redis-py's
    `RedisError` for an event that could not be sent.

    Safe in threads and after a fork: connections are kept in a pool that each process makes at first use.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    from publisher.transport.sync_driver import deliver

    return deliver(settings, [publication], strict=strict).seqs[0]


def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, of any projects, in one pipeline: a round trip for a thousand.

    Returns what `broadcast_to_project` would return for each, in order. All are checked before any is sent: raises
    `ValueError` for the first that does not fit. Where Redis is lost in the middle, those after it are sent again, and
    the last of those before it may be sent twice.
    """
    settings = PublisherSettings.from_environment()
    publications = Publication.of_many(events, settings.namespace)
    from publisher.transport.sync_driver import deliver

    return deliver(settings, publications, strict=strict).seqs


def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None: how it stands, and which attempt it is in.

    Asks once: raises redis-py's `RedisError` if Redis is away, `ValueError` for a bad id.
    """
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    from publisher.transport.sync_driver import remembered

    return event_or_none(remembered(settings, key, field))


def check_url(url: str) -> None:
    """Raise `ValueError` for what is no URL of a Redis; asks nobody."""
    from publisher.transport import sync_driver as wire

    wire.check_url(url)

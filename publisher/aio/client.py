"""Publishing from `async` code: `publisher.client` with `await`."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from publisher.events import Event, event_or_none
from publisher.publication import Publication, where_remembered
from publisher.replaced import replaced
from publisher.settings import PublisherSettings
from publisher.transport import async_driver


async def broadcast_to_project(
    project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False
) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    See `publisher.broadcast_to_project`. Works in any event loop, and in one after another.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    sent = (await async_driver.send(settings, [publication], strict=strict)).sent
    replaced.report([publication], sent)
    return sent[0].seq


async def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, in one pipeline; see `publisher.broadcast_many`."""
    settings = PublisherSettings.from_environment()
    publications = Publication.of_many(events, settings.namespace)
    sent = (await async_driver.send(settings, publications, strict=strict)).sent
    replaced.report(publications, sent)
    return [one.seq for one in sent]


async def revoke_viewer(sub: str) -> None:
    """Refuse a user's tokens, and close this user's connections; see `publisher.revoke_viewer`."""
    await async_driver.revoke(PublisherSettings.from_environment(), sub)


async def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None; see `publisher.last_event`."""
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    return event_or_none(await async_driver.remembered(settings, key, field))

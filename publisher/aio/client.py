"""Publishing from `async` code: `publisher.client` with `await`."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from publisher.events import Event, event_or_none
from publisher.outlet import outlets
from publisher.publication import Publication, Sent, where_remembered
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
    sent = await _send(settings, [publication], strict=strict)
    replaced.report([publication], sent)
    return sent[0].seq


async def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, in one pipeline; see `publisher.broadcast_many`."""
    settings = PublisherSettings.from_environment()
    publications = Publication.of_many(events, settings.namespace)
    sent = await _send(settings, publications, strict=strict)
    replaced.report(publications, sent)
    return [one.seq for one in sent]


async def _send(settings: PublisherSettings, publications: list[Publication], *, strict: bool) -> list[Sent]:
    if (outlet := outlets.instead_of_redis(settings)) is not None:
        return outlet.send(publications)
    return (await async_driver.send(settings, publications, strict=strict)).sent


async def revoke_viewer(sub: str) -> None:
    """Refuse a user's tokens, and close this user's connections; see `publisher.revoke_viewer`."""
    settings = PublisherSettings.from_environment()
    if (outlet := outlets.instead_of_redis(settings)) is not None:
        return outlet.revoke(sub)
    await async_driver.revoke(settings, sub)
    return None


async def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None; see `publisher.last_event`."""
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    if (outlet := outlets.instead_of_redis(settings)) is not None:
        return outlet.last_event(project_id, job_id, sentence_id)
    return event_or_none(await async_driver.remembered(settings, key, field))

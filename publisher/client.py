"""Publishing from ordinary code: threads, forked workers, scripts. `publisher.aio.client` is the same with `await`."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from publisher.events import Event, Progress, event_or_none
from publisher.outlet import outlets
from publisher.publication import Publication, Sent, where_remembered
from publisher.replaced import replaced
from publisher.settings import PublisherSettings
from publisher.transport import sync_driver
from publisher.warm_up import warm_up

warm_up()


def broadcast_to_project(project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    `event` is one of this package's models or a mapping such as
    `{"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40}`.

    `"attempt": "next"`, in a progress, begins the job's next attempt. Redis numbers it, and `last_event` tells the
    number.

    Returns the event's `seq`; None when the rules for attempts refused it, when replay is off, or when it could not be
    sent. Of a job whose attempt was replaced by a later one, a warning is logged once a minute.
    Redis is tried for at most 5 seconds. Then the loss is logged (once a minute) and counted, and the events after it
    are given up at once: a job never breaks because its viewers cannot be reached.

    Raises `ValueError` for a bad project id or event, before anything is sent. With `strict=True` it also raises
    redis-py's `RedisError` for an event that could not be sent.

    Safe in threads and after a fork: each process makes its own pool of connections at first use.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    sent = _send(settings, [publication], strict=strict)
    replaced.report([publication], sent)
    return sent[0].seq


def publish_one(project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False) -> Sent:
    """Like `broadcast_to_project`, and returns all that Redis said: the attempt's number, or what replaced it."""
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    return _send(settings, [publication], strict=strict)[0]


def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, of any projects, in one pipeline: a round trip for a thousand.

    Returns, in order, what `broadcast_to_project` would return for each. All are checked before any is sent: raises
    `ValueError` for the first that does not fit. If Redis is lost in the middle, the events that it did not take are
    sent again, and the last that it took may be sent twice.
    """
    settings = PublisherSettings.from_environment()
    publications = Publication.of_many(events, settings.namespace)
    sent = _send(settings, publications, strict=strict)
    replaced.report(publications, sent)
    return [one.seq for one in sent]


def _send(settings: PublisherSettings, publications: list[Publication], *, strict: bool) -> list[Sent]:
    if (outlet := outlets.instead_of_redis(settings)) is not None:
        return outlet.send(publications)
    return sync_driver.send(settings, publications, strict=strict).sent


def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None; it also tells the job's attempt.

    Asks once: raises redis-py's `RedisError` if Redis is away, `ValueError` for a bad id.
    """
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    if (outlet := outlets.instead_of_redis(settings)) is not None:
        return outlet.last_event(project_id, job_id, sentence_id)
    return event_or_none(sync_driver.remembered(settings, key, field))


def open_parts(job: Event, project_id: str) -> list[Progress]:
    """The last events of a job's sentences that run in the attempt of `job`, its own event. Raises as `last_event`.

    Reads the state of the whole project, up to 8 MiB.
    """
    settings = PublisherSettings.from_environment()
    if outlets.instead_of_redis(settings) is not None:
        return []
    key, field = where_remembered(project_id, job.job_id, None, settings.namespace)
    from publisher.transport import sync_driver

    own = field.encode()
    known = sync_driver.all_remembered(settings, key).items()
    found = [event_or_none(payload) for name, payload in known if name.startswith(own) and name != own]
    return [event for event in found if isinstance(event, Progress) and event.attempt == job.attempt]


def revoke_viewer(sub: str) -> None:
    """Refuse all tokens of a user that were issued before now, and close this user's connections within a second.

    `sub` is what the tokens name. A token that is made after this call is accepted again, so take the user's rights
    first. Unlike an event, a revocation must not be lost in silence: raises redis-py's `RedisError` if Redis did not
    take it, and `ValueError` for a bad `sub`.
    """
    settings = PublisherSettings.from_environment()
    if (outlet := outlets.instead_of_redis(settings)) is not None:
        return outlet.revoke(sub)
    sync_driver.revoke(settings, sub)
    return None


def check_settings(settings: PublisherSettings) -> None:
    """Raise `ValueError` if the URL is no URL of a Redis; asks nobody."""
    if outlets.instead_of_redis(settings) is not None:
        return
    sync_driver.check_url(settings.redis_url)

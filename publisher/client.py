"""Publishing from ordinary code: threads, forked workers, scripts."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import redis
from pydantic import BaseModel
from redis.exceptions import NoScriptError

from publisher.delivery import Answer, Delivery
from publisher.events import Event, event_or_none
from publisher.names import channel_name, jobs_key
from publisher.outage import SEND_ERRORS, circuit_of
from publisher.publication import CLIENT_OPTIONS, SCRIPT, SCRIPT_SHA, Publication, where_remembered
from publisher.settings import PublisherSettings


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
    return publish(settings, [publication], strict=strict)[0]


def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, of any projects, in one pipeline: a round trip for a thousand.

    Returns what `broadcast_to_project` would return for each, in order. All are checked before any is sent: raises
    `ValueError` for the first that does not fit. Where Redis is lost in the middle, those after it are sent again, and
    the last of those before it may be sent twice.
    """
    settings = PublisherSettings.from_environment()
    publications = [Publication.of(project_id, event, settings.namespace) for project_id, event in events]
    return publish(settings, publications, strict=strict)


def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None: how it stands, and which attempt it is in.

    Asks once: raises redis-py's `RedisError` if Redis is away, `ValueError` for a bad id.
    """
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    circuit_of(settings.redis_url).wait()
    (payload,) = cast(list[bytes | None], _client(settings.redis_url).hmget(key, [field]))
    return event_or_none(payload)


def publish(
    settings: PublisherSettings, publications: Sequence[Publication], *, strict: bool = False
) -> list[int | None]:
    """Send what was checked; the rest is as in `broadcast_many`."""
    return deliver(settings, publications, strict=strict).seqs


def deliver(settings: PublisherSettings, publications: Sequence[Publication], *, strict: bool = False) -> Delivery:
    """Send what was checked, in order; tries for 5 seconds in all."""
    delivery = Delivery(settings, publications, strict=strict, probe=lambda: probe(settings))
    while batch := delivery.batch:
        try:
            delivery.circuit.wait()
            delivery.take(_send(_client(settings.redis_url), batch, replay=settings.replay))
        except SEND_ERRORS as error:
            time.sleep(delivery.delay_after(error))
    return delivery


def check_url(url: str) -> None:
    """Raise `ValueError` for what is no URL of a Redis; asks nobody."""
    _client(url)


def probe(settings: PublisherSettings) -> None:
    """Raise what publishing would raise: a write that changes nothing, which a replica and a frozen server refuse."""
    _client(settings.redis_url).expire(jobs_key(channel_name("~probe", settings.namespace)), 1)


@lru_cache(maxsize=8)
def _client(url: str) -> redis.Redis:
    """The client of this URL. redis-py's pool notices a fork by itself and leaves the parent's sockets alone."""
    return redis.Redis.from_url(url, **CLIENT_OPTIONS)


def _send(client: redis.Redis, batch: Sequence[Publication], *, replay: bool) -> list[Answer]:
    """Send a batch in one round trip, in two where Redis does not have the script yet; returns errors in place."""
    if len(batch) == 1:
        return [_send_one(client, batch[0], replay=replay)]
    pipeline = client.pipeline(transaction=False)
    for publication in batch:
        if replay:
            pipeline.evalsha(SCRIPT_SHA, *cast(tuple[Any, ...], publication.script_arguments))
        else:
            pipeline.publish(publication.channel, publication.payload)
    seqs = pipeline.execute(raise_on_error=False)
    if unknown := [index for index, seq in enumerate(seqs) if isinstance(seq, NoScriptError)]:
        client.script_load(SCRIPT)
        again = _send(client, [batch[index] for index in unknown], replay=replay)
        for index, seq in zip(unknown, again, strict=True):
            seqs[index] = seq
    return seqs if replay else [seq if isinstance(seq, Exception) else None for seq in seqs]


def _send_one(client: redis.Redis, publication: Publication, *, replay: bool) -> int | None:
    if not replay:
        client.publish(publication.channel, publication.payload)
        return None
    arguments = cast(tuple[Any, ...], publication.script_arguments)
    try:
        return cast(int | None, client.evalsha(SCRIPT_SHA, *arguments))
    except NoScriptError:  # the first event since Redis started, or SCRIPT FLUSH; EVAL also loads it
        return cast(int | None, client.eval(SCRIPT, *arguments))

"""One event as the command that Redis runs for it. No I/O."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import BaseModel

from publisher.events import Event, Progress, check_event, event_to_json
from publisher.field_errors import EventError
from publisher.names import check_project_id, job_field, jobs_key, redis_channel_of
from publisher.tracing import with_trace

SCRIPT = files("publisher").joinpath("publish.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

MAX_JOBS = 1_000  # remembered per project
TRIM_SLACK = 125  # trimming takes Redis about a millisecond; this spreads it over 125 new jobs
TIME_TO_LIVE_SECONDS = 3_600

BATCH = 1_000  # events per round trip; more would only fill the buffers of both sides
PART = 50  # events per write: Redis runs one part while the next one travels


def _bulk(word: bytes) -> bytes:
    """A bulk string of Redis' protocol."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


# For each verb that publishes, an EVALSHA of 13 words. Six of the words depend on the event; for each of them the
# length and the word itself are filled in.
_EVALSHA = {
    verb: b"".join(
        [
            b"*13\r\n", _bulk(b"EVALSHA"), _bulk(SCRIPT_SHA.encode()), _bulk(b"1"), 6 * b"$%d\r\n%b\r\n",
            *(_bulk(b"%d" % limit) for limit in (MAX_JOBS, TRIM_SLACK, TIME_TO_LIVE_SECONDS)), _bulk(verb.encode()),
        ]
    )
    for verb in ("PUBLISH", "SPUBLISH")
}  # fmt: skip

# What Redis answers to a publication. A list means that the event was sent but not remembered; it has the event's seq
# and Redis' error.
Answer = int | None | Exception | list[int | bytes]


class Publication(NamedTuple):
    """A checked event, as the arguments of publish.lua."""

    key: str
    redis_channel: str
    payload: bytes
    field: str
    attempt: int | str
    progress: float | str
    project_id: str
    event: Event

    @classmethod
    def of(
        cls, project_id: str, event: BaseModel | Mapping[str, Any], namespace: str, context: Any = None
    ) -> "Publication":
        """Check both; raises `EventError`, a `ValueError`.

        `context` is OpenTelemetry's, if not the caller's.
        """
        checked = check_event(event)
        redis_channel = redis_channel_of(check_project_id(project_id), namespace)
        if checked.seq is not None:  # the script sets a new one
            checked = checked.model_copy(update={"seq": None})
        return cls(
            key=jobs_key(redis_channel),
            redis_channel=redis_channel,
            payload=with_trace(event_to_json(checked), context),
            field=job_field(checked.job_id, checked.sentence_id),
            attempt="" if checked.attempt is None else checked.attempt,
            progress=checked.progress if isinstance(checked, Progress) else "",
            project_id=project_id,
            event=checked,
        )

    @classmethod
    def of_many(
        cls, events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], namespace: str
    ) -> list["Publication"]:
        """Check all; raises `EventError` with the index of the first that does not fit."""
        publications = []
        for index, (project_id, event) in enumerate(events):
            try:
                publications.append(cls.of(project_id, event, namespace))
            except EventError as error:
                raise EventError(error.errors, index) from None
        return publications

    @property
    def summary(self) -> str:
        """The event in a few words, for a log line; without its `message` or `error`."""
        return f"{self.event.type} of job {self.event.job_id!r} in project {self.project_id!r}"

    def evalsha(self, verb: str = "PUBLISH") -> bytes:
        """The whole command in Redis' protocol. Takes 2 us; redis-py needs 5."""
        key, channel = self.key.encode(), self.redis_channel.encode()
        payload, field = self.payload, self.field.encode()
        attempt, progress = str(self.attempt).encode(), str(self.progress).encode()
        return _EVALSHA[verb] % (
            len(key), key, len(channel), channel, len(payload), payload, len(field), field, len(attempt), attempt,
            len(progress), progress,
        )  # fmt: skip

    def script_arguments(self, verb: str = "PUBLISH") -> tuple[Any, ...]:
        """The arguments of EVAL and EVALSHA after the script or its hash."""
        return (
            1, self.key, self.redis_channel, self.payload, self.field, self.attempt, self.progress,
            MAX_JOBS, TRIM_SLACK, TIME_TO_LIVE_SECONDS, verb,
        )  # fmt: skip


def where_remembered(project_id: str, job_id: str, sentence_id: str | None, namespace: str) -> tuple[str, str]:
    """The key and field under which publish.lua keeps a job's last event; raises `EventError`."""
    return jobs_key(redis_channel_of(check_project_id(project_id), namespace)), job_field(job_id, sentence_id)

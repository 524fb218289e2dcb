"""One event as the command that Redis runs for it. No I/O."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import BaseModel

from publisher.events import MAX_EVENT_BYTES, NEXT, RULES, Event, Progress, check_event, event_to_json
from publisher.field_errors import EventError
from publisher.names import check_project_id, job_field, jobs_key, redis_channel_of
from publisher.tracing import with_trace

SCRIPT = files("publisher").joinpath("publish.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

FORMAT = 2
"""The format in which publish.lua keeps a project, as it stands there; version 0.1 wrote no mark: docs/upgrading.md."""

# What is remembered of a project. Whole jobs are forgotten, first those that ended longest ago.
MAX_JOBS = 1_000
MAX_PARTS = 10_000  # the jobs themselves, and their sentences
MAX_BYTES = 8 << 20
BOUNDS = f"{MAX_JOBS}:{MAX_PARTS}:{MAX_BYTES}"
TIME_TO_LIVE_SECONDS = 3_600

BATCH = 1_000  # events per round trip; more would only fill the buffers of both sides
PART = 50  # events per write: Redis runs one part while the next one travels


def _bulk(word: bytes) -> bytes:
    """A bulk string of Redis' protocol."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


# For each verb that publishes, an EVALSHA of 12 words. Six of the words depend on the event; for each of them the
# length and the word itself are filled in.
_EVALSHA = {
    verb: b"".join(
        [
            b"*12\r\n", _bulk(b"EVALSHA"), _bulk(SCRIPT_SHA.encode()), _bulk(b"1"), 6 * b"$%d\r\n%b\r\n",
            _bulk(BOUNDS.encode()), _bulk(b"%d" % TIME_TO_LIVE_SECONDS), _bulk(verb.encode()),
        ]
    )
    for verb in ("PUBLISH", "SPUBLISH")
}  # fmt: skip

Answer = int | None | Exception | list[int | bytes]
"""What Redis answers to a publication: what publish.lua returns, or an error."""


class Sent(NamedTuple):
    """What became of an event, as publish.lua says."""

    seq: int | None
    """None: it was refused."""
    attempt: int | None = None
    """The number that Redis gave to the attempt that begins with it, where that was asked for."""
    replaced_by: int | None = None
    """The attempt that replaced its own, which is why it was refused."""
    unremembered: str | None = None
    """Why Redis could not remember it; it was delivered all the same."""

    @classmethod
    def of(cls, answer: int | list[int | bytes] | None) -> "Sent":
        """Read what the script returned; raises `ValueError` or `TypeError` for anything else."""
        if answer is None or isinstance(answer, int):
            return cls(answer)
        if not isinstance(answer, list):
            raise TypeError("neither a number nor a list")
        seq, attempt, *errors = answer
        number = int(attempt)
        if not int(seq):
            return cls(None, replaced_by=number)
        reason = errors[0].decode(errors="replace") if errors and isinstance(errors[0], bytes) else None
        return cls(int(seq), attempt=number if number >= 0 else None, unremembered=reason)


NOT_SENT = Sent(None)


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
        cls,
        project_id: str,
        event: BaseModel | Mapping[str, Any],
        namespace: str,
        context: Any = None,
        *,
        least_attempt: int | None = None,
    ) -> "Publication":
        """Check both; raises `EventError`, a `ValueError`.

        `context` is OpenTelemetry's, if not the caller's. With `least_attempt`, or with `"attempt": "next"` in a
        mapping, the event begins the next attempt; `least_attempt` is the lowest number that it may get.
        """
        if isinstance(event, Mapping) and event.get("attempt") == NEXT:
            event, least_attempt = {**event, "attempt": 0}, least_attempt or 0
        checked = check_event(event)
        if least_attempt is not None:
            if not isinstance(checked, Progress):
                raise EventError({"attempt": f"must be {RULES['attempt']}: an attempt begins with a progress"})
            checked = checked.model_copy(update={"attempt": 0})
        redis_channel = redis_channel_of(check_project_id(project_id), namespace)
        if checked.seq is not None:  # the script sets a new one
            checked = checked.model_copy(update={"seq": None})
        return cls(
            key=jobs_key(redis_channel),
            redis_channel=redis_channel,
            payload=with_trace(_payload(checked, asks_next=least_attempt is not None), context),
            field=job_field(checked.job_id, checked.sentence_id),
            attempt=_attempt(checked) if least_attempt is None else f"+{least_attempt}",
            progress=(checked.progress or 0) if isinstance(checked, Progress) else "",  # -0.0 is 0
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

    @property
    def given_attempt(self) -> int | None:
        """The event's attempt; None without one, or where Redis numbers it."""
        return self.attempt if isinstance(self.attempt, int) else None

    @property
    def payload_without_replay(self) -> bytes:
        """The payload of a plain PUBLISH. Redis numbers nothing then, so an attempt that begins has no number."""
        if not isinstance(self.attempt, str) or not self.attempt:
            return self.payload
        return self.payload.replace(b',"attempt":"next"', b"", 1)

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
            BOUNDS, TIME_TO_LIVE_SECONDS, verb,
        )  # fmt: skip


def _attempt(event: Event) -> int | str:
    return "" if event.attempt is None else event.attempt


def _payload(event: Event, *, asks_next: bool) -> bytes:
    payload = event_to_json(event)
    if len(payload) > MAX_EVENT_BYTES:
        raise EventError({None: f"must be at most {MAX_EVENT_BYTES} bytes as compact JSON, got {len(payload)}"})
    # A quote inside a text has a backslash before it, so the first of these bytes are the field. The script replaces
    # `"next"` by the number.
    return payload.replace(b',"attempt":0,', b',"attempt":"next",', 1) if asks_next else payload


def where_remembered(project_id: str, job_id: str, sentence_id: str | None, namespace: str) -> tuple[str, str]:
    """The key and field under which publish.lua keeps a job's last event; raises `EventError`."""
    return jobs_key(redis_channel_of(check_project_id(project_id), namespace)), job_field(job_id, sentence_id)

"""`POST /projects/<id>/events`: events from jobs in any language, published by the publisher's code. No framework."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from pydantic_core import from_json

from gateway.auth.authority import Authority
from gateway.auth.refusal import CannotDecide, NotAuthorised
from gateway.clients.rate_limit import TokenBucket
from gateway.codes import PublishCode
from gateway.http.posters import Poster, Posters
from gateway.operations.logs import Occasional
from gateway.settings import Settings, in_digits
from publisher.events import CamelModel
from publisher.field_errors import EventError
from publisher.names import check_project_id
from publisher.publication import Publication
from publisher.revocation import SUB_RULE
from publisher.settings import DEFAULT_REDIS_URL, PublisherSettings
from publisher.transport.async_driver import revoke, send
from publisher.transport.circuit import SEND_ERRORS, is_worth_retrying

STATUSES = (202, 401, 403, 405, 413, 422, 429, 503)

# Requests in progress: read, or waiting for Redis. Each may hold a body and a Redis connection: this bounds both while
# Redis is away; usually a request takes milliseconds.
MAX_IN_PROGRESS = 64
GIVE_UP_SECONDS = (
    4.0  # per request: many HTTP clients time out after 5, and would not learn what became of their events
)
# Events that are checked, or sent, without yielding to the loop. With batches of 1,000 in one piece, the p99 of a
# viewer's pong was 34 ms; with slices it is 10 ms.
SLICE = 100
AWAY_SECONDS, BUSY_SECONDS, REFUSED_SECONDS = 1, 1, 30  # for Retry-After

# The publisher logs why Redis took nothing, and the server that it ends.
_LOGGED_ELSEWHERE = (PublishCode.REDIS_UNAVAILABLE, PublishCode.REDIS_REFUSED, PublishCode.DRAINING)


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


class Accepted(CamelModel):
    """Every event was handed to Redis."""

    seqs: list[int | None]
    """The seq of each event, in order; null if the rules for attempts refused it, or with replay off."""
    attempts: list[int | None]
    """The attempt of each event, in order, as it was given or as Redis numbered it; null for an event without one."""

    @property
    def answer(self) -> Answer:
        return Answer(202, self.__pydantic_serializer__.to_json(self), {})


class Revoked(CamelModel):
    """Tokens of this user that were issued before this moment are refused."""

    sub: str
    """The user's id."""
    revoked_at: int
    """The moment, in milliseconds since the epoch, by Redis' clock."""


class BadField(CamelModel):
    """A field that is not valid."""

    index: int | None = None
    """Index of the event in the list, from 0; absent if the body was one event."""
    field: str | None = None
    """The field, such as `progress` or `result.file`; absent if the event itself is wrong."""
    message: str
    """The rule, and the type of what was given: `must be a number from 0 to 100, got str`."""


class PublishError(CamelModel):
    """Nothing was sent; with the codes `redis_unavailable` and `redis_refused` some events may have been."""

    code: PublishCode
    """Why the request was refused, for programs."""
    message: str
    """A sentence that says what to do."""
    errors: list[BadField] | None = None
    """The fields that are not valid; with status 422 only."""


class Refused(Exception):
    """Carries the answer to a refused request. Headers are keyword arguments: `retry_after=1`."""

    def __init__(
        self, status: int, code: PublishCode, message: str, errors: list[BadField] | None = None, **headers: object
    ) -> None:
        super().__init__(message)
        self.code = code
        error = PublishError(code=code, message=message, errors=errors)
        body = error.__pydantic_serializer__.to_json(error, exclude_none=True)
        named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        self.answer = Answer(status, body, named)


def bad_fields(error: EventError, index: int | None = None) -> list[BadField]:
    """A sentence for each field that is not valid."""
    return [BadField(index=index, field=field, message=message) for field, message in error.errors.items()]


class Post(NamedTuple):
    """A request from the application."""

    method: str
    project_id: str
    authorization: Sequence[str]
    """The value of each such header."""
    content_length: str | None
    body: AsyncIterator[bytes]


class Publishing:
    """Answers the requests to publish. Lives as long as the replica; used by one event loop only.

    One coroutine reads, checks and sends a request. Except for refusals by
    Redis, a request is refused before anything is sent.
    """

    def __init__(self, settings: Settings, is_draining: Callable[[], bool], authority: Authority | None = None) -> None:
        self._settings = settings
        self._is_draining = is_draining
        self._publisher = PublisherSettings(
            settings.redis_url or DEFAULT_REDIS_URL, settings.namespace, settings.replay
        )
        self.posters = Posters(settings, authority, lambda: time.monotonic())  # for tests that move it
        self._max_events = min(settings.publish_max_events, settings.publish_burst)
        self._in_progress = 0
        self._occasional = Occasional("gateway.publishing")
        # Counts for /metrics: events that Redis took, events that it refused, requests by status.
        self.accepted = 0
        self.refused = 0
        self.requests = dict.fromkeys(STATUSES, 0)

    async def answer(self, post: Post) -> Answer:
        try:
            answer = (await self._publish(post)).answer
        except Refused as refused:
            answer = refused.answer
            self._log(post, refused)
        except asyncio.CancelledError:
            if not self._is_draining():
                raise
            # The server ends and cancels requests that still wait for Redis or a body. There is time for an answer.
            answer = self._draining().answer
        self.requests[answer.status] += 1
        return answer

    def _log(self, post: Post, refused: Refused) -> None:
        """A sender that is set up wrongly shows in the log, but cannot fill it."""
        if refused.code not in _LOGGED_ELSEWHERE:
            text = "Publishing to project %.128s: a request was refused with %d %s: %s"
            self._occasional.info(refused.code, text, post.project_id, refused.answer.status, refused.code, refused)

    async def _publish(self, post: Post) -> Accepted:
        if post.method != "POST":
            raise Refused(405, PublishCode.METHOD_NOT_ALLOWED, "Use POST to send events.", allow="POST")
        if self._is_draining():
            raise self._draining()
        poster = await self._poster_of(post.authorization)
        with self._one_in_progress():
            self._check_project(post.project_id)
            if not poster.may_post(post.project_id):
                sentence = "The claim `publish` of the token does not cover this project."
                raise Refused(403, PublishCode.FORBIDDEN, sentence)
            events = self._events_of(await self._read(post))
            self._take(poster.bucket, 1 if isinstance(events, dict) else len(events))
            return await self._send(await self._check(post.project_id, events))

    @staticmethod
    def _draining() -> Refused:
        return Refused(503, PublishCode.DRAINING, "This replica is shutting down; retry.", retry_after=BUSY_SECONDS)

    async def _poster_of(self, authorization: Sequence[str]) -> Poster:
        try:
            return await self.posters.of(authorization)
        except NotAuthorised as refused:
            raise self._not_authorised(refused.detail and refused.reason) from None
        except CannotDecide:
            sentence = "No key that could check the token is known at the moment; retry."
            raise Refused(503, PublishCode.OVERLOADED, sentence, retry_after=BUSY_SECONDS) from None

    def _not_authorised(self, reason: str = "") -> Refused:
        sentence = "Send `Authorization: Bearer <key>` with one of the keys of GATEWAY_PUBLISH_KEYS."
        if reason:
            sentence = f"The token is refused: {reason}."
        return Refused(401, PublishCode.NOT_AUTHORISED, sentence, www_authenticate="Bearer")

    async def revoke(self, method: str, sub: str, authorization: Sequence[str]) -> Answer:
        """Refuse the tokens of a user that were issued before now; with a key only."""
        try:
            if method != "POST":
                raise Refused(405, PublishCode.METHOD_NOT_ALLOWED, "Use POST to revoke a user's tokens.", allow="POST")
            try:
                self.posters.with_key(authorization)
            except NotAuthorised:
                raise self._not_authorised() from None
            async with asyncio.timeout(GIVE_UP_SECONDS):
                revoked_at = await revoke(self._publisher, sub)
        except Refused as refused:
            return refused.answer
        except ValueError:
            return Refused(422, PublishCode.BAD_SUB, f"The path must name {SUB_RULE}.").answer
        except SEND_ERRORS as error:
            return self._not_sent(error).answer
        revoked = Revoked(sub=sub, revoked_at=revoked_at // 1_000)
        return Answer(200, revoked.__pydantic_serializer__.to_json(revoked, by_alias=True), {})

    @contextmanager
    def _one_in_progress(self) -> Iterator[None]:
        if self._in_progress >= MAX_IN_PROGRESS:
            sentence = f"{MAX_IN_PROGRESS} requests are already in progress; retry in a moment."
            raise Refused(503, PublishCode.OVERLOADED, sentence, retry_after=BUSY_SECONDS)
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1

    @staticmethod
    def _check_project(project_id: str) -> None:
        try:
            check_project_id(project_id)
        except EventError as error:
            sentence = "The project id in the path is not valid; see `errors`."
            raise Refused(422, PublishCode.BAD_PROJECT_ID, sentence, bad_fields(error)) from None

    async def _read(self, post: Post) -> bytes:
        """The body; holds at most the limit and one more piece."""
        limit = self._settings.publish_max_bytes
        too_big = Refused(
            413, PublishCode.BODY_TOO_BIG, f"A body may have at most {limit} bytes; send fewer events at once."
        )
        length = post.content_length or ""
        # `int` refuses numbers of thousands of digits. uvicorn handles a length that is not a number.
        if length.isdecimal() and (len(length) >= 20 or int(length) > limit):
            raise too_big
        body = bytearray()
        async for piece in post.body:
            body += piece
            if len(body) > limit:
                raise too_big
        return bytes(body)

    def _events_of(self, body: bytes) -> dict[str, Any] | list[Any]:
        """One event or a list, not yet checked."""
        try:
            value = from_json(body, allow_inf_nan=False)
        except ValueError:  # also nested too deep, a lone surrogate, not UTF-8
            sentence = "The body must be one event as JSON, or a list of events, in UTF-8."
            raise Refused(422, PublishCode.NOT_JSON, sentence) from None
        if value == []:
            raise Refused(422, PublishCode.NO_EVENTS, "The list is empty; send at least one event.")
        if not isinstance(value, dict | list):
            errors = [BadField(message="must be a JSON object, or a list of them")]
            raise Refused(422, PublishCode.BAD_EVENTS, "The body must be one event, or a list of events.", errors)
        if isinstance(value, list) and len(value) > self._max_events:
            sentence = f"A request may have at most {self._max_events} events; send fewer at once."
            raise Refused(413, PublishCode.TOO_MANY_EVENTS, sentence)
        return value

    def _take(self, bucket: TokenBucket, events: int) -> None:
        rate, burst = self._settings.publish_rate, self._settings.publish_burst
        if not bucket.take(rate=rate, burst=burst, now=time.monotonic(), count=events):
            seconds = math.ceil(bucket.seconds_until(events, rate=rate)) or 1
            sentence = f"At most {in_digits(rate)} events per second with one key; retry in {seconds} s."
            raise Refused(429, PublishCode.RATE_LIMITED, sentence, retry_after=seconds)

    async def _check(self, project_id: str, events: dict[str, Any] | list[Any]) -> list[Publication]:
        """Check all events before any is sent."""
        errors: list[BadField] = []
        publications = []
        for number, event in enumerate([events] if isinstance(events, dict) else events):
            try:
                publications.append(Publication.of(project_id, event, self._publisher.namespace))
            except EventError as error:
                errors += bad_fields(error, None if isinstance(events, dict) else number)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        if errors:
            sentence = "Nothing was sent: fix what `errors` names, and send again."
            raise Refused(422, PublishCode.BAD_EVENTS, sentence, errors)
        return publications

    async def _send(self, publications: list[Publication]) -> Accepted:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        seqs: list[int | None] = []
        attempts: list[int | None] = []
        for start in range(0, len(publications), SLICE):
            seconds = max(0.0, deadline - time.monotonic())
            part = publications[start : start + SLICE]
            try:
                sent = await send(self._publisher, part, strict=True, seconds=seconds)
            except SEND_ERRORS as error:  # the publisher has logged it, at most once a minute
                raise self._not_sent(error) from None
            refused = sent.seqs.count(None) if self._publisher.replay else 0
            self.refused += refused
            self.accepted += len(part) - refused
            seqs += sent.seqs
            attempts += [
                publication.given_attempt if one.attempt is None else one.attempt
                for publication, one in zip(part, sent.sent, strict=True)
            ]
        return Accepted(seqs=seqs, attempts=attempts)

    @staticmethod
    def _not_sent(error: Exception) -> Refused:
        if is_worth_retrying(error):
            sentence = "Redis does not answer; retry. Events that were sent already are then sent twice."
            return Refused(503, PublishCode.REDIS_UNAVAILABLE, sentence, retry_after=AWAY_SECONDS)
        sentence = "Redis refuses this; the gateway's log says why."
        return Refused(503, PublishCode.REDIS_REFUSED, sentence, retry_after=REFUSED_SECONDS)

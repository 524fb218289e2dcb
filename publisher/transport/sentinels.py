"""Where the primary is, asked of all Sentinels: the one that knows of the newest failover is right.

redis-py takes the first answer, which may be that of a Sentinel that was cut off together with the old primary.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.exceptions import AuthenticationError, ConnectionError, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.transport.circuit import NotAsked, circuit_of
from publisher.transport.options import redis_options
from publisher.transport.slot_map import decoded
from publisher.transport.url import SENTINEL_SECONDS, RedisUrl, is_address

Address = tuple[str, int]

# What a question may raise: of a server that is no Sentinel, too.
_ERRORS = (RedisError, OSError, TypeError, AttributeError, ValueError, LookupError, ArithmeticError)
MOST = 2**64 - 1  # Sentinels count in 64 bits

SILENT_SECONDS = 0.1  # of a question that came to nothing


class Known(NamedTuple):
    """What a Sentinel says of the primary. A greater one is newer, or is the same and was heard of earlier."""

    epoch: int
    """The number of the failover that made it the primary."""
    host: str
    port: int
    seconds: float
    """For how long this Sentinel has known it as that; 0 amid a failover."""

    @property
    def place(self) -> Address:
        return self.host, self.port


def locate(url: RedisUrl) -> Address:
    """Host and port of the primary; raises redis-py's `ConnectionError` if no Sentinel knows it."""
    answers: list[Known | Exception] = []
    for sentinel in (url.at_sentinel(*place) for place in url.hosts):
        if circuit_of(sentinel).is_open:
            answers.append(NotAsked())
            continue
        began = time.monotonic()
        answers.append(answer := _ask(sentinel, url.service))
        _leave_out_if_silent(sentinel, url.service, answer, time.monotonic() - began)
    return newest(url, answers).place


async def locate_async(url: RedisUrl) -> Address:
    """The same for `async` code; all are asked at once."""
    asked = [_hear_async(url.at_sentinel(*place), url.service) for place in url.hosts]
    return newest(url, await asyncio.gather(*asked)).place


async def _hear_async(sentinel: str, service: str) -> Known | Exception:
    if circuit_of(sentinel).is_open:
        return NotAsked()
    began = time.monotonic()
    answer = await _ask_async(sentinel, service)
    _leave_out_if_silent(sentinel, service, answer, time.monotonic() - began)
    return answer


def _leave_out_if_silent(sentinel: str, service: str, answer: object, seconds: float) -> None:
    """Have a Sentinel that kept a job waiting in vain asked by a thread alone, until it answers.

    Not one that refused at once: it may lead a failover in the next moment. Replicas of the gateway ask all of them,
    and who leaves one out for longer goes on publishing to a primary that they have left.
    """
    if _is_silent(answer, seconds):
        circuit_of(sentinel).open(partial(_wait_for, sentinel, service))


def _wait_for(sentinel: str, service: str) -> None:
    """Raise while it is silent."""
    began = time.monotonic()
    answer = _ask(sentinel, service)
    if _is_silent(answer, time.monotonic() - began):
        raise NotAsked


def _is_silent(answer: object, seconds: float) -> bool:
    """Whether it took long to be told nothing: it is frozen, cut off, or its host cannot be looked up."""
    is_nothing = isinstance(answer, ConnectionError | NoAnswer | OSError) and not isinstance(
        answer, AuthenticationError
    )
    return is_nothing and seconds > SILENT_SECONDS


async def ask_all(url: RedisUrl) -> Known:
    """What the Sentinels know of the primary; raises as `locate`."""
    asked = [_ask_async(url.at_sentinel(*place), url.service) for place in url.hosts]
    return newest(url, await asyncio.gather(*asked))


def _ask(url: str, service: str) -> Known | Exception:
    try:
        with redis.Redis.from_url(url, **redis_options(redis.Redis)) as client:
            return read(_questions(client.pipeline(transaction=False), service).execute(raise_on_error=False))
    except _ERRORS as error:
        return error


async def _ask_async(url: str, service: str) -> Known | Exception:
    try:
        async with asyncio.timeout(2 * SENTINEL_SECONDS):  # a host that is looked up, too
            async with redis.asyncio.Redis.from_url(url, **redis_options(redis.asyncio.Redis)) as client:
                return read(await _questions(client.pipeline(transaction=False), service).execute(raise_on_error=False))
    except _ERRORS as error:
        return error


def _questions(pipeline: Any, service: str) -> Any:
    """In this order: amid a failover, an address that is too new counts as an older one, and never the reverse."""
    pipeline.execute_command("SENTINEL", "MASTER", service)
    pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    return pipeline


def read(answers: Sequence[Any]) -> Known:
    """Read what a Sentinel answered; raises its error, and `ValueError`, `TypeError` or `LookupError` for nonsense."""
    if error := next((answer for answer in answers if isinstance(answer, Exception)), None):
        raise error
    words, (host, port) = [decoded(word) for word in answers[0]], answers[1]
    if not is_address(decoded(host), int(port)):
        raise ValueError("a Sentinel names no place of a server")
    state = dict(zip(words[::2], words[1::2], strict=True))
    # The one that leads a failover names the new primary already; its record is the old one's until all are done.
    is_settled = (state["ip"], state["port"]) == (decoded(host), decoded(port))
    seconds = _number(state.get("role-reported-time", "0")) / 1_000 if is_settled else 0.0
    return Known(_number(state["config-epoch"]), decoded(host), int(port), seconds)


def _number(text: str) -> int:
    if not (0 <= (number := int(text)) <= MOST):
        raise ValueError("a Sentinel says a number that it cannot hold")
    return number


def newest(url: RedisUrl, answers: Sequence[Known | Exception]) -> Known:
    """The primary, by the newest answer; raises what all Sentinels come to if there is none."""
    if known := [answer for answer in answers if isinstance(answer, Known)]:
        return max(known)
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    reasons = dict.fromkeys(str(error).partition("\n")[0].rstrip(".") or type(error).__name__ for error in errors)
    message = f"no Sentinel tells where {url.service!r} is: {'; '.join(reasons)}"
    # A wrong password does not get better by trying again.
    raise (AuthenticationError if isinstance(errors[0], AuthenticationError) else ConnectionError)(message)

"""Where the primary is, asked of all Sentinels: the one that knows of the newest failover is right. No I/O.

redis-py takes the first answer, which may be that of a Sentinel that was cut off together with the old primary.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import AuthenticationError, ConnectionError, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.transport.advice import error_text
from publisher.transport.circuit import NotAsked, circuit_of
from publisher.transport.conversation import Conversation, Probe, Request, Together
from publisher.transport.slot_map import decoded
from publisher.transport.url import SENTINEL_SECONDS, RedisUrl, is_address

Address = tuple[str, int]

# What a question may raise, also where something else than a Sentinel answers.
_ERRORS = (RedisError, OSError, TypeError, AttributeError, ValueError, LookupError, ArithmeticError)
MOST = 2**64 - 1  # Sentinels count in 64 bits

SILENT_SECONDS = 0.1  # a question that took longer than this and was not answered met a silent Sentinel


class Known(NamedTuple):
    """What a Sentinel knows of the primary. A greater one is newer, or knows the same for longer."""

    epoch: int
    """The number of the failover that made it the primary."""
    host: str
    port: int
    seconds: float
    """How long this Sentinel has known it as the primary; 0 during a failover."""

    @property
    def address(self) -> Address:
        return self.host, self.port


def locate(url: RedisUrl) -> Conversation[Address]:
    """Host and port of the primary; raises redis-py's `ConnectionError` if no Sentinel knows it."""
    answers = yield Together([_ask_unless_silent(url.at_sentinel(*host), url.service) for host in url.hosts])
    return newest(url, answers).address


def ask_all(url: RedisUrl) -> Conversation[Known]:
    """What the Sentinels know of the primary, the silent ones asked too; raises as `locate`."""
    return newest(url, (yield Together([_ask(url.at_sentinel(*host), url.service) for host in url.hosts])))


def _ask_unless_silent(sentinel: str, service: str) -> Conversation[Known | Exception]:
    """Ask a Sentinel. If it is silent, only a thread asks it from then on, until it answers.

    A Sentinel that refuses at once is asked again: it may lead a failover in the next moment. Replicas of the gateway
    ask all Sentinels. A publisher that left one out would go on publishing to a primary that the replicas have left.
    """
    circuit = circuit_of(sentinel)
    if circuit.is_open:
        return NotAsked()
    began = time.monotonic()
    answer = yield from _ask(sentinel, service)
    if _is_silent(answer, time.monotonic() - began):
        yield Probe(circuit, partial(_wait_for_word, sentinel, service))
    return answer


def _wait_for_word(sentinel: str, service: str) -> Conversation[None]:
    """Raise while the Sentinel is silent."""
    began = time.monotonic()
    answer = yield from _ask(sentinel, service)
    if _is_silent(answer, time.monotonic() - began):
        raise NotAsked


def _is_silent(answer: object, seconds: float) -> bool:
    """It took long and told nothing: it is frozen, cut off, or its host name cannot be resolved."""
    is_nothing = isinstance(answer, ConnectionError | NoAnswer | OSError) and not isinstance(
        answer, AuthenticationError
    )
    return is_nothing and seconds > SILENT_SECONDS


def _ask(sentinel: str, service: str) -> Conversation[Known | Exception]:
    # Ask MASTER first. Then, during a failover, a new address may seem older than it is; an old one never seems newer.
    questions = [("SENTINEL", "MASTER", service), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)]
    until = time.monotonic() + 2 * SENTINEL_SECONDS  # the look-up of its host included
    try:
        return read((yield Request(sentinel, questions, until, is_single=True)))
    except _ERRORS as error:
        return error


def read(answers: Sequence[Any]) -> Known:
    """Read what a Sentinel answered; raises its error, and `ValueError`, `TypeError` or `LookupError` for nonsense."""
    if error := next((answer for answer in answers if isinstance(answer, Exception)), None):
        raise error
    words, (host, port) = [decoded(word) for word in answers[0]], answers[1]
    if not is_address(decoded(host), int(port)):
        raise ValueError("a Sentinel named a host or port that is not valid")
    state = dict(zip(words[::2], words[1::2], strict=True))
    # The leader of a failover names the new primary already, while its record still describes the old one.
    is_settled = (state["ip"], state["port"]) == (decoded(host), decoded(port))
    seconds = _number(state.get("role-reported-time", "0")) / 1_000 if is_settled else 0.0
    return Known(_number(state["config-epoch"]), decoded(host), int(port), seconds)


def _number(text: str) -> int:
    if not (0 <= (number := int(text)) <= MOST):
        raise ValueError("a Sentinel named a number of more than 64 bits")
    return number


def newest(url: RedisUrl, answers: Sequence[Known | Exception]) -> Known:
    """The newest answer; raises redis-py's `ConnectionError`, or `AuthenticationError`, if no Sentinel knows."""
    if known := [answer for answer in answers if isinstance(answer, Known)]:
        return max(known)
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    reasons = dict.fromkeys(error_text(error).rstrip(".") for error in errors)
    message = f"no Sentinel tells where {url.service!r} is: {'; '.join(reasons)}"
    # Trying again does not mend a wrong password, so the class of the error is kept.
    raise (AuthenticationError if isinstance(errors[0], AuthenticationError) else ConnectionError)(message)

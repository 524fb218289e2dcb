"""How a server takes events in: what the publisher writes, to Redis or to the server itself, and the answers."""

from collections.abc import Callable
from dataclasses import dataclass


def redis_command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _publish(project: int, event: bytes) -> bytes:
    return redis_command(b"PUBLISH", b"project:bench-%d" % project, event)


def heard_in_redis(answers: bytes) -> int:
    """The subscribers that heard the events: each answer is that number, as Redis writes an integer."""
    return sum(int(answer[1:]) for answer in answers.split())


@dataclass(frozen=True)
class Intake:
    """One way in. Both functions work on bytes as they stand on the connection."""

    command: Callable[[int, bytes], bytes] = _publish  # (project, event) -> what publishes it
    answer: bytes = b"\n"  # stands once in each answer
    heard: Callable[[bytes], int] = heard_in_redis  # the subscribers that heard, over all answers
    script: str | None = None  # is loaded into Redis first; the commands then run it by its SHA-1
    is_server: bool = False  # the events go to the server, not to Redis


PUBLISH = Intake()  # plain PUBLISH: what the gateway, the C program and the plain server read

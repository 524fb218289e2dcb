"""Which server has which project: one server, the primary behind Sentinels, or the nodes of a Cluster. No I/O.

redis-py's own client of a Cluster retries by itself, asks all nodes about everything, and sends a batch again, event by
event, when one node of several is away. With it we could not bound the time, keep the order of a job's events, or avoid
sending an event twice.
"""

import random
import time
from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Any

from redis.exceptions import AskError, ClusterDownError, ConnectionError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.publication import Answer, Publication
from publisher.redaction import redacted_redis_url
from publisher.settings import PublisherSettings
from publisher.transport.circuit import (
    SEND_ERRORS,
    Circuit,
    NotAsked,
    Redirected,
    circuit_of,
    is_worth_retrying,
    unreadable,
)
from publisher.transport.conversation import Conversation, Request, wait_for
from publisher.transport.sentinels import locate
from publisher.transport.slot_map import NOWHERE, SLOTS, Span, read_epoch, read_slots, slot_of
from publisher.transport.url import RedisUrl, is_address

MOST_ASKED = 3  # nodes that are asked for the map in one try: each may take a second
# How long a Sentinel answer is cached. After a manual failover the old primary takes events for ten more seconds, and
# drops them when it learns of it. Replicas of the gateway listen to it for longer than this.
LOCATED_SECONDS = 0.5
MOST_ROUNDS = 3  # of one question, at one server after the other

# redis-py before 6 knows these in its own client of a Cluster only.
_CLASSES = {"MOVED": MovedError, "ASK": AskError, "CLUSTERDOWN": ClusterDownError}


class Routes:
    """What a process knows of the servers behind a URL. This class is for one server, which has all projects.

    Lives as long as the process; shared by its threads and loops. No lock: each write is one assignment, and what
    another thread overwrites is learnt again.
    """

    verb = "PUBLISH"
    """The command that publishes an event."""
    rounds = 1
    """How many servers `ask` asks, one after the other."""
    is_stale = False
    """Something was not where it was looked for."""

    def __init__(self, url: RedisUrl) -> None:
        self.url = url

    @property
    def is_due(self) -> bool:
        """Whether `learn` must be called before the next use. What is known may still be right."""
        return self.is_stale

    @property
    def some_server(self) -> str:
        """A URL of one server with the options of this URL, so that redis-py can check the options."""
        return self.url.url if self.url.kind == "server" else self.url.at("127.0.0.1", 1)

    def node_of(self, key: str) -> str:
        """The URL of the server that has the key; '' if it is not known."""
        return self.url.url

    def group(self, batch: Sequence[Publication]) -> dict[str, Sequence[int]]:
        """The indexes of events by the URL of the server that has their projects."""
        return {self.node_of(""): range(len(batch))}

    def circuit_for(self, key: str) -> Circuit:
        """The circuit of the server that has the key."""
        return circuit_of(self.url.url)

    def learn(self, until: float = inf) -> Conversation[None]:
        """Find out where the servers are. Raises what the last one raised."""
        yield from ()

    def read(self, answer: Any) -> Any:
        """An answer; an error of a Cluster is made one of the class that redis-py has for it."""
        return answer

    def note(self, node: str, error: Exception | None) -> tuple[Answer, str]:
        """Take in what a node answered: an error, or None for anything else.

        Returns the error that counts, and the URL of the node that must be asked with ASKING instead, if any.
        """
        return error, ""


class SentinelRoutes(Routes):
    """The primary that Sentinels know: it has all projects."""

    rounds = MOST_ROUNDS

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        self.is_stale = True
        self.primary = ""
        """Its URL, or '' before the first answer."""
        self._located_at = -inf

    def node_of(self, key: str) -> str:
        return self.primary

    @property
    def is_due(self) -> bool:
        return self.is_stale or time.monotonic() - self._located_at > LOCATED_SECONDS

    def learn(self, until: float = inf) -> Conversation[None]:
        self._located_at = time.monotonic()  # not again at once, if no Sentinel answers
        try:
            self.primary = self.url.at(*(yield from locate(self.url)))
        except SEND_ERRORS:
            if self.is_stale:
                raise
            return
        self._located_at = time.monotonic()
        self.is_stale = False

    def note(self, node: str, error: Exception | None) -> tuple[Answer, str]:
        self.is_stale |= _is_of_a_lost_node(error)
        return error, ""


class ClusterRoutes(Routes):
    """The nodes of a Cluster: each slot has an owner, and may move."""

    verb = "SPUBLISH"
    rounds = MOST_ROUNDS

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        self.is_stale = True
        self.epoch = 0
        """The newest epoch so far. A map with an older one comes from a node that was cut off."""
        self._hosts = {url.at(*address): address[0] for address in url.hosts}  # by the URL of a node
        self._slots: dict[int, str] = {}  # to the URL of the owner
        self._failing: set[str] = set()  # nodes that are asked for the map last
        self._knowing = ""  # the node to which a slot moved: it knows that, others perhaps not yet

    def node_of(self, key: str) -> str:
        return self._slots.get(slot_of(key), "")

    def group(self, batch: Sequence[Publication]) -> dict[str, Sequence[int]]:
        groups: dict[str, list[int]] = {}
        for index, publication in enumerate(batch):
            groups.setdefault(self.node_of(publication.key), []).append(index)
        return {**groups}

    def circuit_for(self, key: str) -> Circuit:
        """Each node fails by itself."""
        return circuit_of(self.node_of(key) or self.url.url)

    def learn(self, until: float = inf) -> Conversation[None]:
        newest: tuple[int, Sequence[Span]] | None = None
        error: Exception = ConnectionError("its nodes own no slots: it is no Cluster yet")
        for node, host in self._nodes():
            try:
                info, slots = yield Request(node, [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")], until)
                if isinstance(slots, Exception):
                    raise slots
                spans = read_slots(slots, host)
            except SEND_ERRORS as failure:
                self.note(node, failure)
                error = failure
                continue
            except ValueError as failure:
                error = ConnectionError(str(failure))
                continue
            epoch = read_epoch(info)
            if spans and (newest is None or epoch > newest[0]):
                newest = epoch, spans
                if epoch >= self.epoch:
                    break
        if newest is None:
            raise error
        self._set_slots(newest[1], newest[0])

    def _nodes(self) -> list[tuple[str, str]]:
        """The URLs and hosts of the nodes to ask for the map, in this order."""
        known = list({*self._slots.values(), *(self.url.at(*address) for address in self.url.hosts)})
        random.shuffle(known)
        known.sort(key=lambda node: (node in self._failing, node != self._knowing))
        return [(node, self._hosts[node]) for node in known[:MOST_ASKED]]

    def _set_slots(self, spans: Sequence[Span], epoch: int) -> None:
        slots: dict[int, str] = {}
        for span in spans:
            node = self._node_at(span.host, span.port)
            slots.update(dict.fromkeys(range(span.first, span.last + 1), node))
        self._slots, self.epoch = slots, epoch
        self.is_stale = False

    def _node_at(self, host: str, port: int) -> str:
        node = self.url.at(host, port)
        self._hosts[node] = host
        return node

    def read(self, answer: Any) -> Any:
        if type(answer) is ResponseError:
            code, _, text = str(answer).partition(" ")
            if code in _CLASSES:
                try:
                    return _CLASSES[code](text)
                except ValueError:
                    return unreadable(f"{code} {text}")
        return answer

    def note(self, node: str, error: Exception | None) -> tuple[Answer, str]:
        if isinstance(error, NotAsked):
            return error, ""
        if _is_of_a_lost_node(error):
            self._failing.add(node)
            self.is_stale = True
        else:
            self._failing.discard(node)
        if not isinstance(error, AskError):
            return error, ""
        target = self._target(node, error)
        if not target:
            self.is_stale = True
            return ConnectionError(
                f"the project's slot is at {error.host}:{error.port}, and nobody can be reached there"
            ), ""
        if not isinstance(error, MovedError):  # MOVED is a kind of ASK to redis-py
            return error, target
        self.is_stale = True
        self._knowing = target
        if 0 <= error.slot_id < SLOTS:
            self._slots[error.slot_id] = target
        return Redirected(f"MOVED {error}"), ""

    def _target(self, node: str, error: AskError) -> str:
        """The URL of the node that MOVED or ASK names; '' if that is no address (`?`, a node without a name yet)."""
        host = error.host or self._hosts.get(node, "")  # no host means: the one that was asked
        return self._node_at(host, error.port) if host != NOWHERE and is_address(host, error.port) else ""


def _is_of_a_lost_node(error: object) -> bool:
    """Whether a node is away, or is no primary any more."""
    if isinstance(error, NotAsked):
        return False
    return isinstance(error, ConnectionError | NoAnswer | ClusterDownError | ReadOnlyError) or (
        isinstance(error, Exception) and str(error).startswith("NOREPLICAS")
    )


@lru_cache(maxsize=16)
def routes_of(url: str) -> Routes:
    """What this process knows of the servers behind a URL. Raises `ValueError` for what is no URL of a Redis."""
    try:
        parsed = RedisUrl.parse(url)
    except ValueError as error:
        raise ValueError(f"REDIS_URL is {redacted_redis_url(url)!r}, which is no Redis URL: {error}") from None
    return {"server": Routes, "sentinel": SentinelRoutes, "cluster": ClusterRoutes}[parsed.kind](parsed)


def nobody() -> ConnectionError:
    """The error for a slot without an owner."""
    return ConnectionError("no node of the Cluster owns the project's slot")


def ask(routes: Routes, key: str, *words: Any) -> Conversation[Any]:
    """Send a command of one key to the server that has it, and return the answer; raises the last error."""
    error: Exception = nobody()
    for _ in range(routes.rounds):
        if routes.is_due:
            yield from routes.learn()
        if not (node := routes.node_of(key)):
            routes.is_stale = True
            continue
        try:
            answer = yield from _ask_at(routes, node, words)
        except SEND_ERRORS as failure:
            answer = failure
        if not isinstance(answer, Exception):
            routes.note(node, None)
            return answer
        noted, target = routes.note(node, answer)
        if isinstance(noted, Exception):
            error = noted
        if target or not is_worth_retrying(error):
            break
    raise error


def all_payloads(settings: PublisherSettings, key: str) -> Conversation[dict[bytes, bytes]]:
    """The last events of all jobs that Redis remembers of a project, by field, beside the fields of the hash itself."""
    routes = routes_of(settings.redis_url)
    yield from wait_for(routes.circuit_for(key))
    answer = yield from ask(routes, key, "HGETALL", key)
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))  # RESP3 or RESP2


def _ask_at(routes: Routes, node: str, words: tuple[Any, ...]) -> Conversation[Any]:
    """The answer of a node, or of the one that has the key while its slot is being moved."""
    answer = routes.read((yield Request(node, [words]))[0])
    if isinstance(answer, AskError):
        _, target = routes.note(node, answer)
        if target:
            _, answer = yield Request(target, [("ASKING",), words])
    return answer


def last_payload(settings: PublisherSettings, key: str, field: str) -> Conversation[bytes | None]:
    """The last event that Redis remembers of a job; asks once, but for redirections."""
    routes = routes_of(settings.redis_url)
    yield from wait_for(routes.circuit_for(key))
    payloads: list[bytes | None] = yield from ask(routes, key, "HMGET", key, field)
    return payloads[0]

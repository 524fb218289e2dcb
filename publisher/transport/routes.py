"""Which server has which project, behind Sentinels or in a Cluster, and what to do when it has it no more. No I/O.

redis-py's own client of a Cluster tries several times by itself, asks all nodes for all they can do, and sends a batch
anew, event by event, when one node of several is away: neither the bound on the time could be kept, nor that an event
that was taken is not sent again, nor the order of a job's events.
"""

import random
import time
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from publisher.publication import SCRIPT, SCRIPT_SHA, Answer, Publication
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
from publisher.transport.sentinels import Address
from publisher.transport.slot_map import NOWHERE, SLOTS, Span, read_epoch, read_slots, slot_of
from publisher.transport.url import RedisUrl, is_address

MOST_ASKED = 3  # nodes that are asked for the map in a try: each may take a second
# For how long the word of the Sentinels holds. After a failover by hand the old primary takes events for ten seconds
# more, and throws them away when it is told; replicas of the gateway listen to it for longer than this.
LOCATED_SECONDS = 0.5
MOST_ROUNDS = 3  # of asking for one thing, at one server after the other

# redis-py before 6 knows these in its own client of a Cluster only.
_CLASSES = {"MOVED": MovedError, "ASK": AskError, "CLUSTERDOWN": ClusterDownError}

Words = tuple[Any, ...]


class Request(NamedTuple):
    """Commands for one server; it is answered by a list of answers, errors in place, or by an error that is thrown."""

    url: str
    commands: Sequence[Words]
    circuit: str = ""
    """Whose circuit must be closed for it, if any."""


# What a generator of this module yields: a request, or a URL whose primary is to be located.
Step = Request | RedisUrl


class Routes:
    """What a process knows of the servers behind a URL. Lives as long as it; shared by its threads and loops.

    No lock: whatever is written is whole, and what another thread overwrites is found out again.
    """

    def __init__(self, url: RedisUrl) -> None:
        self.url = url
        self.is_stale = True
        """It is to be learnt anew before the next use."""
        self.epoch = 0
        """The newest that was heard of: an older map is that of a node that was cut off."""
        self.verb = "SPUBLISH" if url.kind == "cluster" else "PUBLISH"
        self._hosts = {url.at(*place): place[0] for place in url.hosts}  # by the URL of a node
        self._slots: dict[int, str] = {}  # to the URL of the node
        self._primary = ""
        self._located_at = float("-inf")
        self._failing: set[str] = set()  # they are asked for the map last
        self._knowing = ""  # the node to which a slot moved; it surely knows that, others perhaps not yet

    def node_of(self, key: str) -> str:
        """The URL of the server that has the key, or '' where that is not known."""
        return self._slots.get(slot_of(key), "") if self.url.kind == "cluster" else self._primary

    def circuit_name(self, key: str) -> str:
        """Each node of a Cluster fails by itself; Sentinels find another primary for all."""
        return self.node_of(key) if self.url.kind == "cluster" else self.url.url

    @property
    def is_due(self) -> bool:
        """To be asked about before the next use; what is known may be right."""
        is_old = self.url.kind == "sentinel" and time.monotonic() - self._located_at > LOCATED_SECONDS
        return self.is_stale or is_old

    def put_off(self) -> None:
        """Sentinels are asked now; not again at once if none of them answers."""
        self._located_at = time.monotonic()

    def set_primary(self, place: Address) -> None:
        """What the Sentinels said."""
        self._primary = self.url.at(*place)
        self._located_at = time.monotonic()
        self.is_stale = False

    def set_slots(self, spans: Sequence[Span], epoch: int) -> None:
        """What a node of the Cluster said."""
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

    def nodes(self) -> list[tuple[str, str]]:
        """The URLs of nodes that may be asked for the map, in this order, and the host of each."""
        known = list({*self._slots.values(), *(self.url.at(*place) for place in self.url.hosts)})
        random.shuffle(known)
        known.sort(key=lambda node: (node in self._failing, node != self._knowing))
        return [(node, self._hosts[node]) for node in known[:MOST_ASKED]]

    def target(self, node: str, answer: AskError) -> str:
        """The URL of the node that another one, asked before, names; MOVED is a kind of ASK to redis-py.

        '' where it names none (`?`, a node that has no name yet, or nonsense): the map is to be learnt anew.
        """
        host = answer.host or self._hosts.get(node, "")  # none means: where it was reached itself
        return self._node_at(host, answer.port) if host != NOWHERE and is_address(host, answer.port) else ""

    def note(self, node: str, answer: object) -> None:
        """What an answer tells of the map, and of the node that gave it."""
        if isinstance(answer, NotAsked):
            return
        if isinstance(answer, AskError):
            target = self.target(node, answer)
            self.is_stale |= isinstance(answer, MovedError) or not target
            if isinstance(answer, MovedError) and target:
                self._knowing = target
                if 0 <= answer.slot_id < SLOTS:
                    self._slots[answer.slot_id] = target
        is_wrong = isinstance(answer, ConnectionError | TimeoutError | ClusterDownError | ReadOnlyError) or (
            isinstance(answer, Exception) and str(answer).startswith("NOREPLICAS")
        )
        if is_wrong:
            self._failing.add(node)
            self.is_stale = True
        else:
            self._failing.discard(node)


@lru_cache(maxsize=16)
def routes_of(url: str) -> Routes | None:
    """What this process knows of the servers behind a URL; None where it names one server. Raises `ValueError`."""
    try:
        parsed = RedisUrl.parse(url)
    except ValueError as error:
        raise ValueError(f"REDIS_URL is {redacted_redis_url(url)!r}, which is not a valid Redis URL: {error}") from None
    return None if parsed.kind == "server" else Routes(parsed)


def circuit_for(settings: PublisherSettings, key: str) -> Circuit:
    """The circuit of the server that has a key."""
    routes = routes_of(settings.redis_url)
    return circuit_of((routes and routes.circuit_name(key)) or settings.redis_url)


def learn(routes: Routes) -> Generator[Step, Any, None]:
    """Ask where what is, if that is not known; raises what the last one raised."""
    if not routes.is_due:
        return
    if routes.url.kind == "sentinel":
        routes.put_off()
        try:
            routes.set_primary((yield routes.url))
        except SEND_ERRORS:
            if routes.is_stale:
                raise
        return
    newest: tuple[int, Sequence[Span]] | None = None
    error: Exception = ConnectionError("its nodes own no slots: it is no Cluster yet")
    for node, host in routes.nodes():
        try:
            info, slots = yield Request(node, [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
            if isinstance(slots, Exception):
                raise slots
            spans = read_slots(slots, host)
        except SEND_ERRORS as failure:
            routes.note(node, failure)
            error = failure
            continue
        except ValueError as failure:
            error = ConnectionError(str(failure))
            continue
        epoch = read_epoch(info)
        if spans and (newest is None or epoch > newest[0]):
            newest = epoch, spans
            if epoch >= routes.epoch:
                break
    if newest is None:
        raise error
    routes.set_slots(newest[1], newest[0])


def ask(routes: Routes, key: str, *words: Any) -> Generator[Step, Any, Any]:
    """Say a command of one key to the server that has it, and return the answer; raises what Redis says in the end."""
    error: Exception = _nobody()
    for _ in range(MOST_ROUNDS):
        yield from learn(routes)
        if not (node := routes.node_of(key)):
            routes.is_stale = True
            continue
        try:
            answer = _typed((yield Request(node, [words]))[0])
            is_asked = isinstance(answer, AskError) and not isinstance(answer, MovedError)
            if is_asked and (target := routes.target(node, answer)):
                _, answer = yield Request(target, [("ASKING",), words])
        except SEND_ERRORS as failure:
            answer = failure
        routes.note(node, answer)
        if not isinstance(answer, Exception):
            return answer
        error = answer
        if isinstance(answer, AskError) and not routes.target(node, answer):
            error = _nowhere(answer)
        elif not isinstance(answer, MovedError) and not is_worth_retrying(answer):
            break
    raise error


def publish(
    routes: Routes,
    batch: Sequence[Publication],
    answers: list[Answer],
    *,
    replay: bool,
    has_time: Callable[[], bool],
) -> Generator[Step, Any, None]:
    """Send a batch, to one server after the other. What is known stands in `answers`, also when this is given up."""
    error: Exception | None = None
    try:
        yield from learn(routes)
    except SEND_ERRORS as failure:  # what was known may still be right
        error = failure
    groups: dict[str, list[int]] = {}
    for index, publication in enumerate(batch):
        groups.setdefault(routes.node_of(publication.key), []).append(index)
    for index in groups.pop("", ()):
        answers[index] = error or _nobody()
        routes.is_stale = True
    asked: dict[str, list[int]] = {}
    for number, (node, indexes) in enumerate(groups.items()):
        if number == 0 or has_time():
            circuit = routes.circuit_name(batch[indexes[0]].key)
            yield from _publish_at(Request(node, (), circuit), routes, batch, indexes, answers, replay=replay)
        for index in indexes:
            answer = answers[index]
            routes.note(node, answer)
            if not isinstance(answer, AskError):
                continue
            target = routes.target(node, answer)
            if not target:
                answers[index] = _nowhere(answer)
            elif isinstance(answer, MovedError):
                answers[index] = Redirected(f"MOVED {answer}")
            else:  # its slot is being moved, and the project's state is there already
                asked.setdefault(target, []).append(index)
    for node, indexes in asked.items():
        yield from _publish_at(Request(node, ()), routes, batch, indexes, answers, replay=replay, is_asked=True)
        for index in indexes:
            if isinstance(answer := answers[index], AskError):
                answers[index] = Redirected(f"ASK {answer}")


def _publish_at(
    request: Request,
    routes: Routes,
    batch: Sequence[Publication],
    indexes: Sequence[int],
    answers: list[Answer],
    *,
    replay: bool,
    is_asked: bool = False,
) -> Generator[Step, Any, None]:
    """Send some of the batch to one server, and again those whose script it does not have yet."""
    commands = [_command(routes.verb, batch[index], SCRIPT_SHA if replay else None) for index in indexes]
    for _ in range(MOST_ROUNDS):
        try:
            given = yield request._replace(commands=_asking(commands) if is_asked else commands)
        except SEND_ERRORS as error:
            given = [error] * len(commands)
        except GeneratorExit:  # `async` code ran out of time
            for index in indexes:
                answers[index] = TimeoutError("no answer in time")
            raise
        else:
            given = given[1::2] if is_asked else given
        for index, answer in zip(indexes, given, strict=True):
            answers[index] = _typed(answer) if replay or isinstance(answer, Exception) else None
        # The first events since the server started, or after SCRIPT FLUSH; EVAL loads the script for those that follow.
        indexes = [index for index, answer in zip(indexes, given, strict=True) if isinstance(answer, NoScriptError)]
        if not indexes:
            return
        commands = [
            _command(routes.verb, batch[index], SCRIPT if index == indexes[0] else SCRIPT_SHA) for index in indexes
        ]


def _command(verb: str, publication: Publication, script: str | None) -> Words:
    if script is None:
        return verb, publication.redis_channel, publication.payload
    return "EVAL" if script is SCRIPT else "EVALSHA", script, *publication.script_arguments[:-1], verb


def _asking(commands: Sequence[Words]) -> list[Words]:
    return [words for command in commands for words in (("ASKING",), command)]


def _typed(answer: Any) -> Any:
    """An answer; where it is an error of a Cluster, of the class that redis-py has for it."""
    if type(answer) is ResponseError:
        code, _, text = str(answer).partition(" ")
        if code in _CLASSES:
            try:
                return _CLASSES[code](text)
            except ValueError:
                return unreadable(f"{code} {text}")
    return answer


def _nowhere(answer: AskError) -> ConnectionError:
    """A slot went to a node that nobody can reach yet."""
    return ConnectionError(f"the project's slot is at {answer.host}:{answer.port}, and nobody can be reached there")


def _nobody() -> ConnectionError:
    return ConnectionError("no node of the Cluster owns the project's slot")

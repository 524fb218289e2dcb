"""Events on their way to Redis: batch by batch, again after an error, and given up in the end. No I/O."""

from collections.abc import Iterator, Sequence
from functools import partial
from time import monotonic

from redis.exceptions import AskError, NoScriptError

from publisher.publication import BATCH, NOT_SENT, SCRIPT, Answer, Publication, Sent
from publisher.settings import PublisherSettings
from publisher.transport.circuit import (
    SEND_ERRORS,
    Circuit,
    NotAsked,
    Patience,
    Redirected,
    is_worth_retrying,
    unreadable,
    unremembered,
    unsent,
)
from publisher.transport.conversation import Command, Conversation, Pause, Probe, Request, wait_for
from publisher.transport.options import SOCKET_TIMEOUT_SECONDS
from publisher.transport.routes import MOST_ROUNDS, Routes, ask, nobody, routes_of


def send(
    settings: PublisherSettings,
    publications: Sequence[Publication],
    *,
    strict: bool = False,
    seconds: float | None = None,
) -> Conversation["Sending"]:
    """Send checked events, in order; tries for 5 seconds, or `seconds` in all.

    What is given up then is logged and counted; with `strict` the error is raised. Raises `ValueError` for a wrong URL.
    """
    sending = Sending(settings, publications, strict=strict, seconds=seconds)
    while sending.batch:
        try:
            sending.take((yield from send_batch(sending.routes, sending.batch, settings.replay, sending.ends_at)))
        except SEND_ERRORS as error:
            delay = sending.delay_after(error)
            if delay is None:
                for circuit, publication in sending.circuits_to_open(error):
                    yield Probe(circuit, partial(_probe, sending.routes, publication.key), unsent.tell_the_rest)
                sending.give_up(error)
            else:
                yield Pause(delay)
    return sending


def _probe(routes: Routes, key: str) -> Conversation[None]:
    """Raise what sending would raise. Sends a write that changes nothing: a replica or a frozen server fails it."""
    yield from ask(routes, key, "HDEL", key, "~probe")


class Sending:
    """One call of `send`, and its result. Lives as long as the call; used by its thread or loop only."""

    def __init__(
        self,
        settings: PublisherSettings,
        publications: Sequence[Publication],
        *,
        strict: bool = False,
        seconds: float | None = None,
    ) -> None:
        self.routes = routes_of(settings.redis_url)
        self.sent: list[Sent] = [NOT_SENT] * len(publications)
        """What became of each event, in order. No `seq` for one that was refused or not sent, or with replay off."""
        self.given_up: set[int] = set()
        """Indexes of the events that were given up. Redis did not refuse them, and may take them another time."""
        self.batch = publications[:BATCH]
        """The events to send next; empty when all were sent or given up."""
        self._settings = settings
        self._publications = publications
        self._waiting: Sequence[int] = range(len(publications))  # the indexes of the batch, and of the events behind it
        self._away: list[Publication] = []  # events whose server failed in the last try
        self._strict = strict
        self._seconds = seconds
        self._patience = Patience(self, seconds)

    @property
    def seqs(self) -> list[int | None]:
        """The `seq` of each event, in order."""
        return [sent.seq for sent in self.sent]

    @property
    def is_open(self) -> bool:
        """Whether the circuits of all servers that are still needed are open."""
        return all(self.circuit_for(publication).is_open for publication in self.batch)

    def circuit_for(self, publication: Publication) -> Circuit:
        return self.routes.circuit_for(publication.key)

    @property
    def ends_at(self) -> float:
        """When no more is tried, on the monotonic clock."""
        return self._patience.ends_at

    def take(self, answers: Sequence[Answer]) -> None:
        """Take in what Redis answered to the batch. Raises the first error that another try may mend.

        An event that Redis took is not sent again, unless an earlier event of the same job was not taken: viewers see
        the event that arrives last, and an attempt that begins late would drop it. An event that Redis refuses does
        not stop the others; with `strict` its error is raised.
        """
        again: dict[int, Exception] = {}
        jobs: set[tuple[str, str]] = set()
        for index, publication, answer in zip(self._waiting, self.batch, answers, strict=False):
            if not jobs and isinstance(answer, int):  # nearly always
                self.sent[index] = Sent(answer)
            elif isinstance(answer, Exception) and (self._strict or is_worth_retrying(answer)):
                again[index] = answer
                jobs.add((publication.key, publication.event.job_id))
            elif (publication.key, publication.event.job_id) in jobs:
                again[index] = NotAsked()
            else:
                self.sent[index] = self._sent_of(publication, answer)
        self._wait_for([*again, *self._waiting[len(self.batch) :]])
        if not self.batch:
            return
        if again:
            failed = {index: error for index, error in again.items() if not isinstance(error, NotAsked)}
            self._away = [self._publications[index] for index in failed]
            raise next(iter((failed or again).values()))
        if self._seconds is None:  # Redis answered, so the next batch has the whole time again
            self._patience = Patience(self)

    def _wait_for(self, indexes: Sequence[int]) -> None:
        self._waiting = indexes
        self.batch = [self._publications[index] for index in indexes[:BATCH]] if indexes else ()

    def _sent_of(self, publication: Publication, answer: Answer) -> Sent:
        try:
            sent = answer if isinstance(answer, Exception) else Sent.of(answer)
        except (TypeError, ValueError):
            sent = unreadable(answer)
        if isinstance(sent, Exception):
            unsent.report(publication, 1, self._settings, sent, self._patience.seconds)
            return NOT_SENT
        if sent.unremembered is not None:
            unremembered.report(publication, self._settings, sent.unremembered)
        return sent

    def delay_after(self, error: Exception) -> float | None:
        """Seconds to wait before the next try; None to give up."""
        return self._patience.delay_after(error)

    def circuits_to_open(self, error: Exception) -> Iterator[tuple[Circuit, Publication]]:
        """The circuits of the servers that did not answer, and an event for each."""
        if is_worth_retrying(error) and not isinstance(error, NotAsked):
            yield from {self.circuit_for(one): one for one in self._away or self.batch}.items()

    def give_up(self, error: Exception) -> None:
        """Give up the events that were not sent. Raises `error` with `strict`."""
        unsent.report(self.batch[0], len(self._waiting), self._settings, error, self._patience.seconds)
        self.given_up = set(self._waiting)
        self._wait_for([])
        if self._strict:
            raise error


def send_batch(routes: Routes, batch: Sequence[Publication], replay: bool, until: float) -> Conversation[list[Answer]]:
    """Send a batch, to one server after the other; returns the answers, errors in place.

    `async` code stops waiting for answers at `until`, on the monotonic clock. If there is no time left for an answer,
    only the first server is asked. Raises `NotAsked` if none of the servers may be asked.
    """
    error: Exception | None = None
    if routes.is_due:
        if all(routes.circuit_for(publication.key).is_open for publication in batch):  # then no node is asked at all
            yield from wait_for(routes.circuit_for(batch[0].key))
        try:
            yield from routes.learn(until)
        except SEND_ERRORS as failure:  # what was known may still be right
            error = failure
    answers: list[Answer] = [None] * len(batch)
    groups = routes.group(batch)
    for index in groups.pop("", ()):
        answers[index] = error or nobody()
        routes.is_stale = True
    moving: dict[str, list[int]] = {}  # events whose slot is being moved, and whose state is at another node already
    is_first = True
    for node, indexes in groups.items():
        try:
            if not is_first and until - monotonic() < SOCKET_TIMEOUT_SECONDS:
                raise NotAsked
            is_first = False
            circuit = routes.circuit_for(batch[indexes[0]].key)
            if circuit.is_open:
                yield from wait_for(circuit)
        except NotAsked as not_asked:
            for index in indexes:
                answers[index] = not_asked
            continue
        failed = yield from _send_to(routes, node, batch, indexes, answers, replay, until)
        if len(failed) < len(indexes):
            routes.note(node, None)
        for index, error in failed.items():
            answers[index], target = routes.note(node, error)
            if target:
                moving.setdefault(target, []).append(index)
    for node, indexes in moving.items():
        failed = yield from _send_to(routes, node, batch, indexes, answers, replay, until, is_moving=True)
        for index, error in failed.items():
            if isinstance(error, AskError):
                answers[index] = Redirected(f"ASK {error}")
    return answers


def _send_to(
    routes: Routes,
    node: str,
    batch: Sequence[Publication],
    indexes: Sequence[int],
    answers: list[Answer],
    replay: bool,
    until: float,
    *,
    is_moving: bool = False,
) -> Conversation[dict[int, Exception]]:
    """Send some of the batch to one server, and again those whose script it does not have yet; returns the errors."""
    commands: list[Command]
    if replay:
        commands = [batch[index].evalsha(routes.verb) for index in indexes]
    else:
        commands = [(routes.verb, batch[index].redis_channel, batch[index].payload_without_replay) for index in indexes]
    failed: dict[int, Exception] = {}
    for _ in range(MOST_ROUNDS):
        try:
            given = yield Request(node, _asking(commands) if is_moving else commands, until)
        except SEND_ERRORS as error:
            given = [error] * len(commands)
        else:
            given = given[1::2] if is_moving else given
        unknown = []
        for index, answer in zip(indexes, given, strict=True):
            if isinstance(answer, int) and replay:  # nearly always
                answers[index] = answer
            elif isinstance(answer, Exception):
                answers[index] = failed[index] = routes.read(answer)
                if isinstance(answer, NoScriptError):
                    unknown.append(index)
            else:
                answers[index] = answer if replay else None
        if not unknown:
            break
        # The first events since the server started, or after SCRIPT FLUSH. EVAL loads the script for the others.
        failed = {index: error for index, error in failed.items() if index not in unknown}
        first, *rest = indexes = unknown
        commands = [
            ("EVAL", SCRIPT, *batch[first].script_arguments(routes.verb)),
            *(batch[index].evalsha(routes.verb) for index in rest),
        ]
    return failed


def _asking(commands: Sequence[Command]) -> list[Command]:
    return [word for command in commands for word in (("ASKING",), command)]

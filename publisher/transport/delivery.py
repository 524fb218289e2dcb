"""Events on their way to Redis: batch by batch, again after an error, and given up in the end. No I/O."""

import functools
from collections.abc import Callable, Sequence
from typing import cast

from publisher.publication import BATCH, Answer, Publication
from publisher.settings import PublisherSettings
from publisher.transport.circuit import Circuit, NotAsked, Patience, circuit_of, is_worth_retrying, unremembered, unsent


class Delivery:
    """One call of `publish`. Lives as long as that call.

    `circuit_name` gives the name of the circuit of the server that has a key: each node of a Cluster has its own.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        publications: Sequence[Publication],
        *,
        strict: bool = False,
        seconds: float | None = None,
        probe: Callable[[Publication], object],
        circuit_name: Callable[[str], str] | None = None,
    ) -> None:
        self.seqs: list[int | None] = [None] * len(publications)
        """What is known of the events so far, in their order; None for one that was not sent."""
        self.given_up: set[int] = set()
        """Which of them were given up: Redis did not refuse them, and may take them another time."""
        self.circuit = circuit_of(settings.redis_url)
        self._settings = settings
        self._publications = publications
        self.batch = publications[:BATCH]
        """What is to be sent next; empty when all was sent or given up."""
        self._waiting = list(range(len(publications)))  # the indexes of the batch, and of what comes after it
        self._away: list[Publication] = []  # whose node failed in the last try
        self._strict = strict
        self._probe = probe
        self._circuit_name = circuit_name
        self._seconds = seconds
        self._patience = Patience(self, seconds)

    @property
    def seconds_left(self) -> float:
        return self._patience.seconds_left

    def circuit_for(self, publication: Publication) -> Circuit:
        """That of the server that it goes to."""
        name = self._circuit_name(publication.key) if self._circuit_name is not None else ""
        return circuit_of(name) if name else self.circuit

    @property
    def is_open(self) -> bool:
        """True if none of the servers that are still needed is asked at the moment."""
        return all(circuit.is_open for circuit in set(map(self.circuit_for, self.batch)))

    def take(self, answers: Sequence[Answer]) -> None:
        """What Redis said to the batch. Raises the first error that another try may mend.

        What was taken is not sent again, but for an event that came after one of the same job that was not: the last
        to arrive is what viewers see. An event that Redis refuses (its project's key holds something else, say) does
        not keep the others; with `strict` it is raised.
        """
        again: dict[int, Exception] = {}
        jobs: set[tuple[str, str]] = set()
        for index, publication, answer in zip(self._waiting, self.batch, answers, strict=False):
            if not jobs and isinstance(answer, int):  # nearly always
                self.seqs[index] = answer
            elif isinstance(answer, Exception) and (self._strict or is_worth_retrying(answer)):
                again[index] = answer
                jobs.add((publication.key, publication.field))
            elif (publication.key, publication.field) in jobs:
                again[index] = NotAsked()
            else:
                self.seqs[index] = self._seq_of(publication, answer)
        self._wait_for([*again, *self._waiting[len(self.batch) :]])
        if not self.batch:
            return
        if again:
            failed = {index: error for index, error in again.items() if not isinstance(error, NotAsked)}
            self._away = [self._publications[index] for index in failed]
            raise next(iter((failed or again).values()))
        if self._seconds is None:  # a Redis that answered is given its time anew
            self._patience = Patience(self)

    def _wait_for(self, indexes: list[int]) -> None:
        self._waiting = indexes
        self.batch = [self._publications[index] for index in indexes[:BATCH]] if indexes else ()

    def _seq_of(self, publication: Publication, answer: Answer) -> int | None:
        if isinstance(answer, Exception):
            unsent.report(publication, 1, self._settings, answer, self._patience.seconds)
            return None
        if isinstance(answer, list):
            seq, reason = cast(tuple[int, bytes], answer)
            unremembered.report(publication, self._settings, reason.decode(errors="replace"))
            return seq
        return answer

    def delay_after(self, error: Exception) -> float:
        """Seconds to wait before the next try. Gives the rest up where there is none: raises `error` with `strict`."""
        delay = self._patience.delay_after(error)
        if delay is not None:
            return delay
        if is_worth_retrying(error) and not isinstance(error, NotAsked):
            for circuit, publication in {self.circuit_for(one): one for one in self._away or self.batch}.items():
                circuit.open(functools.partial(self._probe, publication), unsent.tell_the_rest)
        unsent.report(self.batch[0], len(self._waiting), self._settings, error, self._patience.seconds)
        self.given_up = set(self._waiting)
        self._wait_for([])
        if self._strict:
            raise error
        return 0.0

"""Events on their way to Redis: batch by batch, again after an error, and given up in the end. No I/O."""

from collections.abc import Callable, Sequence

from publisher.outage import Patience, circuit_of, is_worth_retrying, unsent
from publisher.publication import BATCH, Publication
from publisher.settings import PublisherSettings

Answer = int | None | Exception


class Delivery:
    """One call of `publish`. Lives as long as that call."""

    def __init__(
        self,
        settings: PublisherSettings,
        publications: Sequence[Publication],
        *,
        strict: bool = False,
        seconds: float | None = None,
        probe: Callable[[], object],
    ) -> None:
        self.seqs: list[int | None] = []
        """What is known of the events so far, in their order; None for one that was not sent."""
        self.is_given_up = False
        self.circuit = circuit_of(settings.redis_url)
        self._settings = settings
        self._publications = publications
        self._strict = strict
        self._probe = probe
        self._seconds = seconds
        self._patience = Patience(self.circuit, seconds)

    @property
    def batch(self) -> Sequence[Publication]:
        """What is to be sent next; empty when all was sent or given up."""
        return self._publications[len(self.seqs) : len(self.seqs) + BATCH]

    @property
    def seconds_left(self) -> float:
        return self._patience.seconds_left

    def take(self, answers: Sequence[Answer]) -> None:
        """What Redis said to the batch. Raises the first error that another try may mend.

        An event that Redis refuses (its project's key holds something else, say) does not keep the others; with
        `strict` it is raised.
        """
        for publication, answer in zip(self.batch, answers, strict=True):
            if not isinstance(answer, Exception):
                self.seqs.append(answer)
            elif self._strict or is_worth_retrying(answer):
                raise answer
            else:
                unsent.report(publication, 1, self._settings, answer, self._patience.seconds)
                self.seqs.append(None)
        if self._seconds is None:  # a Redis that answered is given its time anew
            self._patience = Patience(self.circuit)

    def delay_after(self, error: Exception) -> float:
        """Seconds to wait before the next try. Gives the rest up where there is none: raises `error` with `strict`."""
        delay = self._patience.delay_after(error)
        if delay is not None:
            return delay
        if is_worth_retrying(error):
            self.circuit.open(self._probe)
        first, rest = self.batch[0], len(self._publications) - len(self.seqs)
        unsent.report(first, rest, self._settings, error, self._patience.seconds)
        self.is_given_up = True
        if self._strict:
            raise error
        self.seqs += [None] * rest
        return 0.0

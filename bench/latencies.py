"""How long events took, as counted by the clients (clock.h): so many events for so many nanoseconds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

# What a curve needs: dense where the tail is. In percent.
CURVE = (0, 10, 25, 50, 75, 90, 95, 97, 98, 99, 99.5, 99.7, 99.9, 99.95, 99.97, 99.99, 99.995, 99.999, 100)


class Latencies:
    """Values in buckets of at most 1.6 % width, and the largest one exactly."""

    def __init__(self, counts: dict[int, int] | None = None, largest_ns: int = 0) -> None:
        self._counts = Counter(counts or {})  # events by nanoseconds, the middle of a bucket
        self._largest_ns = largest_ns

    @classmethod
    def read(cls, words: Sequence[str]) -> Self:
        """From the answer of the clients to `latency`, without its first word."""
        pairs = (word.split(":") for word in words[1:])
        return cls({int(ns): int(events) for ns, events in pairs}, int(words[0]))

    @classmethod
    def joined(cls, several: Iterable["Latencies"]) -> Self:
        """As if all had been counted in one run."""
        whole = cls()
        for each in several:
            whole._counts += each._counts
            whole._largest_ns = max(whole._largest_ns, each._largest_ns)
        return whole

    @property
    def events(self) -> int:
        return self._counts.total()

    def ms(self, percent: float) -> float:
        """The latency that so many percent of the events did not exceed; NaN without any event."""
        if not self._counts:
            return float("nan")
        if percent >= 100:
            return self._largest_ns / 1e6
        wanted, seen, ns = self.events * percent / 100, 0, 0
        for ns in sorted(self._counts):
            seen += self._counts[ns]
            if seen >= wanted:
                break
        return min(ns, self._largest_ns) / 1e6

    def curve(self) -> dict[str, float]:
        """Milliseconds by percent, as --json writes them and a picture shows them.

        A percentile that fewer than ten events exceed says nothing: those are left out, except the largest.
        """
        enough = [percent for percent in CURVE if percent == 100 or round(self.events * (100 - percent)) >= 1_000]
        return {f"{percent:g}": round(self.ms(percent), 4) for percent in enough}

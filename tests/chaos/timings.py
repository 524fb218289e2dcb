"""How long it took until each client was told `stale`, and until each was live and current again."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.faults import Due, Fault
from tests.chaos.link import Link
from tests.chaos.viewers import Viewer

STALE_SECONDS = 5.0  # a promise of the gateway: longer than that nobody takes old for new
RETURN_SECONDS = 3.0  # a promise, too: of a Redis that goes on as if nothing had been


@dataclass
class Timing:
    """One fault, and the clients that could feel it. Moments are of the loop's clock."""

    fault: Fault
    began: float
    ended: float = math.inf
    links: list[tuple[Viewer, Link]] = field(default_factory=list)
    stale_seconds: list[float] = field(default_factory=list)
    live_seconds: list[float] = field(default_factory=list)
    current_seconds: list[float] = field(default_factory=list)
    return_seconds: list[float] = field(default_factory=list)
    """From its begin until `live`, where another server takes over while it lasts."""
    untold: int = 0
    """Clients that kept their connection, had to be told `stale`, and were not."""

    @classmethod
    def of(cls, fault: Fault, viewers: Iterable[Viewer], now: float) -> "Timing":
        """At its begin. Slow readers are left out: they read when they like."""
        felt_by = [
            (viewer, viewer.link)
            for viewer in viewers
            if viewer.link is not None
            and viewer.is_connected
            and not viewer.is_slow
            and viewer.replica in fault.replicas
        ]
        return cls(fault, now, links=felt_by)

    @property
    def is_due(self) -> bool:
        due, seconds = self.fault.due, self.ended - self.began
        return due is Due.ALWAYS or (due is Due.IF_LONG and seconds > STALE_SECONDS)

    def measure(self, others: Iterable["Timing"], marker: str) -> None:
        """After the round, when everything is current again; `marker` was published after the end of its last fault."""
        rivals = [other for other in others if other is not self and {*other.fault.replicas} & {*self.fault.replicas}]
        for viewer, link in self.links:
            stale_at = next((moment for moment in link.stale_at if moment >= self.began), None)
            if link.closed.done():
                continue
            if stale_at is None:
                self.untold += self.is_due
                continue
            if self.is_due:
                self.stale_seconds.append(stale_at - self.began)
            back_at = next((moment for moment in link.live_at if moment >= stale_at), math.inf)
            if back_at < self.ended:
                self.return_seconds.append(back_at - self.began)
            live_at = next((moment for moment in link.live_at if moment >= max(self.ended, stale_at)), math.inf)
            if live_at == math.inf or any(other.ended > self.ended and other.began < live_at for other in rivals):
                continue  # another fault had its share in it
            self.live_seconds.append(live_at - self.ended)
            seen = viewer.marker_at.get(marker, {})
            if len(seen) == len(viewer.projects) and not any(other.ended > self.ended for other in rivals):
                self.current_seconds.append(max(live_at, *seen.values()) - self.ended)

    def complaints(self, stall: float) -> list[str]:
        """What was promised and not kept; what the machine itself held up is taken off."""
        found = []
        kind, latest = self.fault.kind, max(self.stale_seconds, default=0.0)
        if self.untold:
            found.append(f"{kind}: {self.untold} clients were not told `stale`")
        if latest > STALE_SECONDS + stall:
            found.append(f"{kind}: `stale` came after {latest:.1f} s")
        if self.fault.kind == "stop Redis" and max(self.current_seconds, default=0.0) > RETURN_SECONDS + stall:
            found.append(f"{kind}: current {max(self.current_seconds):.1f} s after it went on")
        return found

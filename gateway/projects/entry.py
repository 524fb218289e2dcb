"""One event of a part, as a channel keeps it. No I/O, no clock."""

from publisher.events import Event, Progress
from publisher.names import job_field


class Entry:
    """What a channel looks at of an event, and its text frame. `put` completes it; afterwards it never changes."""

    __slots__ = (
        "attempt", "ended", "field", "frame", "is_terminal", "job_id", "position", "progress", "seen_before",
        "sentence_id", "seq",
    )  # fmt: skip

    ended: int
    """The seq of the last end of this part that was seen, in this run or an earlier one; 0 for none."""
    position: int
    """Which of the channel's events it was, by arrival."""
    seen_before: int
    """The highest cursor of a client that has surely not seen this event."""

    def __init__(
        self,
        seq: int | None,
        job_id: str,
        sentence_id: str | None,
        attempt: int | None,
        progress: float,
        frame: bytes,
        *,
        is_terminal: bool = False,
    ) -> None:
        """`progress` is in percent, and 0 for an end."""
        self.seq = seq
        self.job_id = job_id
        self.sentence_id = sentence_id
        self.attempt = attempt
        self.progress = progress
        self.frame = frame
        self.is_terminal = is_terminal
        self.field = job_field(job_id, sentence_id)
        """The name of its part."""

    def put(self, position: int, newest: int, before: "Entry | None") -> None:
        """It arrived at this position, after `before` of its part, while `newest` was the channel's newest seq."""
        self.position = position
        self.ended = (self.seq if self.is_terminal else before.ended if before is not None else 0) or 0
        # After a failover an event may have a lower seq than one that arrived before it. A client that has seen the
        # higher one may still lack this one.
        self.seen_before = self.seq - 1 if self.seq is not None and self.seq > newest else newest


def entry_of(event: Event, frame: bytes) -> Entry:
    progress = event.progress if isinstance(event, Progress) else 0
    return Entry(
        event.seq,
        event.job_id,
        event.sentence_id,
        event.attempt,
        progress,
        frame,
        is_terminal=event.is_terminal,
    )

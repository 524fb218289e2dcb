"""One project's last events: what a client that missed something is given. No I/O, no clock.

The stream of a job can be conflated: only its last event matters. So the state of a project is the last event of each
of its jobs, and everybody who missed something, for whatever reason, is given the part of it that is newer than a
cursor: `since`.

There are two kinds of cursor. Clients and Redis know `seq`. Inside a replica the order of arrival counts, since on one
live feed the order of arrival is the order, even for an event without a seq (published by a plain PUBLISH), or with a
lower one than the last (after a failover to a server whose clock is behind). So each event that arrives also gets a
`position` in its channel, 1, 2, 3, and a slow client's cursor is a position; `position_of` translates a seq.
"""

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from gateway.frames import text_frame
from gateway.messages import subscribed
from publisher.events import MAX_SEQ, Event, Progress, event_from_json, event_to_json
from publisher.names import job_field
from publisher.publication import MAX_JOBS, TIME_TO_LIVE_SECONDS

_TIME_TO_LIVE = TIME_TO_LIVE_SECONDS * 1_000_000  # as a difference of seqs
MAX_PAYLOAD_BYTES = 1 << 20  # far above any event; what is longer is not even parsed


class Entry:
    """A job's last event, framed for the wire. Never changed once made."""

    __slots__ = ("attempt", "ended", "frame", "is_terminal", "position", "seen_before", "seq")

    def __init__(self, event: Event, frame: bytes, position: int, newest: int, before: "Entry | None") -> None:
        self.frame: Final = frame
        self.position: Final = position
        self.seq: Final = event.seq
        self.attempt: Final = event.attempt
        self.is_terminal: Final = not isinstance(event, Progress)
        # The seq of the last end of this job that was seen, its own or one of an earlier run.
        self.ended: Final[int] = (event.seq if self.is_terminal else before.ended if before is not None else 0) or 0
        # The highest cursor of a client that has surely not seen this event. An event whose seq is below the newest one
        # (a failover, see above) came after the newest all the same, so who has seen that one may lack this one.
        self.seen_before: Final = event.seq - 1 if event.seq is not None and event.seq > newest else newest


class ChannelState(Enum):
    """Whether what a channel holds can be relied on."""

    LOADING = "loading"  # its Redis subscription or its remembered state is awaited; nothing is given to clients
    LIVE = "live"  # every event published from now on arrives


class Channel:
    """The last events of one project and their order, as this replica knows them.

    Lives from the first local subscriber to a little after the last. Used by one event loop only. Invariants: `_last`
    and `_unsequenced` are in order of arrival; a job is in `_unsequenced` only while its newest event has no seq, and
    then in `_last` too if an event with a seq came before.
    """

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        self.state = ChannelState.LOADING
        self.seq = 0
        """The newest seq that was seen."""
        self.position = 0
        """How many events have arrived."""
        self.batch_seq: int | None = None
        """The seq of the oldest event of the last batch that `receive` returned."""
        self.bad_payloads = 0
        # The seq from which on `_last` is complete, and the position from which on clients have been given everything.
        self._from = 0
        self._complete_since = 0
        self._was_loaded = False
        self.is_kept: bool | None = None
        """Whether Redis had, when this was last loaded again, what was known here; None where that cannot be told."""
        self._from_if_emptied = 0
        self._last: dict[str, Entry] = {}
        # Newest events that have no seq. They are kept for this replica's own slow clients, and not replayed to others.
        self._unsequenced: dict[str, Entry] = {}
        # What arrived while LOADING, conflated by job. It is merged after the state, which is older.
        self._arrived: dict[str, Event] = {}
        self._head = b'{"projectId":' + json.dumps(project_id).encode() + b","

    # What comes from Redis

    def receive(self, payloads: Iterable[bytes]) -> bytes:
        """Take events as they arrive; return their joined frames, to be sent to those who keep up.

        While the state loads, nothing is returned: the events are kept and merged by `load`. A payload that is no event
        is counted and dropped.
        """
        frames: list[bytes] = []
        for payload in payloads:
            try:
                if len(payload) > MAX_PAYLOAD_BYTES:
                    raise ValueError("too long")
                event = event_from_json(payload)
            except ValueError:
                self.bad_payloads += 1
                continue
            if event.seq is not None and not _is_scripts(payload):
                event = event.model_copy(update={"seq": None})
            job = job_field(event.job_id, event.sentence_id)
            if self.state is ChannelState.LOADING:
                self._arrived.pop(job, None)
                self._arrived[job] = event
                if len(self._arrived) > MAX_JOBS:
                    self._arrived.pop(next(iter(self._arrived)))
                continue
            if not frames:
                self.batch_seq = event.seq
            frames.append(self._remember(job, event).frame)
        return b"".join(frames)

    def begin_load(self) -> None:
        """The feed was lost: hold back what arrives, until `load` brings what was missed meanwhile."""
        self.state = ChannelState.LOADING
        # What arrived while an earlier load was under way is older than what the next one brings, but for the events
        # that Redis does not remember.
        self._arrived = {job: event for job, event in self._arrived.items() if event.seq is None}

    def load(self, remembered: Mapping[bytes, bytes], *, now: int = 0, outage: int = 0) -> None:
        """Merge the project's remembered state (the hash of publish.lua) and what arrived while it was read.

        Never replaces newer by older: after an emptied or failed-over Redis this replica may know more than Redis does.
        `now`, in microseconds as a seq, tells a state that expired from one that was lost; `outage`, in microseconds,
        is how long events may not have arrived.
        """
        self.state = ChannelState.LIVE
        events = self._read_remembered(remembered)
        trimmed = events[:-MAX_JOBS]
        remembered_seq = _whole_number(remembered.get(b"seq"))
        beginning = _whole_number(remembered.get(b"from"))
        remembered_from = max(beginning, trimmed[-1][0] if trimmed else 0)
        if events and not beginning:  # an event could not be remembered, and it was the newest; or somebody spoilt it
            remembered_from = events[-1][0] + 1
        is_whole = 0 < remembered_from <= self.seq <= remembered_seq
        is_recent = self.seq > 0 and (remembered_from or now) - self.seq < _TIME_TO_LIVE
        before, was_loaded, self._was_loaded = self.seq, self._was_loaded, True
        self.is_kept, self._from_if_emptied = None, 0
        if not before:
            self._from = remembered_from
        if self._knows_newer(events) or (was_loaded and not is_whole and (is_recent or outage >= _TIME_TO_LIVE)):
            # What Redis remembers begins after the last event that was seen here, or ends before it, or has an older
            # event of a job: it was emptied, or trimmed while nobody listened, or came back from an older copy, or
            # another server took over that had not heard everything. Something may be missing, for everybody who is not
            # newer than that.
            self.is_kept = False
            self._complete_since = self.position + 1
            self._from = max(remembered_from, before + 1)
        elif was_loaded and is_whole:
            self.is_kept = True
        elif was_loaded:  # it expired long ago, or never was; or Redis was emptied, which other projects can tell
            self._from_if_emptied = max(remembered_from, before + 1)
        if self._unsequenced:  # such events are not remembered, so some may have been missed
            self._complete_since = self.position + 1
        for _, job, event in events[-MAX_JOBS:]:
            if self._is_news(job, event):
                self._remember(job, event)
        arrived, self._arrived = self._arrived, {}
        for job, event in arrived.items():
            # Live events win by arrival; most are what the state has already.
            known = self._last.get(job)
            if event.seq is None or known is None or event.seq != known.seq:
                self._remember(job, event)
        self.seq = max(self.seq, remembered_seq)
        if self._complete_since > self.position:  # nothing came: the gap is still told, to those who were here before
            self.position = self._complete_since

    def doubt(self, *, is_sure: bool) -> bool:
        """Say, to who is here, that something may be missing, where the last `load` could not tell; false elsewhere.

        `is_sure`: that Redis was emptied. A project that never had an event is not in doubt for less.
        """
        if not self._from_if_emptied or (self._from_if_emptied == 1 and not is_sure):
            return False
        self._from, self._from_if_emptied = max(self._from, self._from_if_emptied), 0
        self.position += 1
        self._complete_since = self.position
        return True

    def _read_remembered(self, remembered: Mapping[bytes, bytes]) -> list[tuple[int, str, Event]]:
        events = []
        for field, payload in remembered.items():
            if b"\n" not in field:  # seq and from
                continue
            try:
                event = event_from_json(payload)
            except ValueError:
                self.bad_payloads += 1
                continue
            events.append((event.seq or 0, job_field(event.job_id, event.sentence_id), event))
        return sorted(events, key=lambda item: item[0])

    def _knows_newer(self, events: Iterable[tuple[int, str, Event]]) -> bool:
        """Whether Redis has forgotten what it had accepted of a job."""
        known = self._last
        return any(job in known and (known[job].seq or 0) > seq > 0 for seq, job, _ in events)

    def _is_news(self, job: str, event: Event) -> bool:
        """Whether a remembered event is newer than what is known here of its job.

        By seq; but an end that Redis remembers beats a progress known here whose seq is higher: that progress was lost
        by a failover to a server whose clock is behind. Not so if the progress belongs to a later attempt, or to a run
        that began after that very end.
        """
        known = self._last.get(job)
        if known is None or known.seq is None or event.seq is None or event.seq > known.seq:
            return True
        is_end = not isinstance(event, Progress) and not known.is_terminal
        return is_end and event.seq > known.ended and (event.attempt or 0) >= (known.attempt or 0)

    def _remember(self, job: str, event: Event) -> Entry:
        self.position += 1
        # The fields of an event are checked and put in order anew: nothing else of the payload reaches a client.
        frame = text_frame(self._head + event_to_json(event)[1:])
        entry = Entry(event, frame, self.position, self.seq, self._last.get(job))
        if event.seq is None:
            self._unsequenced.pop(job, None)
            self._unsequenced[job] = entry
            if len(self._unsequenced) > MAX_JOBS:
                self._drop_oldest(self._unsequenced)
            return entry
        if self._unsequenced:
            self._unsequenced.pop(job, None)
        self._last.pop(job, None)  # so that it goes to the end
        self._last[job] = entry
        if not self._from:
            self._from = event.seq
        if event.seq > self.seq:
            self.seq = event.seq
        if len(self._last) > MAX_JOBS:
            self._drop_oldest(self._last)
        return entry

    def _drop_oldest(self, entries: dict[str, Entry]) -> None:
        oldest = entries.pop(next(iter(entries)))
        self._from = max(self._from, oldest.seq or 0)
        self._complete_since = max(self._complete_since, oldest.position)

    # What clients are given

    def since(self, position: int) -> bytes:
        """The joined frames of all last events that arrived after `position`, in order of arrival."""
        entries = _newer(self._last, position)
        if self._unsequenced:
            unsequenced = _newer(self._unsequenced, position)
            superseded = self._unsequenced.keys()
            entries = [
                entry for job, entry in self._last.items() if entry.position > position and job not in superseded
            ]
            entries = sorted(entries + unsequenced, key=lambda entry: entry.position)
        return b"".join([entry.frame for entry in entries])

    def catch_up(self, position: int) -> bytes:
        """What a client needs that was given everything up to `position`, and nothing after.

        Where something may be missing for good, `subscribed` says so again, with `recovered` false.
        """
        missed = self.since(position)
        if position >= self._complete_since:
            return missed
        return text_frame(subscribed(self.project_id, self.seq, recovered=False)) + missed

    def replay(self, since: int) -> bytes:
        """The joined frames of the last events that are newer than the seq `since`; those without a seq are left out.

        All of them for a cursor that this project never gave.
        """
        if since > self.seq:
            since = 0
        newer = []
        for entry in reversed(self._last.values()):
            if entry.seen_before < since:
                break
            newer.append(entry)
        newer.sort(key=lambda entry: entry.seq or 0)
        return b"".join([entry.frame for entry in newer])

    def recovers(self, since: int) -> bool:
        """True when nothing that still matters was missed since the seq `since`; always for 0, a beginner's cursor."""
        return since == 0 or self._from <= since <= self.seq


def _is_scripts(payload: bytes) -> bool:
    """Whether publish.lua wrote it, which begins with the seq that it gave; what others number is no cursor here."""
    return payload.startswith(b'{"seq":') and payload[7:8].isdigit()


def _newer(entries: Mapping[str, Entry], position: int) -> list[Entry]:
    """The entries after `position`, found from the end: those who catch up are mostly not far behind."""
    newer = []
    for entry in reversed(entries.values()):  # type: ignore[call-overload]
        if entry.position <= position:
            break
        newer.append(entry)
    newer.reverse()
    return newer


def _whole_number(text: bytes | None) -> int:
    """A number of the hash that can be a seq, or 0 for none: somebody else may have written there."""
    number = int(text) if text is not None and text.isdigit() and len(text) < 17 else 0
    return number if number <= MAX_SEQ else 0

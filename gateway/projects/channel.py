"""One project's last events, and what a client that missed some is given. No I/O, no clock.

Only the last event of each part of a job matters: of the job itself, and of each of its sentences. So the state of a
project is the last event of each part, and a client that missed something, for whatever reason, is given what of it is
newer than its cursor. publisher.job_rules says which events count; an attempt that begins drops what earlier ones left.

There are two kinds of cursor. Clients and Redis know `seq`. Inside a replica the order of arrival counts: it is right
even for an event without a seq (a plain PUBLISH), or with a lower one than the last (after a failover to a server whose
clock is behind). So each event that arrives also gets a `position` in its channel: 1, 2, 3. A slow client's cursor is a
position.

The outline: `receive` takes live events; `read` and `merge` take what Redis remembers. `replay` and
`recovers` serve seqs, `catch_up` serves positions. Both give a piece at a time, and the cursor of the next one.
"""

import json
import sys
from collections.abc import Collection, Generator, Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from gateway.clients.frames import text_frame
from gateway.messages import subscribed
from gateway.projects.entry import Entry, entry_of
from gateway.projects.last_events import Job, LastEvents
from gateway.projects.memory import Memory, Remembered, read_memory
from gateway.projects.usual import read_usual
from publisher.events import Event, event_from_json, event_to_json
from publisher.job_rules import Verdict, judge
from publisher.publication import MAX_JOBS, MAX_PARTS, TIME_TO_LIVE_SECONDS

# Above any event of a publisher. A plain PUBLISH may hold long texts, which are cut. What is longer is not even parsed.
MAX_PAYLOAD_BYTES = 1 << 20
# How long Redis remembers an event at least, as a difference of two seqs (microseconds): publish.lua renews the time to
# live with the first event of a minute only.
_REMEMBERED_FOR = (TIME_TO_LIVE_SECONDS - 60) * 1_000_000


class Cursor(NamedTuple):
    """How far a client was given a project's last events. A client that does not read costs no more than this."""

    position: int
    """It has, or needs, nothing that arrived up to this position."""
    joined: int
    """The position at its `subscribed`: earlier events without a seq are not replayed to it."""
    gap_told: int
    """The highest position of a gap that it was told of, in a `subscribed`."""


class ChannelState(Enum):
    """Whether what a channel holds can be relied on."""

    LOADING = "loading"  # the subscription or the remembered state has not come yet; clients are given nothing
    LIVE = "live"  # every event published from now on arrives


class Channel:
    """The last events of one project and their order, as this replica knows them.

    Lives from the first local subscriber to a little after the last. Used by one event loop only. Invariants: `_last`
    and `_unsequenced` are in order of arrival; a part is in `_unsequenced` only while its newest event has no seq, and
    then in `_last` too if an event with a seq came before.
    """

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        self.state = ChannelState.LOADING
        self.seq = 0
        """The newest seq that was seen."""
        self.position = 0
        """The number of events that have arrived."""
        self.batch_seq: int | None = None
        """The seq of the oldest event of the last batch that `receive` returned."""
        self.bad_payloads = 0
        """The number of payloads that were not events."""
        self.bad_payload_error: ValueError | None = None
        """Why the last of them was not an event; the hub logs it, and sets it to None."""

        # What is complete: seqs for clients that come, positions for those that are here.
        self._from = 0
        """The seq from which on `_last` is complete; 0: from the next event on."""
        self._forgotten_to = 0
        """The highest seq of an event that was forgotten here, to keep the bounds."""
        self._complete_since = 0
        """The position from which on clients have been given everything."""
        self._lacks_until = 0
        """Redis may have forgotten what arrived up to this position; so what it lacks may still be true."""

        # The events.
        self._last = LastEvents()
        """The last event of each part that has a seq."""
        self._unsequenced: dict[str, Entry] = {}
        """Newest events without a seq. They serve this replica's slow clients and are never replayed to others."""
        self._arrived: dict[str, Entry] = {}
        """The last event of each part that arrived while LOADING; they belong behind the state."""
        self._head = b'{"projectId":' + json.dumps(project_id).encode() + b","

        # What the last load was, to judge the next one.
        self._was_loaded = False
        """True after the first `load`."""
        self._memory_id: bytes | None = None
        """The id that Redis' memory had at the last load; None: unknown."""
        self._lost_at: int | None = None
        """When the feed was lost, as a seq; None while it is not lost."""

    # What comes from Redis

    def receive(self, payloads: Iterable[bytes]) -> bytes:
        """Take events as they arrive; return their joined frames, for the clients that keep up.

        While LOADING, the events are kept for `load`, and nothing is returned: a client must not get a cursor above
        something that it missed. A payload that is not an event is counted and dropped.
        """
        frames: list[bytes] = []
        for payload in payloads:
            try:
                entry = read_usual(payload, self._head) or self._read_live(payload)
            except ValueError as error:
                self._on_bad_payload(error)
                continue
            if self.state is ChannelState.LOADING:
                self._arrived.pop(entry.field, None)
                self._arrived[entry.field] = entry
                if len(self._arrived) > MAX_PARTS:
                    self._arrived.pop(next(iter(self._arrived)))
                continue
            if not frames:
                self.batch_seq = entry.seq
            self._take(entry)
            frames.append(entry.frame)
        return b"".join(frames)

    @property
    def jobs(self) -> int:
        """The number of jobs that would be replayed."""
        return self._last.jobs

    @property
    def size_bytes(self) -> int:
        """The size of what would be replayed."""
        return self._last.size_bytes

    def begin_load(self, *, lost_at: int | None = None) -> None:
        """Hold back what arrives, until `load` brings what was missed.

        `lost_at` is when the feed was lost, in microseconds as a seq. Without it the project only moves to another
        shard, and takes its state along.
        """
        self.state = ChannelState.LOADING
        if self._lost_at is None:  # a second loss before the load makes the break longer, not shorter
            self._lost_at = lost_at
        # The next load brings newer events than those that arrived before it began, but none without a seq.
        self._arrived = {field: entry for field, entry in self._arrived.items() if entry.seq is None}

    def merge(self, memory: Memory, *, memory_id: bytes | None = None, now: int = 0) -> None:
        """Merge the project's remembered state, as `read` returned it, and what arrived before it.

        Never replaces a newer event by an older one: after Redis was emptied or failed over, this replica may know
        more than Redis.
        `memory_id` is the random id that Redis keeps for as long as it forgets nothing, None if unknown; `now` is in
        microseconds, as a seq. With both, a state that expired can be told apart from one that was lost.
        """
        may_lack, known_seq = self._may_lack(memory, memory_id, now), self.seq
        if may_lack:
            self._lacks_until = self.position
        if may_lack or self._unsequenced:  # events without a seq are not remembered: some may have been missed
            self._complete_since = self.position + 1
        self._merge_remembered(memory)
        if may_lack and memory.complete_from <= known_seq:  # complete from the next event on
            self._from = 0
        elif may_lack or not known_seq:  # complete from where Redis begins, but for what was too much for this channel
            self._from = max(memory.complete_from, self._forgotten_to)
        self._merge_arrived(memory)
        self.position = max(self.position, self._complete_since)  # a gap counts as an arrival, even if nothing came
        self.state = ChannelState.LIVE
        self._was_loaded, self._memory_id, self._lost_at = True, memory_id, None

    def read(self, remembered: Mapping[bytes, bytes]) -> Generator[None, None, Memory]:
        """Read the hash of publish.lua in steps, and return what `merge` takes. Changes nothing that clients see.

        A large state takes a tenth of a second. Until it is merged, nothing else may be done to the channel.
        """
        return read_memory(remembered, self._read_field, self._on_bad_payload)

    def _read_field(self, field: bytes, payload: bytes) -> Remembered:
        return self._known_part(field, payload) or self._read_part(payload)

    def _on_bad_payload(self, error: ValueError) -> None:
        self.bad_payloads += 1
        self.bad_payload_error = error

    def _known_part(self, field: bytes, payload: bytes) -> Remembered | None:
        """A part whose last event is known here already by its seq, which need not be read; None for any other.

        Such an event is never news, unless it is an end (`_is_news`): after a failover two events may have one seq.
        """
        name = field.decode(errors="replace")
        known = self._last.by_field.get(name)
        if known is None or known.seq is None or not payload.startswith(b'{"seq":%d,' % known.seq):
            return None
        if not known.is_terminal and not payload.startswith(b'"type":"progress",', payload.index(b",") + 1):
            return None
        return Remembered(known.seq, name, known.job_id, None)

    def _read_part(self, payload: bytes) -> Remembered:
        """Raises `ValueError` for what is not an event."""
        entry = read_usual(payload, self._head) or self._entry_of(_event_of(payload))
        return Remembered(entry.seq or 0, entry.field, entry.job_id, entry)

    def _read_live(self, payload: bytes) -> Entry:
        """Raises `ValueError` for what is not an event."""
        event = _event_of(payload)
        if event.seq is not None and not _is_written_by_script(payload):
            event = event.model_copy(update={"seq": None})
        return self._entry_of(event)

    def _entry_of(self, event: Event) -> Entry:
        """Its frame is written anew from the checked fields: nothing else of the payload reaches a client."""
        return entry_of(event, text_frame(self._head + event_to_json(event)[1:]))

    def _may_lack(self, memory: Memory, memory_id: bytes | None, now: int) -> bool:
        """Whether an event that still matters may be in neither this channel nor `memory`.

        This is true if Redis lost something since the last load: it was emptied or trimmed, it came back from an older
        copy, or another server took over without having received everything.
        """
        if not self._was_loaded:
            return False
        if self._knows_newer(memory.parts):
            return True
        if 0 < memory.complete_from <= self.seq <= memory.seq:  # Redis remembers all since the last seq seen here
            return False
        if memory.is_trimmed or 0 < memory.seq < self.seq:
            return True
        # The state is gone, or began anew after the last event that was seen here. That is right if the state expired,
        # or if there was none. Redis forgot everything that is older than this:
        forgotten_before = memory.complete_from or now
        if self.seq and forgotten_before - self.seq < _REMEMBERED_FOR:  # too early to have expired: it was evicted, say
            return True
        if self._lost_at is None:  # a slot takes its keys along when it moves
            return False
        # An event of the break may be gone if Redis was emptied, or if the break was long enough for it to expire.
        is_same_memory = memory_id is not None and memory_id == self._memory_id
        return not is_same_memory or forgotten_before - self._lost_at >= _REMEMBERED_FOR

    def _merge_remembered(self, memory: Memory) -> None:
        for part in memory.parts:
            if part.entry is not None and self._is_news(part.entry):
                self._remember(part.entry, self._last.by_field.get(part.field))
        for job_id, number in memory.numbers.items():
            self._last.set_number(job_id, number)
        # Only now: what an attempt replaces was deleted in Redis, and the order of seq is not that of arrival.
        self._drop_replaced(memory)
        # Not before: half a job may look as if it had ended. And first the jobs that Redis has forgotten already.
        self._forget(unless={part.job_id for part in memory.parts})
        self.seq = max(self.seq, memory.seq)

    def _merge_arrived(self, memory: Memory) -> None:
        arrived, self._arrived = self._arrived, {}
        remembered = {part.field for part in memory.parts}
        for field, entry in arrived.items():
            # Live events win by arrival. Most of them are in the state already.
            known = self._last.by_field.get(field)
            is_known = known is not None and entry.seq == known.seq
            is_replaced = field not in remembered and memory.covers(entry.seq or 0)
            if entry.seq is None or not (is_known or is_replaced):
                self._take(entry)

    def _drop_replaced(self, memory: Memory) -> None:
        """Drop what Redis has deleted of jobs that it knows, and what version 0.1 left there of earlier attempts.

        Only what Redis cannot have forgotten in another way.
        """
        known, remembered = self._last.by_field, {part.field for part in memory.parts}
        for job_id in {known[field].job_id for field in remembered if field in known}:
            job = self._last.by_id.get(job_id)
            assert job is not None
            dropped = []
            for entry in job.entries:
                is_deleted = entry.field not in remembered and memory.covers(entry.seq or 0)
                is_earlier = entry.attempt is not None and entry.attempt < (job.number or 0)
                if is_earlier or (is_deleted and entry.position > self._lacks_until):
                    dropped.append(entry.field)
            self._last.drop(dropped)

    def _knows_newer(self, parts: Iterable[Remembered]) -> bool:
        """Whether Redis forgot an event that it had accepted."""
        known = self._last.by_field
        return any(part.field in known and (known[part.field].seq or 0) > part.seq > 0 for part in parts)

    def _is_news(self, event: Entry) -> bool:
        """Whether a remembered event is newer than the last one known here of its part.

        The seq decides, with one exception: an end in Redis beats a progress here that has a higher seq. A failover to
        a server whose clock is behind lost that progress. The progress wins if it belongs to a later attempt, or to a
        run that began after that very end.
        """
        known = self._last.by_field.get(event.field)
        if known is None or known.seq is None or event.seq is None or event.seq > known.seq:
            return True
        is_end = event.is_terminal and not known.is_terminal
        return is_end and event.seq > known.ended and (event.attempt or 0) >= (known.attempt or 0)

    def _take(self, entry: Entry) -> None:
        """Remember a live event. An attempt that begins drops what earlier ones left.

        None is refused. The script has judged an event with a seq; after a failover that lost writes, Redis may rightly
        accept an earlier attempt than this replica has seen. A plain PUBLISH is delivered as it is. It drops nothing:
        Redis still has everything for clients that come.
        """
        last = self._last
        known = last.by_field.get(entry.field)
        if entry.seq is not None:
            job = last.by_id.get(entry.job_id)
            if judge(None if job is None else job.number, known, entry) is Verdict.BEGINS:
                self._drop_earlier(job, entry)
        if self._remember(entry, known):
            self._forget()

    def _drop_earlier(self, job: Job | None, entry: Entry) -> None:
        """Drop all that earlier attempts of the job left, but for this event's own part: it is about to be replaced."""
        if job is not None:
            self._last.drop([other.field for other in job.entries if other.field != entry.field])
        if self._unsequenced:
            self._unsequenced = {
                field: other for field, other in self._unsequenced.items() if other.job_id != entry.job_id
            }

    def _remember(self, entry: Entry, known: Entry | None) -> bool:
        """Remember an event, the next after `known` of its part. True: something has to be forgotten for it."""
        self.position = position = self.position + 1
        seq, newest = entry.seq, self.seq
        entry.put(position, newest, known)
        if self._unsequenced:
            self._unsequenced.pop(entry.field, None)
        if seq is None:
            self._unsequenced[entry.field] = entry
            if len(self._unsequenced) > MAX_JOBS:
                self._forgot(self._unsequenced.pop(next(iter(self._unsequenced))))
            return False
        if not self._from:
            self._from = max(seq, newest + 1)
        if seq > newest:
            self.seq = seq
        return self._last.put(entry, known)

    def _forget(self, *, unless: Collection[str] = ()) -> None:
        """Keep the bounds."""
        for forgotten in self._last.forget(unless=unless):
            self._forgot(forgotten)

    def _forgot(self, entry: Entry) -> None:
        self._forgotten_to = max(self._forgotten_to, entry.seq or 0)
        self._from = max(self._from, self._forgotten_to)
        self._complete_since = max(self._complete_since, entry.position)

    # What clients get

    @property
    def end(self) -> Cursor:
        """The cursor of a client that has everything up to now."""
        return Cursor(self.position, self.position, 0)

    def replay(self, since: int, most_bytes: int = sys.maxsize) -> tuple[bytes, Cursor | None]:
        """Return the joined frames of last events that are newer than the seq `since`, and the cursor to go on from.

        The cursor is None if these are all. A cursor that this project never gave gets all of them. Events without a
        seq are left out. All are in order of seq. If they do not fit into `most_bytes`, they come in order of arrival;
        that differs after a failover to a server whose clock is behind.
        """
        owed = self._owed(since)
        piece = _cut(owed, most_bytes)
        if len(piece) < len(owed):
            return _joined(piece), Cursor(piece[-1].position, self.position, self._complete_since)
        return _joined(sorted(piece, key=lambda entry: entry.seq or 0)), None

    def replay_bytes(self, since: int) -> int:
        """The size of a whole replay from the seq `since`."""
        return sum([len(entry.frame) for entry in self._owed(since)])

    def _owed(self, since: int) -> list[Entry]:
        return self._last.unseen(since if since <= self.seq else 0)

    def catch_up(self, cursor: Cursor, most_bytes: int = sys.maxsize) -> tuple[bytes, Cursor | None]:
        """Return the joined frames of last events that arrived after the cursor, in order of arrival, and the next one.

        If something may be missing for good, they begin with another `subscribed`, with `recovered` false. The next
        cursor is None if these are all.
        """
        head, gap_told = b"", cursor.gap_told
        if self._complete_since > max(cursor.position, gap_told):
            head, gap_told = text_frame(subscribed(self.project_id, self.seq, recovered=False)), self._complete_since
        missed = self._after(cursor)
        piece = _cut(missed, most_bytes)
        frames = head + _joined(piece)
        if len(piece) == len(missed):
            return frames, None
        return frames, Cursor(piece[-1].position, cursor.joined, gap_told)

    def has_more(self, cursor: Cursor) -> bool:
        """Whether a client at this cursor is owed anything."""
        return cursor.position < self.position

    def _after(self, cursor: Cursor) -> list[Entry]:
        """All last events that arrived after the cursor, in order of arrival."""
        entries = self._last.after(cursor.position)
        if self._unsequenced:
            heard_from = max(cursor.position, cursor.joined)
            raw = {field: entry for field, entry in self._unsequenced.items() if entry.position > heard_from}
            superseded = {self._last.by_field.get(field) for field in raw}
            entries = [entry for entry in entries if entry not in superseded] + list(raw.values())
            entries.sort(key=lambda entry: entry.position)
        return entries

    def recovers(self, since: int) -> bool:
        """Whether a client with the cursor `since` gets everything that still matters. 0 is a new client's cursor."""
        return since == 0 or 0 < self._from <= since <= self.seq


def _cut(entries: list[Entry], most_bytes: int) -> list[Entry]:
    """The first of these entries that fit into `most_bytes`, and at least one, if there is one."""
    size = 0
    for index, entry in enumerate(entries):
        size += len(entry.frame)
        if size > most_bytes and index:
            return entries[:index]
    return entries


def _joined(entries: Iterable[Entry]) -> bytes:
    return b"".join([entry.frame for entry in entries])


def _event_of(payload: bytes) -> Event:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"it has more than {MAX_PAYLOAD_BYTES} bytes")
    return event_from_json(payload)


def _is_written_by_script(payload: bytes) -> bool:
    """Whether publish.lua wrote the payload: it puts the seq first. A seq from elsewhere is not a cursor."""
    return payload.startswith(b'{"seq":') and payload[7:8].isdigit()

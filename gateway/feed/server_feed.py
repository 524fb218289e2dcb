"""The feed of one server: a connection that subscribes, loads remembered states, and is probed to be alive.

Redis answers on a RESP3 connection in the order in which it executes. A project's state is read right behind its
SUBSCRIBE, in the same write. So when the state comes, everything published before it has come too, and everything that
follows is newer.
"""

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from gateway.feed.failed_loads import FailedLoads
from gateway.feed.interfaces import FeedObserver, FeedState, Remembered
from gateway.feed.link import (
    CONNECT_SECONDS,
    MAX_MEMORY_BYTES,
    MAX_MEMORY_FIELDS,
    PLAIN,
    REFUSALS,
    UNMEASURED,
    Expected,
    Load,
    Verbs,
    connection_to,
    end_if_cancelled,
    is_replica,
    pack,
    read_state,
    shape,
    size_questions,
    why_too_large,
)
from gateway.feed.trouble_log import Trouble, TroubleLog
from gateway.operations.counters import FeedCounters
from publisher.names import jobs_key
from publisher.transport.slot_map import decoded

logger = logging.getLogger("gateway.feed")

MOST_LOADS_AT_ONCE = 64  # states on their way at the same time
LOAD_BYTES_AT_ONCE = 4 << 20  # the same in bytes
SILENCE_SECONDS = 1.0  # after that long without an event, the link is probed
# While events arrive, the link is probed this often: a primary that became a replica goes on sending events, those of
# its new primary, but not all of them.
ROLE_SECONDS = 2.0
PROBE_SECONDS = 3.0  # a probe that takes longer means that the link is dead
TICK_SECONDS = 0.25
PROVEN_SECONDS = 5.0  # SILENCE + PROBE + a few ticks: a live link is never silent for longer
RECONNECT_MIN_SECONDS = 0.05
RECONNECT_MAX_SECONDS = 2.0

MEMORY_FIELD = "id"  # the field of the memory's id in its hash

# Why a state is not read, in words.
LOST_TWICE = (
    "the link was lost twice while its state was on its way. Compare the size of its key with "
    "client-output-buffer-limit pubsub; it is tried again later"
)

_NOTHING = object()  # the reader returns it while no reply is complete


class ServerFeed(asyncio.Protocol):
    """The supervised connection to one server. Lives as long as the replica; used by one event loop only.

    Subclasses: `SentinelFeed`, for a primary that can fail over, and `Shard`, for one that can lose slots.
    """

    def __init__(
        self, url: str, observer: FeedObserver, *, probe_channel: str, memory_channel: str, verbs: Verbs = PLAIN
    ) -> None:
        self._url = url
        self._observer = observer
        self._verbs = verbs
        self.probe_channel = probe_channel
        """The Redis channel of this replica's own, to which it publishes its probes."""
        self._probe_name = probe_channel.encode()
        self.memory_channel = memory_channel
        """The id of Redis' memory stands in the hash of this name, as if it were a project's."""
        self._channels: dict[str, None] = {}
        """The Redis channels that the hub wants, with or without a connection. A set that keeps its order."""
        self.state = FeedState.DOWN
        """Changed by `_enter` only."""
        self.counters = FeedCounters()
        self._trouble_log = TroubleLog(url)
        self._live_until: float | None = None
        """When events last came for sure, before the feed was lost."""

        # The connection, while there is one.
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._loop = cast(asyncio.AbstractEventLoop, None)  # set with the link: asking for it costs a system call
        self._expected: deque[Expected] = deque()
        """The answers that Redis owes, in the order of the commands."""
        self._lost = asyncio.Event()
        """Set once the link is given up; `run` does the rest."""
        self.memory_id: bytes | None = None
        """The id of Redis' memory, read at each connect before any state. None: unknown."""
        self._memory_refusal: hiredis.ReplyError | None = None
        """Why Redis refused to write the id; kept until the id is read."""

        # Redis channels on their way in or out.
        self._wanted: dict[str, None] = {}
        """Those still to be subscribed."""
        self._loads: dict[str, Load] = {}
        """Those whose state is on its way, with the one load that counts.

        If a Redis channel was let go and wanted again, answers to two come. The first belongs to a subscription that
        has ended.
        """
        self._measured: deque[Load] = deque()
        """The loads whose state is still to be asked for."""
        self._load_bytes = 0
        """The size of all states that were asked for and have not come."""
        self._unmeasured: set[str] = set()
        """The questions for a size that Redis does not answer to this user, by their command."""
        self._failed_loads = FailedLoads()
        """The states that earlier links did not survive."""
        self._memory_load: Load | None = None
        """The load of the memory's id, until it has come."""
        self._unwanted: list[str] = []
        """Those still to be unsubscribed."""
        self._flush_scheduled = False

        # Proof of life, by the loop's clock.
        self._proven_at = float("-inf")
        """When the last event or probe came."""
        self._probe_sent_at: float | None = None
        """When the probe on its way was sent; None if there is none."""
        self._probed_at = float("-inf")
        """When the last probe was sent."""
        self._probe_clock = 0.0
        """The same moment by a finer clock."""

    # What the hub asks for

    def subscribe(self, redis_channel: str) -> None:
        """Subscribe and load. `on_loaded` or `on_refused` follows; if the feed is down, once it is back."""
        self._channels[redis_channel] = None
        self._failed_loads.try_again(redis_channel)
        if self._transport is not None:
            self._wanted[redis_channel] = None
            self._schedule_flush()

    def unsubscribe(self, redis_channel: str) -> None:
        """Unsubscribe from a Redis channel. Nothing more of it is handed on."""
        if self._channels.pop(redis_channel, "unknown") == "unknown":  # it was refused before it was asked for
            return
        self._loads.pop(redis_channel, None)
        if self._wanted.pop(redis_channel, "sent") == "sent" and self._transport is not None:
            self._unwanted.append(redis_channel)
            self._schedule_flush()

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        """Call `then` once all that was published before now has been handed on; never, if the link is lost first."""
        if self._transport is not None:
            self._write(self._command(Expected("ping", then=lambda _: then()), "PING"))

    @property
    def is_proven(self) -> bool:
        """True if an event or a probe was received within the last few seconds."""
        return self.state is FeedState.LIVE and asyncio.get_running_loop().time() - self._proven_at < PROVEN_SECONDS

    @property
    def lost_seconds(self) -> float | None:
        """How long events have surely not arrived: 0 while they arrive, None if they never did."""
        if self.is_proven:
            return 0.0
        until = self._proven_at if self.state is FeedState.LIVE else self._live_until
        return None if until is None else asyncio.get_running_loop().time() - until

    @property
    def trouble(self) -> Trouble | None:
        """What an operator should know now; None if all is well."""
        return self._trouble_log.trouble(is_lost=not self.is_proven, now=asyncio.get_running_loop().time())

    # Supervision

    async def run(self) -> None:
        """Connect, watch, and connect again, until cancelled."""
        try:
            while True:
                try:
                    await self._connect()
                    end_if_cancelled()
                    await self._watch()
                except (RedisError, OSError, TimeoutError) as error:
                    self._fail(error)
                except Exception as error:
                    # A bug, or an error of redis-py, if the server is not a Redis. The replica must survive both.
                    self._fail(error)
                    logger.debug("Unexpected", exc_info=True)
                end_if_cancelled()
                self._disconnect()
                self._enter(FeedState.DOWN)
                self._refuse_guilty()
                # Full jitter, so that replicas do not come back in step.
                bound = min(RECONNECT_MAX_SECONDS, RECONNECT_MIN_SECONDS * 2 ** min(self._trouble_log.failures, 10))
                await asyncio.sleep(random.uniform(0, bound))  # noqa: S311
        finally:
            self._disconnect()
            self._enter(FeedState.CLOSED)

    async def _connect(self) -> None:
        """Let redis-py open the connection (TLS, password, protocol), then take over its transport."""
        connection = connection_to(await self._server_url())
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            connection._close()  # type: ignore[no-untyped-call]
            raise
        writer = connection._writer
        assert writer is not None
        self._connection, self._transport = connection, cast(asyncio.Transport, writer.transport)
        self._begin(self._transport)

    def _begin(self, transport: asyncio.Transport) -> None:
        """Ask on a new link for everything that the hub wants."""
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._expected.clear()
        self._loads.clear()
        self._measured.clear()
        self._unmeasured.clear()
        self._load_bytes = 0
        self._unwanted.clear()
        self._lost.clear()
        self.memory_id = self._memory_load = None
        transport.set_protocol(self)
        self._enter(FeedState.LOADING)
        self._read_memory()
        self._subscribe_to_probe()
        self._wanted = dict.fromkeys(self._channels)
        self._flush()

    async def _server_url(self) -> str:
        """The URL of the server."""
        return self._url

    async def _watch(self) -> None:
        """Return when the link is lost, or when it was silent and a probe did not come back."""
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                self._check_silence(asyncio.get_running_loop().time())

    def _check_silence(self, now: float) -> None:
        if self._probe_sent_at is not None:
            if now - self._probe_sent_at > PROBE_SECONDS:
                self._blame_loads()
                self._fail(TimeoutError(f"no probe came back within {PROBE_SECONDS:g} s"))
        # Probe also while an answer is missing: on a link that brings events but takes no commands, subscribers would
        # wait for ever.
        elif self._expected or now - self._proven_at > SILENCE_SECONDS or now - self._probed_at > ROLE_SECONDS:
            self._send_probe()

    def _subscribe_to_probe(self) -> None:
        subscribe = self._verbs.subscribe
        self._write(self._command(Expected(subscribe, self.probe_channel), subscribe, self.probe_channel))
        self._send_probe()

    def _read_memory(self) -> None:
        """Read the id of Redis' memory, and write a random one first where there is none.

        All states are read after it. A server that still loads its data answers with an error, and is not called live.
        Its size is asked for first, as that of a state: anybody may have written to the hash.
        """
        key, value = jobs_key(self.memory_channel), (self.memory_id or secrets.token_hex(8).encode()).decode()
        self._write(self._command(Expected("write memory", key), "HSETNX", key, MEMORY_FIELD, value))
        if self._failed_loads.is_guilty(self.memory_channel):
            self._failed_loads.try_again(self.memory_channel)  # on the next link
            self._leave_out(key, LOST_TWICE)
            return
        self._memory_load = Load("memory", self.memory_channel)
        self._write(b"".join(self._measure(self._memory_load)))

    def _send_probe(self) -> None:
        """Publish to our own Redis channel. The event's return proves that events arrive, which a PING would not.

        A server that became a replica also sends our probe back. But it sends no other events if it cannot reach its
        primary. So we ask for its role: the answer to HELLO contains it, and every user may send HELLO.
        """
        self._probe_sent_at = self._probed_at = asyncio.get_running_loop().time()
        self._probe_clock = time.perf_counter()
        self._write(self._command(Expected("hello"), "HELLO", "3"))
        self._write(self._command(Expected("probe", self.probe_channel), self._verbs.publish, self.probe_channel, ""))

    def _fail(self, error: Exception) -> None:
        """Give up the link; `run` does the rest."""
        self._trouble_log.failed(error, asyncio.get_running_loop().time())
        self._lost.set()

    def _blame_loads(self) -> None:
        """The link is lost, perhaps because of a state that was on its way."""
        if not self._lost.is_set():
            loads = [*self._loads.values(), *([self._memory_load] if self._memory_load is not None else [])]
            self._failed_loads.lost(load.redis_channel for load in loads if load.is_sent)

    def _refuse_guilty(self) -> None:
        """Refuse the projects whose state cost the link twice, so that the others are rid of them."""
        for redis_channel in [name for name in self._channels if self._failed_loads.is_guilty(name)]:
            del self._channels[redis_channel]
            self._leave_out(redis_channel, LOST_TWICE)
            self._observer.on_refused(redis_channel)

    def _leave_out(self, name: str, why: str) -> None:
        self._trouble_log.left_out(name, ValueError(why), asyncio.get_running_loop().time())

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._connection is not None:
            # redis-py's own way to close would wait for the reader that we replaced.
            self._connection._reader = self._connection._writer = None
        self._transport = self._connection = None

    def _enter(self, state: FeedState) -> None:
        before, self.state = self.state, state
        if before is FeedState.LIVE:
            self._live_until = self._proven_at
        if state is FeedState.LIVE:
            self._trouble_log.live(asyncio.get_running_loop().time())
            self._observer.on_live()
        elif state is FeedState.DOWN and before is not FeedState.DOWN:
            self.counters.reconnects[self._trouble_log.meaning] += 1
            self._observer.on_lost(list(self._channels))

    # What is sent

    def _command(self, expected: Expected, *words: str) -> bytes:
        self._expected.append(expected)
        return pack(*words)

    def _write(self, commands: bytes) -> None:
        # Until `run` has its turn, a lost connection is still here. uvloop's transport raises when it is written to,
        # and a client that subscribes at that moment would get the error.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(commands)

    def _schedule_flush(self) -> None:
        """Everything that is asked for in one turn of the loop goes out in one write."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        subscribe, commands = self._verbs.subscribe, self._unsubscribe_commands()
        while self._wanted and len(self._loads) < MOST_LOADS_AT_ONCE:
            redis_channel = next(iter(self._wanted))
            del self._wanted[redis_channel]
            self._loads[redis_channel] = load = Load("load", redis_channel)
            commands.append(self._command(Expected(subscribe, redis_channel), subscribe, redis_channel))
            commands += self._measure(load)
        commands += self._measured_commands()
        if commands:
            self._write(b"".join(commands))

    def _measure(self, load: Load) -> list[bytes]:
        """Ask for the size of a state, which is asked for once that is known."""
        questions = [
            words for words in size_questions(jobs_key(load.redis_channel)) if words[0] not in self._unmeasured
        ]
        load.unanswered = len(questions)
        if not questions:
            self._measured.append(load)
        return [
            self._command(Expected(load.kind, load.redis_channel, partial(self._on_size, load, words[0]), load), *words)
            for words in questions
        ]

    def _measured_commands(self) -> list[bytes]:
        """Ask for as many states as may be on their way at once.

        Answers that we have not read count against Redis' limit for a pub/sub client (32 MB by default); above it,
        Redis cuts us off. And live events wait behind them.
        """
        commands = []
        while self._measured:
            load = self._measured[0]
            weight = self._weight_of(load)
            if self._load_bytes and self._load_bytes + weight > LOAD_BYTES_AT_ONCE:
                break
            self._measured.popleft()
            if self._counts(load):
                load.is_sent = True
                load.weight = weight
                self._load_bytes += weight
                expected = Expected(load.kind, load.redis_channel, partial(self._on_state, load), load)
                commands.append(self._command(expected, "HGETALL", jobs_key(load.redis_channel)))
        return commands

    def _weight_of(self, load: Load) -> int:
        """The bytes that a state counts for. One of unknown size, or one that may have cost a link, goes alone."""
        if load.fields == 0:
            return 1
        is_alone = load.size is None or self._failed_loads.is_suspect(load.redis_channel)
        return LOAD_BYTES_AT_ONCE if is_alone else max(load.size or 0, 1)

    def _counts(self, load: Load) -> bool:
        """False for the load of a subscription that has ended."""
        return load.kind == "check" or load is self._memory_load or self._loads.get(load.redis_channel) is load

    def _unsubscribe_commands(self) -> list[bytes]:
        unwanted, self._unwanted = self._unwanted, []
        verb = self._verbs.unsubscribe
        return [self._command(Expected(verb, name), verb, name) for name in unwanted]

    # What arrives

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            self._read_replies()
        except hiredis.HiredisError as error:
            self._blame_loads()
            self._fail(error)
        except Exception as error:  # an answer of an odd type. To check each would make events cost more
            self._blame_loads()
            self._fail(hiredis.ProtocolError(f"the answer makes no sense: {type(error).__name__}"))
            logger.debug("Unexpected", exc_info=True)
        if (self._wanted or self._measured) and not self._lost.is_set():
            self._flush()
        if self.state is FeedState.LOADING and not self._lost.is_set():
            is_loaded = not self._wanted and not self._loads and self._probe_sent_at is None
            if is_loaded:
                self._enter(FeedState.LIVE)

    def connection_lost(self, exc: Exception | None) -> None:
        # For a connection that was given up, this call comes late: another may be in use.
        if self._transport is not None and self._transport.is_closing() and not self._lost.is_set():
            self._blame_loads()
            self._fail(exc or ConnectionResetError("it closed the connection"))

    def _read_replies(self) -> None:
        next_reply, message = self._reader.gets, self._verbs.message
        events: dict[bytes, list[bytes]] = {}
        while (reply := next_reply()) is not _NOTHING:
            is_push = type(reply) is hiredis.PushNotification
            if is_push and len(reply) == 3:
                kind, name, payload = reply
                if kind == message and type(payload) is bytes:
                    events.setdefault(name, []).append(payload)
                    continue
            # Keep the order in which Redis sent events and answers: a state holds every event before it.
            self._hand_on(events)
            events = {}
            if is_push:
                self._on_push(reply)
            else:
                self._on_answer(reply)
            if self._lost.is_set():
                return  # the rest belongs to a link that was given up
        self._hand_on(events)

    def _hand_on(self, events: dict[bytes, list[bytes]]) -> None:
        if events:
            self._proven_at = self._loop.time()
            if self._probe_sent_at is not None and events.pop(self._probe_name, None) is not None:
                self._probe_sent_at = None
                self.counters.probe.observe(time.perf_counter() - self._probe_clock)
            self._observer.on_events(events)

    def _on_push(self, push: list[Any]) -> None:
        """The answer to SUBSCRIBE and UNSUBSCRIBE is a push."""
        if len(push) != 3 or not self._expected or self._expected.popleft().kind != decoded(push[0]).upper():
            raise hiredis.ProtocolError(f"an unexpected push: {shape(push)}")

    def _on_answer(self, answer: Any) -> None:
        if not self._expected:
            raise hiredis.ProtocolError(f"an unexpected answer: {shape(answer)}")
        expected = self._expected.popleft()
        if expected.load is not None and expected.load.is_sent:
            self._load_bytes -= expected.load.weight
        if isinstance(answer, hiredis.ReplyError):
            self._on_error(expected, answer)
        elif expected.kind == "hello" and is_replica(answer):
            self._on_replica()
        elif expected.then is not None:
            expected.then(answer)

    def _on_replica(self) -> None:
        self._fail(ConnectionResetError("it is a replica"))

    def _on_error(self, expected: Expected, error: hiredis.ReplyError) -> None:
        """Go on with the other projects if Redis refuses one; give up the link for any other error."""
        is_refusal = str(error).startswith(REFUSALS)
        if expected.load is not None and not expected.load.is_sent and str(error).startswith(UNMEASURED):
            if expected.then is not None:
                expected.then(error)
        elif expected.kind == "write memory":
            self._on_memory_refused(error)
        elif expected.kind == "memory" and is_refusal:
            self._on_memory({}, error)
        elif not is_refusal or expected.redis_channel in ("", self.probe_channel):
            self._fail(error)
        else:
            self._refused(expected.kind.lower(), expected.redis_channel, error)
            if expected.kind == "load" and expected.load is not None:
                self._on_state(expected.load, {})  # live events arrive all the same
            elif expected.kind == self._verbs.subscribe and self._loads.pop(expected.redis_channel, None) is not None:
                self._observer.on_refused(expected.redis_channel)

    def _refused(self, what: str, name: str, error: hiredis.ReplyError) -> None:
        self._trouble_log.refused(what, name, error, asyncio.get_running_loop().time())

    def _on_memory_refused(self, error: hiredis.ReplyError) -> None:
        if str(error).startswith("READONLY"):
            self._on_replica()
        self._memory_refusal = error

    def _on_memory(self, state: Remembered, refusal: hiredis.ReplyError | None = None) -> None:
        """Take the id of Redis' memory. If this replica may not write it, the id of another replica is used.

        If Redis' memory is full, the id counts as unknown: publish.lua then sends events that it cannot remember.
        """
        self._memory_load = None
        refusal, self._memory_refusal = self._memory_refusal or refusal, None
        is_full = refusal is not None and str(refusal).startswith("OOM")
        self.memory_id = None if is_full else state.get(MEMORY_FIELD.encode())
        if self.memory_id is None and refusal is not None:
            self._refused("keep", jobs_key(self.memory_channel), refusal)

    def _on_size(self, load: Load, question: str, answer: Any) -> None:
        if isinstance(answer, hiredis.ReplyError) and "command" in str(answer):  # not about this key alone
            self._unmeasured.add(question)
        if type(answer) is int and question == "HLEN":
            load.fields = answer
        elif type(answer) is int or (answer is None and load.fields == 0):
            load.size = answer or 0
        load.unanswered -= 1
        if load.unanswered or not self._counts(load):
            return
        if load is self._memory_load:
            self._on_memory_size(load)
        elif why := why_too_large(load.fields, load.size):
            self._loads.pop(load.redis_channel, None)
            self._leave_out(load.redis_channel, why)
            self._observer.on_refused(load.redis_channel)
        else:
            self._measured.append(load)

    def _on_memory_size(self, load: Load) -> None:
        if why := why_too_large(load.fields, load.size, MAX_MEMORY_FIELDS, MAX_MEMORY_BYTES):
            self._leave_out(jobs_key(load.redis_channel), why)
            self._on_memory({})
        else:
            self._measured.append(load)

    def _on_state(self, load: Load, answer: Any) -> None:
        state = read_state(answer)
        if load is self._memory_load:
            self._failed_loads.loaded(load.redis_channel)
            self._on_memory(state)
        elif self._counts(load):
            self._failed_loads.loaded(load.redis_channel)
            del self._loads[load.redis_channel]
            self._observer.on_loaded(load.redis_channel, state, self.memory_id)

"""The Redis side of a replica: one connection that subscribes, loads remembered states, and is proven to be alive.

Everything goes over one RESP3 connection, on which Redis answers in the order in which it executes. So when the answer
to `HGETALL` comes, everything published before it has come too, and everything after it is newer: a project's state is
read right behind its SUBSCRIBE, in the same write, with nothing to be merged but what has no seq.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from gateway.counters import FeedCounters
from gateway.feed.link import (
    CONNECT_SECONDS,
    PLAIN,
    REFUSALS,
    Expected,
    Verbs,
    connection_to,
    end_if_cancelled,
    is_replica,
    pack,
    read_state,
)
from gateway.feed.observer import FeedObserver, FeedState, Remembered
from gateway.feed.outage_log import OutageLog, Trouble
from publisher.names import jobs_key
from publisher.transport.slot_map import decoded

logger = logging.getLogger("gateway.feed")

MOST_LOADS_AT_ONCE = 64  # states that are asked for before their answers have come
LOAD_BYTES_AT_ONCE = 4 << 20
FIRST_LOAD_BYTES = 512 << 10  # the guess before the first state has come
SILENCE_SECONDS = 1.0  # without an event; then the link is asked to prove itself
ROLE_SECONDS = 2.0  # also while events come: a primary that was made a replica repeats those of its primary, with holes
PROBE_SECONDS = 3.0  # a probe that takes longer means that the link is dead
TICK_SECONDS = 0.25
PROVEN_SECONDS = 5.0  # SILENCE + PROBE + a few ticks: a live link is never silent for longer
RECONNECT_MIN_SECONDS = 0.05
RECONNECT_MAX_SECONDS = 2.0

_NOTHING = object()  # what the reader returns when no whole reply is there


class ServerFeed(asyncio.Protocol):
    """The supervised connection to one server. Lives as long as the replica; used by one event loop only.

    `SentinelFeed` and `ShardFeed` are for a server that may be another one tomorrow, and for one that may lose channels
    to another.
    """

    def __init__(self, url: str, observer: FeedObserver, *, probe_channel: str, verbs: Verbs = PLAIN) -> None:
        self._url = url
        self._observer = observer
        self._verbs = verbs
        self.probe_channel = probe_channel
        self._probe_name = probe_channel.encode()
        self._channels: dict[str, None] = {}  # what is asked for, whether there is a connection or not
        self.state = FeedState.DOWN  # only `_enter` changes it
        self.counters = FeedCounters()
        self._outage_log = OutageLog(url)
        self._live_until: float | None = None  # when events last came for sure, before the feed was lost
        # The connection, while there is one.
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._expected: deque[Expected] = deque()
        self._lost = asyncio.Event()
        # Channels that are to be subscribed, and those whose state is on its way. A channel that was let go and wanted
        # again has two answers coming: only the one that stands here counts, since the first belongs to a subscription
        # that has ended.
        self._wanted: dict[str, None] = {}
        self._loads: dict[str, Expected] = {}
        self._load_bytes = FIRST_LOAD_BYTES  # a guess at the size of the next state: the largest of late
        self._unwanted: list[str] = []
        self._flush_scheduled = False
        # Proof of life: when an event or a probe came last, and when the probe was sent that has not come back.
        self._proven_at = float("-inf")
        self._probe_sent_at: float | None = None
        self._probed_at = float("-inf")
        self._probe_clock = 0.0  # the same moment by a finer clock

    # What the hub asks for

    def subscribe(self, redis_channel: str) -> None:
        """Subscribe and load; `on_loaded` or `on_refused` follows, from a feed that is down later."""
        self._channels[redis_channel] = None
        if self._transport is not None:
            self._wanted[redis_channel] = None
            self._schedule_flush()

    def unsubscribe(self, redis_channel: str) -> None:
        """Let go of a channel; nothing more of it is handed on."""
        self._channels.pop(redis_channel, None)
        self._loads.pop(redis_channel, None)
        if self._wanted.pop(redis_channel, "sent") == "sent" and self._transport is not None:
            self._unwanted.append(redis_channel)
            self._schedule_flush()

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        """Call `then` once all that was published before now has been handed on; never, if the link is lost before."""
        if self._transport is not None:
            self._write(self._command(Expected("ping", then=lambda _: then()), "PING"))

    @property
    def is_proven(self) -> bool:
        """True if an event or a probe was received within the last few seconds."""
        return self.state is FeedState.LIVE and asyncio.get_running_loop().time() - self._proven_at < PROVEN_SECONDS

    @property
    def lost_seconds(self) -> float | None:
        """For how long it is not sure that events arrive: 0 while it is, None if they never did."""
        if self.is_proven:
            return 0.0
        until = self._proven_at if self.state is FeedState.LIVE else self._live_until
        return None if until is None else asyncio.get_running_loop().time() - until

    @property
    def trouble(self) -> Trouble | None:
        """What an operator is to know now; None if all is well."""
        return self._outage_log.trouble(is_lost=not self.is_proven, now=asyncio.get_running_loop().time())

    # Supervision

    async def run(self) -> None:
        """Connect, watch, and connect again, for ever; ends by cancellation."""
        try:
            while True:
                try:
                    await self._connect()
                    end_if_cancelled()
                    await self._watch()
                except (RedisError, OSError, TimeoutError) as error:
                    self._fail(error)
                except Exception as error:
                    # redis-py's, of a server that is no Redis, or a bug: the replica must come back from both.
                    self._fail(error)
                    logger.debug("Unexpected", exc_info=True)
                end_if_cancelled()
                self._disconnect()
                self._enter(FeedState.DOWN)
                # Full jitter, so that replicas do not come back in step.
                bound = min(RECONNECT_MAX_SECONDS, RECONNECT_MIN_SECONDS * 2 ** min(self._outage_log.failures, 10))
                await asyncio.sleep(random.uniform(0, bound))  # noqa: S311
        finally:
            self._disconnect()
            self._enter(FeedState.CLOSED)

    async def _connect(self) -> None:
        """Let redis-py open the connection (TLS, passwords, version), then take its transport over."""
        connection = connection_to(await self._place())
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
        """Ask on a new link for all that is asked for."""
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._expected.clear()
        self._loads.clear()
        self._unwanted.clear()
        self._lost.clear()
        transport.set_protocol(self)
        self._enter(FeedState.LOADING)
        self._subscribe_to_probe()
        self._wanted = dict.fromkeys(self._channels)
        self._flush()

    async def _place(self) -> str:
        """The URL of the server."""
        return self._url

    async def _watch(self) -> None:
        """Return when the link is lost, or when it was silent and did not bring a probe back."""
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                self._check_silence(asyncio.get_running_loop().time())

    def _check_silence(self, now: float) -> None:
        if self._probe_sent_at is not None:
            if now - self._probe_sent_at > PROBE_SECONDS:
                self._fail(TimeoutError(f"no probe came back within {PROBE_SECONDS:g} s"))
        # A link may bring events and take no commands any more: then who subscribes would wait for ever.
        elif self._expected or now - self._proven_at > SILENCE_SECONDS or now - self._probed_at > ROLE_SECONDS:
            self._send_probe()

    def _subscribe_to_probe(self) -> None:
        subscribe = self._verbs.subscribe
        self._write(self._command(Expected(subscribe, self.probe_channel), subscribe, self.probe_channel))
        self._look()
        self._send_probe()

    def _look(self) -> None:
        """Read what is nowhere: a server that still loads its data is found out before it is called live."""
        self._write(self._command(Expected("look", self.probe_channel), "HGETALL", jobs_key(self.probe_channel)))

    def _send_probe(self) -> None:
        """Publish to a channel of our own: its return proves that events arrive, which a PING would not.

        Not so at a server that was made a replica: it brings its own, and nothing else once its primary is out of
        reach. HELLO tells, which every user may say.
        """
        self._probe_sent_at = self._probed_at = asyncio.get_running_loop().time()
        self._probe_clock = time.perf_counter()
        self._write(self._command(Expected("hello"), "HELLO", "3"))
        self._write(self._command(Expected("publish", self.probe_channel), self._verbs.publish, self.probe_channel, ""))

    def _fail(self, error: Exception) -> None:
        """Give the link up; `run` does the rest."""
        self._outage_log.failed(error, asyncio.get_running_loop().time())
        self._lost.set()

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._connection is not None:
            # It opened the connection for us; its own way to close would wait for the reader that we replaced.
            self._connection._reader = self._connection._writer = None
        self._transport = self._connection = None

    def _enter(self, state: FeedState) -> None:
        before, self.state = self.state, state
        if before is FeedState.LIVE:
            self._live_until = self._proven_at
        if state is FeedState.LIVE:
            self._outage_log.live(asyncio.get_running_loop().time())
            self._observer.on_live()
        elif state is FeedState.DOWN and before is not FeedState.DOWN:
            self.counters.reconnects[self._outage_log.meaning] += 1
            self._observer.on_lost(list(self._channels))

    # What is sent

    def _command(self, expected: Expected, *words: str) -> bytes:
        self._expected.append(expected)
        return pack(*words)

    def _write(self, commands: bytes) -> None:
        # Until `run` has its turn, a connection that was lost is still here; uvloop's raises when it is written to, and
        # a client that subscribes in that moment would pay for it.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(commands)

    def _schedule_flush(self) -> None:
        """All that is asked for in one turn of the loop goes out in one write."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        subscribe, commands = self._verbs.subscribe, self._unsubscribe_commands()
        # Answers that are not read yet count against Redis' limit for a pub/sub client (32 MB by default), above
        # which it would cut us off; and live events wait behind them.
        most = max(1, min(MOST_LOADS_AT_ONCE, LOAD_BYTES_AT_ONCE // self._load_bytes))
        while self._wanted and len(self._loads) < most:
            redis_channel = next(iter(self._wanted))
            del self._wanted[redis_channel]
            self._loads[redis_channel] = load = Expected("load", redis_channel)
            commands.append(self._command(Expected(subscribe, redis_channel), subscribe, redis_channel))
            commands.append(self._command(load, "HGETALL", jobs_key(redis_channel)))
        if commands:
            self._write(b"".join(commands))

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
            self._fail(error)
        except Exception as error:  # a word of a type that no Redis says there: asked for each, events would cost more
            self._fail(hiredis.ProtocolError(f"what came makes no sense: {error!r:.80}"))
            logger.debug("Unexpected", exc_info=True)
        if self._wanted and not self._lost.is_set():
            self._flush()
        is_loaded = not self._wanted and not self._loads and self._probe_sent_at is None
        if self.state is FeedState.LOADING and is_loaded and not self._lost.is_set():
            self._enter(FeedState.LIVE)

    def connection_lost(self, exc: Exception | None) -> None:
        # The call for a connection that was given up already comes late, when another may be in use.
        if self._transport is not None and self._transport.is_closing() and not self._lost.is_set():
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
            # Answers and events are handled in the order in which Redis gave them: a state holds what came before it.
            self._hand_on(events)
            events = {}
            if is_push:
                self._on_push(reply)
            else:
                self._on_answer(reply)
            if self._lost.is_set():
                return  # what follows belongs to a link that was given up
        self._hand_on(events)

    def _hand_on(self, events: dict[bytes, list[bytes]]) -> None:
        if events:
            self._proven_at = asyncio.get_running_loop().time()
            if self._probe_sent_at is not None and events.pop(self._probe_name, None) is not None:
                self._probe_sent_at = None
                self.counters.probe.observe(time.perf_counter() - self._probe_clock)
            self._observer.on_events(events)

    def _on_push(self, push: list[Any]) -> None:
        """SUBSCRIBE and UNSUBSCRIBE have no answer but this."""
        if len(push) != 3 or not self._expected or self._expected.popleft().kind != decoded(push[0]).upper():
            raise hiredis.ProtocolError(f"a push that was not asked for: {push!r:.80}")

    def _on_answer(self, answer: Any) -> None:
        if not self._expected:
            raise hiredis.ProtocolError(f"an answer that was not asked for: {answer!r:.80}")
        expected = self._expected.popleft()
        if isinstance(answer, hiredis.ReplyError):
            self._on_error(expected, answer)
        elif expected.kind == "load":
            self._on_state(expected, read_state(answer))
        elif expected.kind == "hello" and is_replica(answer):
            self._on_replica()
        elif expected.then is not None:
            expected.then(answer)

    def _on_replica(self) -> None:
        self._fail(ConnectionResetError("it is a replica"))

    def _on_error(self, expected: Expected, error: hiredis.ReplyError) -> None:
        """A Redis that refuses one project goes on with the others; for any other error the link is given up."""
        is_of_one = expected.kind == "look" or expected.redis_channel not in ("", self.probe_channel)
        if not is_of_one or not str(error).startswith(REFUSALS):
            self._fail(error)
            return
        if expected.kind == "look":  # the projects' own states may be another matter
            return
        self._outage_log.refused(
            expected.kind.lower(), expected.redis_channel, error, asyncio.get_running_loop().time()
        )
        if expected.kind == "load":
            self._on_state(expected, {})  # live events can be had all the same
        elif expected.kind == self._verbs.subscribe and self._loads.pop(expected.redis_channel, None) is not None:
            self._observer.on_refused(expected.redis_channel)

    def _on_state(self, expected: Expected, state: Remembered) -> None:
        if self._loads.get(expected.redis_channel) is expected:
            del self._loads[expected.redis_channel]
            self._load_bytes = max(sum(map(len, state.values())), self._load_bytes * 3 // 4, 1)
            self._observer.on_loaded(expected.redis_channel, state)

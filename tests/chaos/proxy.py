"""A TCP proxy between a replica and its Redis, which can do what networks do."""

import asyncio
import random
import time
from enum import Enum

CHUNK_BYTES = 1 << 16
WAITING_CHUNKS = 4_096  # of one direction, while it is frozen or slow; then nothing more is read
SMALLEST_CUT_BYTES = 8  # a piece that is shorter has no middle worth the name


class Direction(Enum):
    TO_REDIS = "to_redis"
    FROM_REDIS = "from_redis"


class Line:
    """One connection through the proxy. Lives until either end closes it, or `cut`."""

    def __init__(self, inside: asyncio.StreamWriter, outside: asyncio.StreamWriter) -> None:
        self.writers = (inside, outside)
        # A direction whose bytes get lost stays so for ever: with a hole in it, the stream is worth nothing any more.
        self.lost: set[Direction] = set()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Lives as long as its replica may be started; used by one event loop only."""

    def __init__(self, redis_port: int, dice: random.Random) -> None:
        self.port = 0
        self._redis_port = redis_port
        self._dice = dice
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[Line] = set()
        # The weather.
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay_seconds = 0.0
        self._losing: set[Direction] = set()
        self._truncations = 0

    async def start(self) -> None:
        """Take connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What can be done to it

    def cut(self) -> None:
        """Both directions of every connection end at once; new ones are taken."""
        for line in list(self._lines):
            line.cut()

    def refuse(self) -> None:
        """Cut, and refuse what comes until `start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def freeze(self) -> None:
        """Connections are taken and kept, and nothing is forwarded until `thaw`."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def delay(self, seconds: float) -> None:
        """Each direction takes so long; 0 ends it."""
        self._delay_seconds = seconds

    def lose(self, direction: Direction) -> None:
        """Bytes of this direction get lost, an end of the connection too, and new connections fare no better."""
        self._losing.add(direction)
        for line in self._lines:
            line.lost.add(direction)

    def find(self, direction: Direction) -> None:
        """New connections lose nothing any more. Those which have lost something do so for ever, and nobody is told."""
        self._losing.discard(direction)

    def truncate(self, times: int) -> None:
        """Cut in the middle of what Redis says next, and of what it says on the connections after that."""
        self._truncations = times

    def lift(self) -> None:
        """Good weather, but for `refuse`."""
        self._truncations = 0
        self._losing.clear()
        self.delay(0)
        self.thaw()

    # What flows

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, inside_reader: asyncio.StreamReader, inside: asyncio.StreamWriter) -> None:
        try:
            outside_reader, outside = await asyncio.open_connection("127.0.0.1", self._redis_port)
        except OSError:
            inside.transport.abort()
            return
        line = Line(inside, outside)
        line.lost |= self._losing
        self._lines.add(line)
        try:
            await asyncio.gather(
                self._carry(line, Direction.TO_REDIS, inside_reader, outside),
                self._carry(line, Direction.FROM_REDIS, outside_reader, inside),
            )
        except OSError:
            pass
        finally:
            self._lines.discard(line)
            line.cut()

    async def _carry(
        self, line: Line, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One direction of a connection, until its end; raises `OSError` where both directions are to end."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_CHUNKS)
        sending = asyncio.create_task(self._send(line, direction, waiting, writer))
        try:
            data = b"-"
            while data:
                try:
                    data = await reader.read(CHUNK_BYTES)
                except ConnectionError:
                    data = b""
                await waiting.put((time.monotonic() + self._delay_seconds, data))
            await sending
        finally:
            sending.cancel()

    async def _send(
        self,
        line: Line,
        direction: Direction,
        waiting: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._flows.wait()
            if direction in line.lost:
                if not data:
                    return  # the other end does not learn of it
                continue
            if not data:
                raise ConnectionResetError("an end closed it")
            if direction is Direction.FROM_REDIS and self._truncations and len(data) >= SMALLEST_CUT_BYTES:
                self._truncations -= 1
                writer.write(data[: self._dice.randrange(1, len(data) - 1)])
                await writer.drain()
                line.cut()  # both readers see the end, and `_serve` does the rest
                raise ConnectionResetError("truncated")
            writer.write(data)
            await writer.drain()

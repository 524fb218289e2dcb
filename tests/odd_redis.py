"""A server that speaks Redis' protocol and says what no Redis would, or what only an odd one does."""

import socketserver
import threading
from collections.abc import Callable
from io import BufferedIOBase

Word = str | int
Answer = bytes | None  # None closes the connection
OK = b"+OK\r\n"


def bulk(*words: Word) -> bytes:
    """An array of strings and numbers."""
    said = [f":{word}\r\n" if isinstance(word, int) else f"${len(word)}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(said)}".encode()


class OddRedis:
    """Answers each command by what `answer` makes of its words, in upper case. Lives until `end`."""

    def __init__(self, answer: Callable[[list[str]], Answer]) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (words := _read(self.rfile)) and (said := answer(words)) is not None:
                    self.wfile.write(said)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Whoever is tested hangs up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _read(file: BufferedIOBase) -> list[str]:
    """The words of a command; none at the end."""
    line = file.readline()
    words = []
    for _ in range(int(line[1:]) if line else 0):
        words.append(file.read(int(file.readline()[1:])).decode().upper())
        file.readline()
    return words


def odd_node(slots: Callable[[int], bytes], answer: Callable[[int], bytes]) -> OddRedis:
    """A node of a Cluster: what it says of all slots, and to a command of a key, by its port."""

    def say(words: list[str]) -> bytes:
        if words[:2] == ["CLUSTER", "INFO"]:
            return b"$23\r\ncluster_current_epoch:5\r\n"
        if words[:2] == ["CLUSTER", "SLOTS"]:
            return slots(node.port)
        return answer(node.port) if words[0] in ("EVALSHA", "EVAL", "HDEL", "HMGET", "SPUBLISH") else OK

    node = OddRedis(say)
    return node


def all_slots_at(host: str, port: int) -> bytes:
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n" + bulk(host, port, "id")


def odd_sentinel(answer: Callable[[], tuple[str, int, int, str] | None]) -> OddRedis:
    """A Sentinel that says this host, port, epoch, and for how many ms; or closes the connection."""

    def say(words: list[str]) -> Answer:
        if words[0] != "SENTINEL":
            return OK
        if (said := answer()) is None:
            return None
        host, port, epoch, milliseconds = said
        if words[1] != "MASTER":
            return bulk(host, str(port))
        state = {"ip": host, "port": port, "role-reported-time": milliseconds, "config-epoch": epoch}
        return bulk(*(str(word) for pair in state.items() for word in pair))

    return OddRedis(say)

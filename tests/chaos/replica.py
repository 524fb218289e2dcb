"""`progress-gateway serve` on short wires; as a control, with one of its two ways back taken out."""

import socket
import sys
from collections.abc import Generator, Mapping

from gateway.commands.cli import main
from gateway.feed.server_feed import ServerFeed
from gateway.operations import ports
from gateway.projects.channel import Channel
from gateway.projects.memory import Memory

SEND_BUFFER_BYTES = 4_096


def without_probe() -> None:
    """A link that is silent is taken to be alive."""
    ServerFeed._check_silence = lambda self, now: None  # type: ignore[method-assign]


def without_reload() -> None:
    """After an outage the remembered state is not looked at: live events only."""
    read = Channel.read

    def read_once(self: Channel, remembered: Mapping[bytes, bytes]) -> Generator[None, None, Memory]:
        if self.seq:
            remembered = {b"seq": b"%d" % self.seq, b"from": b"%d" % self._from}
        return read(self, remembered)

    Channel.read = read_once  # type: ignore[method-assign]


def with_small_buffers() -> None:
    """The kernel holds little for a client, so that one who does not read for a moment is behind."""
    bind = ports.bind

    def bind_with_small_buffers(host: str, port: int, flags: str = "") -> socket.socket:
        listener = bind(host, port, flags)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # for what is accepted, too
        return listener

    ports.bind = bind_with_small_buffers


CONTROLS = {"no-probe": without_probe, "no-reload": without_reload}

if __name__ == "__main__":
    with_small_buffers()
    if sys.argv[1] in CONTROLS:
        CONTROLS[sys.argv[1]]()
    main(["serve"])

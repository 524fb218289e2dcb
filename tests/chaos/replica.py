"""`progress-gateway serve` with one of its two ways back taken out: what the suite must be able to see."""

import sys
from collections.abc import Mapping

from gateway.channel import Channel
from gateway.cli import main
from gateway.feed import Feed


def without_probe() -> None:
    """A link that is silent is taken to be alive."""
    Feed._check_silence = lambda self, now: None  # type: ignore[method-assign]


def without_reload() -> None:
    """After an outage the remembered state is not looked at: live events only."""
    load = Channel.load

    def load_once(self: Channel, remembered: Mapping[bytes, bytes], *, now: int = 0) -> None:
        if self.seq:
            remembered = {b"seq": b"%d" % self.seq, b"from": b"%d" % self._from}
        load(self, remembered, now=now)

    Channel.load = load_once  # type: ignore[method-assign]


CONTROLS = {"no-probe": without_probe, "no-reload": without_reload}

if __name__ == "__main__":
    if sys.argv[1] in CONTROLS:
        CONTROLS[sys.argv[1]]()
    main(["serve"])

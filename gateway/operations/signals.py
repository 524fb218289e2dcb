"""How this process begins and ends: its standard streams, its signals and its exit status.

The kernel drops signals that the first process of a container does not handle. So the command line imports this module
first, before the half second of the other imports, and this module imports nothing slow.
"""

import os
import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SERVE = "serve"
_LONG_LIVED = {_SERVE, "demo"}
early_hangups: list[int] = []  # one for the process, as its signals are
_QUESTIONS = {"--check-config", "--print-config"}  # status 0 is an answer, so a signal must not cause it


class ExitStatus(IntEnum):
    """75 and 78 are as in sysexits.h; `publish` and `watch` use only 0, 1 and 2."""

    OK = 0  # ended in order
    FAILURE = 1  # a crash, or a port in use; `publish`: refused or not sent
    USAGE = 2  # a wrong command line
    REDIS_AWAY = 75  # Redis cannot be reached or used yet at the start: a restart may help
    CONFIGURATION = 78  # a setting is wrong, Redis refuses it, or a dependency is missing: a restart does not help


def on_ending_signals(handler: Handler, on_hangup: Handler | None = None) -> None:
    """Handle all three signals, SIGHUP by `on_hangup` if given. If SIGHUP is ignored already, it stays so: nohup asked
    for that."""
    for number in _ENDING:
        if number != signal.SIGHUP:
            signal.signal(number, handler)
        elif signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_hangup or handler)


def note_hangup(number: int, frame: FrameType | None) -> None:
    """For a SIGHUP that comes while a replica starts: the server reads its files again once it runs.

    A function, not SIG_IGN: a child process would inherit that, and `on_ending_signals` would take it for nohup.
    """
    early_hangups.append(number)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End what was started so far."""
    raise KeyboardInterrupt


def no_more_signals() -> None:
    """Ignore signals: the process is ending. Python would restore the default handlers, which kill, before it ends."""
    on_ending_signals(signal.SIG_IGN)


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Exit: nothing was started yet. A module that is being imported could swallow an exception."""
    os._exit(0)


def _from_the_beginning(arguments: list[str]) -> None:
    """Only for long-lived commands; the others keep Python's handlers."""
    if _LONG_LIVED.intersection(arguments[1:2]) and _QUESTIONS.isdisjoint(arguments):
        on_ending_signals(exit_at_once, note_hangup if arguments[1] == _SERVE else None)


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed (`<&- >&-`).

    Otherwise the next socket or epoll would get that descriptor: `print` would write to a client, and libuv aborts the
    process when it closes a descriptor below 3.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 they live as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


_open_standard_streams()
_from_the_beginning(sys.argv)

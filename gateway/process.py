"""How this process begins and ends: its signals and its exit status.

The first process of a container is not ended by a signal that it does not handle: the kernel drops it. So the command
line imports this module before everything that takes half a second to import. Nothing slow may be imported here.
"""

import os
import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LONG_LIVED = {"serve", "demo"}
_QUESTIONS = {"--check-config", "--print-config"}  # whose status 0 is an answer


class ExitStatus(IntEnum):
    """75 and 78 are those of sysexits.h; `publish` and `watch` use 0, 1 and 2 only."""

    OK = 0  # ended in order
    FAILURE = 1  # a crash, a port that is taken; of `publish`: refused or not sent
    USAGE = 2  # a wrong command line
    REDIS_AWAY = 75  # Redis cannot be reached at the start, or not used yet: starting again may help
    CONFIGURATION = 78  # a setting is wrong, or Redis refuses what it says: starting again does not help


def on_ending_signals(handler: Handler) -> None:
    """Have all three handled; a SIGHUP that was ignored from the beginning stays ignored, since nohup means that."""
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """What was started so far is to be ended."""
    raise KeyboardInterrupt


def no_more_signals() -> None:
    """The process ends anyway. Python itself would set them to what kills, before its last step."""
    on_ending_signals(signal.SIG_IGN)


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Nothing was started yet that would have to be ended. An exception might be lost in whatever is being imported."""
    os._exit(0)


def _from_the_beginning(arguments: list[str]) -> None:
    """The other commands end by Ctrl-C as any program does."""
    if _LONG_LIVED.intersection(arguments[1:2]) and _QUESTIONS.isdisjoint(arguments):
        on_ending_signals(exit_at_once)


_from_the_beginning(sys.argv)

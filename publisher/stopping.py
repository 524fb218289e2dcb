"""Ends the jobs of a process that stops: at SIGTERM, and when the interpreter exits while a daemon thread works."""

import atexit
import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Protocol

from publisher.forks import in_each_child
from publisher.sender import EXIT_SECONDS, Ending, sender
from publisher.settings import ends_at_sigterm

FIRST_PROCESS = 1  # of a container: the kernel drops the signals that it does not handle
LEAST_SWEEP = 256


class Job(Protocol):
    """An open job of this package."""

    @property
    def is_ended(self) -> bool: ...

    @property
    def is_here(self) -> bool:
        """Whether this process began it: a forked child leaves the end to its parent."""

    def stop(self) -> Ending | None:
        """End it as lost, or leave it to another try; do not wait."""


class Stopping:
    """The open jobs of this process, and its SIGTERM handler. Lives as long as the process."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}  # by identity; those that were replaced are swept out now and then
        self._sweep_at = LEAST_SWEEP

    def add(self, job: Job) -> None:
        """A job begins."""
        self.handle_sigterm()
        self._jobs[id(job)] = job
        if len(self._jobs) >= self._sweep_at:
            for key, one in list(self._jobs.items()):
                if one.is_ended:
                    self._jobs.pop(key, None)
            self._sweep_at = max(LEAST_SWEEP, 2 * len(self._jobs))

    def discard(self, job: Job) -> None:
        """A job has ended."""
        self._jobs.pop(id(job), None)

    def forget(self) -> None:
        """In a forked child: the jobs are the parent's."""
        self._jobs.clear()

    def stop_all(self) -> None:
        """End the jobs that are open, and send what is unsent, for two seconds at most."""
        for job in list(self._jobs.values()):
            if not job.is_ended and job.is_here:
                job.stop()
        self._jobs.clear()
        sender.flush(EXIT_SECONDS)

    def handle_sigterm(self) -> None:
        """Handle SIGTERM, if nobody does and this is the thread that may say so."""
        if threading.current_thread() is not threading.main_thread() or not ends_at_sigterm() or _is_of_celery():
            return
        with contextlib.suppress(ValueError):  # a subinterpreter may not
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """End the jobs, and do what the process would have done."""
        if _is_in_hub():
            sys.modules["gevent"].spawn(self._stop_and_die)
        else:
            self._stop_and_die()

    def _stop_and_die(self) -> None:
        try:
            self.stop_all()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            if os.getpid() == FIRST_PROCESS:
                os._exit(128 + signal.SIGTERM)


def _is_of_celery() -> bool:
    """Whether this is a child of Celery's pool: its parent knows why it ends it, and what becomes of the task."""
    module = sys.modules.get("billiard.process")
    return module is not None and module.current_process().name != "MainProcess"


def _is_in_hub() -> bool:
    """Whether gevent's hub runs the handler. Nothing may wait in the hub."""
    gevent = sys.modules.get("gevent")
    return gevent is not None and getattr(gevent.getcurrent(), "loop", None) is not None


stopping = Stopping()
in_each_child(stopping.forget)
sender.at_exit_of_a_child = stopping.stop_all
atexit.register(stopping.stop_all)

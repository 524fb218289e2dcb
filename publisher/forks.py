"""Which process this is. What a child must not take over from its parent is made anew there."""

import os
import sys
import threading
from collections.abc import Callable

# A thread of a child that has just begun may hold the lock while another thread forks again. The child of that child
# cannot know, and waits no longer than this.
LOCK_SECONDS = 5.0


class Process:
    """The process that uses what this package holds. One for all of the package."""

    def __init__(self) -> None:
        self.is_told = True
        """False in a child of a fork that called no `os.register_at_fork`, or only what stands there for the child."""
        self._is_forking = False
        self._pid = os.getpid()
        self._beginning = threading.Lock()
        self._beginners: list[Callable[[], object]] = []

    def in_each_child(self, begin: Callable[[], object]) -> None:
        """Have `begin` called in a forked child, before it uses what it took over. It must wait for no lock.

        Call `see` before each use: there are forks that call no `os.register_at_fork` (uWSGI's).
        """
        self._beginners.append(begin)

    def see(self) -> None:
        """Begin anew if this is a child now. Takes a tenth of a microsecond otherwise."""
        if self._pid != os.getpid():
            self._begin(is_told=False)

    def before(self) -> None:
        """Before `os.fork`."""
        self._is_forking = True

    def after_in_parent(self) -> None:
        self._is_forking = False

    def after_in_child(self) -> None:
        """Only the thread that forked is here."""
        self._beginning = threading.Lock()
        self._begin(is_told=self._is_forking)
        self._is_forking = False

    def _begin(self, *, is_told: bool) -> None:
        is_held = self._beginning.acquire(timeout=LOCK_SECONDS)
        try:
            if self._pid != os.getpid():
                self.is_told = is_told
                for begin in self._beginners:
                    begin()
                self._pid = os.getpid()  # last: until then other threads of the child wait
        finally:
            if is_held:
                self._beginning.release()


def is_before_uwsgi_forks() -> bool:
    """Whether uWSGI loads the application here, and forks its workers then.

    A worker may hang in its first system call if any thread waits for the interpreter then. So none is started.
    """
    uwsgi = sys.modules.get("uwsgi")
    try:
        return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.mule_id() == 0
    except AttributeError:  # another module of that name
        return False


process = Process()
in_each_child = process.in_each_child
see = process.see
os.register_at_fork(
    before=process.before, after_in_parent=process.after_in_parent, after_in_child=process.after_in_child
)

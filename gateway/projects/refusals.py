"""Projects that cannot be served, and when each may be tried again. No clock."""

FIRST_SECONDS = 1.0  # after the first refusal; twice as long after each further one
MOST_SECONDS = 60.0
MOST_PROJECTS = 10_000  # that are kept in mind


class Refusals:
    """Remembers for each project that was refused when Redis may be asked for it again.

    Without it, a client that subscribes again and again would cost Redis the same work each time. Lives as long as its
    hub. `now` is in seconds of a clock that does not jump.
    """

    def __init__(self) -> None:
        self._until: dict[str, tuple[float, float]] = {}
        """By project: the time of the next try, and how long the pause until then is. In order of the refusals."""

    def add(self, project: str, now: float) -> None:
        """A project was refused. A second refusal within the pause does not make it longer."""
        until, seconds = self._until.get(project, (now, 0.0))
        if now < until:
            return
        was_long_ago = now - until > MOST_SECONDS
        seconds = FIRST_SECONDS if was_long_ago or not seconds else min(2 * seconds, MOST_SECONDS)
        self._until.pop(project, None)
        self._until[project] = now + seconds, seconds
        if len(self._until) > MOST_PROJECTS:
            del self._until[next(iter(self._until))]

    def drop(self, project: str) -> None:
        """A project is served."""
        self._until.pop(project, None)

    def holds(self, project: str, now: float) -> bool:
        """Whether a project was refused a moment ago, so that it is not tried yet."""
        return now < self._until.get(project, (now, 0.0))[0]

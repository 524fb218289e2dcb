"""What a token allows. Immutable; sessions keep it as long as it counts."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple


class Scope(str):
    """Project ids and beginnings of ids (`prefix*`, `*`), with spaces between: one small object for each viewer."""

    __slots__ = ()

    def covers(self, project_id: str) -> bool:
        return any(
            pattern == project_id or (pattern.endswith("*") and project_id.startswith(pattern[:-1]))
            for pattern in self.split(" ")
        )


NOTHING = Scope()


@lru_cache(maxsize=1_024)  # many viewers have the same scope: they share one object
def _shared(text: str) -> Scope:
    return Scope(text)


def scope(patterns: Iterable[str]) -> Scope:
    """The scope of checked patterns: an id, `prefix*` or `*` each."""
    return _shared(" ".join(patterns))


class Grant(NamedTuple):
    """An accepted token."""

    sub: str | None
    """The user, if the token names one."""
    expires_at: int
    """Its `exp`: seconds since the epoch."""
    issued_at: float | None
    """Its `iat`. A token without it counts as issued before every revocation."""
    projects: Scope
    """What its bearer may watch."""
    publish: Scope = NOTHING
    """Where its bearer may post events."""

    def covers(self, project_id: str) -> bool:
        """Whether its bearer may watch the project."""
        return self.projects.covers(project_id)

"""What a token allows. Immutable; sessions keep it as long as it counts."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple


class Scope(NamedTuple):
    """Project ids, and the beginnings of ids. A `*` alone is the empty beginning."""

    ids: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def covers(self, project_id: str) -> bool:
        return project_id in self.ids or project_id.startswith(self.prefixes)


NOTHING = Scope()


@lru_cache(maxsize=1_024)  # many viewers have the same scope: they share one object
def scope_of(patterns: tuple[str, ...]) -> Scope:
    """The scope of checked patterns: an id, `prefix*` or `*` each."""
    return Scope(
        tuple(pattern for pattern in patterns if not pattern.endswith("*")),
        tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*")),
    )


def scope(patterns: Iterable[str]) -> Scope:
    return scope_of(tuple(patterns))


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

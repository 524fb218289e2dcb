"""What one client may watch, and until when."""

import time

from gateway.auth.authority import Authority
from gateway.auth.grant import Grant
from gateway.auth.refusal import NotAuthorised
from gateway.messages import Subscribe

NEVER = float("inf")
VERDICT_SECONDS = 10.0  # more than a token waits for newer keys


class Access:
    """The grant of one client, or the wait for one. Lives as long as its session; used by it only."""

    __slots__ = ("_authority", "asked", "grant", "held", "is_awaited", "until")

    def __init__(self, authority: Authority, grant: Grant | None, auth_seconds: float) -> None:
        self._authority = authority
        self.grant = grant
        self.until: float = time.time() + auth_seconds if grant is None else grant.expires_at
        """When the token expires, or must have come; seconds since the epoch."""
        self.held: list[tuple[str, int | None]] | None = None
        """The subscribes, as project and `since`, that came before the first token."""
        self.asked = 0
        """The number of tokens that came by message: a verdict on one that is not the last does not count."""
        self.is_awaited = grant is None
        """Whether the first token may still come; subscribes are held so long."""

    def covers(self, project_id: str) -> bool:
        """Whether the client may watch the project now."""
        return self._authority.may_watch(self.grant, project_id)

    def take(self, grant: Grant) -> None:
        self.grant = grant
        self.until = grant.expires_at
        self.is_awaited = False

    @property
    def is_revoked(self) -> bool:
        return self.grant is not None and self._authority.is_revoked(self.grant)

    def count(self, refused: NotAuthorised) -> None:
        self._authority.count(refused)

    @property
    def expires_in_ms(self) -> int | None:
        """The life that the token has left; None without one."""
        return None if self.grant is None else max(0, round((self.grant.expires_at - time.time()) * 1_000))

    def ask(self) -> int:
        """A token came by message; returns its number. The verdict takes some seconds at most."""
        self.asked += 1
        if self.grant is None:
            self.until = max(self.until, time.time() + VERDICT_SECONDS)
        return self.asked

    def give_up(self) -> None:
        """No token has come in time. The client may go on with projects that need none."""
        self.until = NEVER
        self.is_awaited = False

    def hold(self, message: Subscribe, most: int) -> bool:
        """Keep a subscribe until a token has come. False: too many are kept."""
        if self.held is None:
            self.held = []
        if len(self.held) >= most:
            return False
        self.held.append((message.project_id, message.since))
        return True

    def drop(self, project_id: str) -> None:
        """Forget what is held of a project: it was unsubscribed."""
        if self.held is not None:
            self.held = [held for held in self.held if held[0] != project_id]

    def release(self) -> list[tuple[str, int | None]]:
        held, self.held = self.held or [], None
        return held

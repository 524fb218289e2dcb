"""Decides on tokens: by the keys, the rules and the revocations of this replica."""

import logging
import time
from collections.abc import Callable, Mapping

from gateway.auth.grant import NOTHING, Grant, Scope
from gateway.auth.key_sources import KeySource
from gateway.auth.keys import UnknownKid
from gateway.auth.refusal import CannotDecide, NotAuthorised, Reason, bad
from gateway.auth.revocations import Revocations
from gateway.auth.tokens import Rules, read_token

logger = logging.getLogger("gateway.auth")

Verdict = Grant | NotAuthorised | CannotDecide

ACCEPTED, CANNOT_DECIDE = "accepted", "cannot decide"
RESULTS = (ACCEPTED, *(reason.value for reason in Reason), CANNOT_DECIDE)


class Authority:
    """Lives as long as the replica; used by its event loop only."""

    def __init__(
        self,
        source: KeySource,
        rules: Rules,
        *,
        anonymous: Scope = NOTHING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._rules = rules
        self._clock = clock
        self.anonymous = anonymous
        """The projects that need no token."""
        self.revocations = Revocations(rules.max_seconds)
        self.results = dict.fromkeys(RESULTS, 0)
        """How often each was the answer to a token, or to the lack of one."""

    async def run(self) -> None:
        """Keep the keys up to date, until cancelled."""
        await self._source.run()

    @property
    def has_keys(self) -> bool:
        return self._source.keys is not None

    def may_watch(self, grant: Grant | None, project_id: str) -> bool:
        """Whether a connection with this grant, or without one, may watch the project."""
        return (grant is not None and grant.covers(project_id)) or self.anonymous.covers(project_id)

    def decide(self, token: str, then: Callable[[Verdict], None], *, may_wait: bool = True) -> None:
        """Call `then` with the verdict: at once, or when newer keys have come for a token of an unknown key."""
        try:
            verdict: Verdict = self._read(token)
        except UnknownKid:
            if may_wait and self._source.ask(lambda: self.decide(token, then, may_wait=False)):
                return
            is_unsure = self._source.keys is None or self._source.is_unsure
            verdict = CannotDecide() if is_unsure else bad("has an unknown `kid`")
        except NotAuthorised as refused:
            verdict = refused
        self.count(verdict)
        then(verdict)

    def _read(self, token: str) -> Grant:
        keys = self._source.keys
        if keys is None:
            raise UnknownKid
        grant = read_token(token, keys, self._rules, self._clock())
        if self.is_revoked(grant):
            raise NotAuthorised(Reason.TOKEN_REVOKED, "was issued before its user was revoked")
        return grant

    def is_revoked(self, grant: Grant) -> bool:
        return self.revocations.is_revoked(grant.sub, grant.issued_at)

    def count(self, verdict: Verdict) -> None:
        if isinstance(verdict, NotAuthorised):
            self.results[verdict.reason] += 1
        else:
            self.results[ACCEPTED if isinstance(verdict, Grant) else CANNOT_DECIDE] += 1

    def on_revoked(self, found: Mapping[bytes, bytes] | list[bytes]) -> set[str]:
        """Take what Redis remembers, or what was published; returns the users of whom that is news."""
        now = self._clock()
        if isinstance(found, Mapping):
            return self.revocations.on_loaded(found, now)
        return self.revocations.on_events(found, now)

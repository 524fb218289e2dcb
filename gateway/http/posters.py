"""Who may post events: the keys of GATEWAY_PUBLISH_KEYS everywhere, a token where its claim `publish` says."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gateway.auth.authority import Authority
from gateway.auth.grant import Grant, Scope
from gateway.auth.refusal import NotAuthorised, Reason
from gateway.clients.rate_limit import TokenBucket
from gateway.http.bearers import bearer, matching
from gateway.settings import Settings

MAX_USERS = 1_000  # whose rate is kept in mind; beyond, the one that came first begins anew


class Poster(NamedTuple):
    """Who sent a request."""

    bucket: TokenBucket
    scope: Scope | None
    """Where it may post; None: everywhere."""

    def may_post(self, project_id: str) -> bool:
        return self.scope is None or self.scope.covers(project_id)


class Posters:
    """Lives as long as the replica; used by one event loop only."""

    def __init__(self, settings: Settings, authority: Authority | None, clock: Callable[[], float]) -> None:
        self._burst = settings.publish_burst
        self._clock = clock
        self._authority = authority
        self._posters: dict[bytes, Poster] = {}
        """The owner of each key."""
        self.replace_keys([key.get_secret_value() for key in settings.publish_keys])
        self._buckets: dict[str, TokenBucket] = {}
        """By user, of those who posted with a token."""

    def replace_keys(self, keys: Iterable[str]) -> None:
        """Let these keys count, and no others. One that stays has spent what it has spent."""
        known, now = self._posters, self._clock()
        given = [key.encode() for key in keys]
        self._posters = {key: known.get(key) or Poster(TokenBucket(self._burst, now), None) for key in given}

    def with_key(self, authorization: Sequence[str]) -> Poster:
        """The owner of a key; raises `NotAuthorised`."""
        key = matching(self._posters, authorization)
        if key is None:
            raise NotAuthorised(Reason.BAD_TOKEN)
        return self._posters[key]

    async def of(self, authorization: Sequence[str]) -> Poster:
        """The owner of a key or a token; raises `NotAuthorised` or `CannotDecide`."""
        try:
            return self.with_key(authorization)
        except NotAuthorised:
            token = bearer(authorization)
            if self._authority is None or token.count(".") != 2:
                raise
        verdict = await self._authority.verdict_on(token)
        if not isinstance(verdict, Grant):
            raise verdict
        return Poster(self._bucket_of(verdict.sub or ""), verdict.publish)

    def _bucket_of(self, sub: str) -> TokenBucket:
        if sub not in self._buckets:
            if len(self._buckets) >= MAX_USERS:
                del self._buckets[next(iter(self._buckets))]
            self._buckets[sub] = TokenBucket(self._burst, self._clock())
        return self._buckets[sub]

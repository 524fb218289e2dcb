"""Decides on tokens: by the keys, the rules and the revocations of this replica."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from gateway.auth.grant import NOTHING, Grant, Scope, scope
from gateway.auth.key_sources import FileSource, JwksSource, KeySource
from gateway.auth.keys import KeySet, UnknownKid, secret_keys
from gateway.auth.refusal import CannotDecide, NotAuthorised, Reason, bad
from gateway.auth.revocations import Revocations
from gateway.auth.tokens import FORGED, Rules, read_token
from gateway.operations.logs import Occasional
from gateway.settings import Settings, read_public_keys, read_secrets

Verdict = Grant | NotAuthorised | CannotDecide

ACCEPTED, CANNOT_DECIDE = "accepted", "cannot_decide"
RESULTS = (ACCEPTED, *(reason.name.lower() for reason in Reason), CANNOT_DECIDE)

MAX_FORGED = 256  # of at most 4 KiB each


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
        self.restore: Callable[[Mapping[str, int]], None] | None = None
        """Called with revocations that Redis has lost."""
        self._forged: dict[str, KeySet] = {}
        """The last tokens whose signature was wrong, and the keys that said so."""
        self._occasional = Occasional("gateway.auth")

    async def run(self) -> None:
        """Keep the keys up to date, until cancelled."""
        await self._source.run()

    def read_again(self) -> Callable[[], str]:
        """As `KeySource.read_again`."""
        return self._source.read_again()

    @property
    def has_keys(self) -> bool:
        return self._source.keys is not None

    @property
    def are_keys_failing(self) -> bool:
        """True while they cannot be read anew."""
        return self._source.is_failing

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
            verdict = refused.with_traceback(None)  # it would hold this frame, which holds it: work for the collector
        self.count(verdict)
        then(verdict)

    async def verdict_on(self, token: str) -> Verdict:
        """The verdict, for a coroutine."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.decide(token, lambda found: None if verdict.done() else verdict.set_result(found))
        return await verdict

    def _read(self, token: str) -> Grant:
        keys = self._source.keys
        if keys is None:
            raise UnknownKid
        grant = self._check(token, keys)
        if self.is_revoked(grant):
            raise NotAuthorised(Reason.TOKEN_REVOKED, "was issued before its user was revoked")
        return grant

    def _check(self, token: str, keys: KeySet) -> Grant:
        """A forged token that comes again costs a look: the check of a public key's signature costs 100 us."""
        if self._forged.get(token) is keys:
            raise bad(FORGED)
        try:
            return read_token(token, keys, self._rules, self._clock())
        except NotAuthorised as refused:
            if refused.detail == FORGED:
                if len(self._forged) >= MAX_FORGED:
                    del self._forged[next(iter(self._forged))]
                self._forged[token] = keys
            raise

    def is_revoked(self, grant: Grant) -> bool:
        return self.revocations.is_revoked(grant.sub, grant.issued_at)

    def count(self, verdict: Verdict) -> None:
        """Count an answer, and log a refusal: why, and nothing of the token."""
        if isinstance(verdict, Grant):
            self.results[ACCEPTED] += 1
        elif isinstance(verdict, CannotDecide):
            self.results[CANNOT_DECIDE] += 1
        else:
            self.results[verdict.reason.name.lower()] += 1
            self._occasional.info(f"{verdict.reason} {verdict.detail}", "Not authorised: %s", verdict)

    def on_loaded(self, remembered: Mapping[bytes, bytes]) -> set[str]:
        """Take the revocations that Redis remembers; returns the users of whom that is news."""
        now = self._clock()
        news = self.revocations.on_loaded(remembered, now)
        if self.restore is not None and (missing := self.revocations.missing(remembered, now)):
            self.restore(missing)
        return news

    def on_events(self, payloads: Iterable[bytes]) -> set[str]:
        """Take revocations that were published; returns the users of whom that is news."""
        return self.revocations.on_events(payloads, self._clock())


def authority_for(settings: Settings) -> Authority | None:
    """The authority that the settings ask for; None where anybody may watch."""
    if settings.auth == "none":
        return None
    rules = Rules(settings.jwt_max_seconds, settings.jwt_audience, settings.jwt_issuer)
    return Authority(_source_for(settings), rules, anonymous=scope(settings.anonymous_projects))


def _source_for(settings: Settings) -> KeySource:
    if settings.jwt_jwks_url:
        return JwksSource(settings.jwt_jwks_url)
    if (path := settings.jwt_public_keys_file) is not None:
        return FileSource(read_public_keys(path), path, read_public_keys)
    keys = secret_keys(secret.get_secret_value() for secret in settings.jwt_secret)
    return FileSource(keys, settings.jwt_secret_file, read_secrets)

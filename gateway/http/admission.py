"""The token of a handshake: what it is decided on, and how a client is told that it is refused."""

from typing import NamedTuple

from gateway.auth.authority import Authority, Verdict
from gateway.auth.grant import Grant
from gateway.auth.places import token_in
from gateway.auth.refusal import CannotDecide, NotAuthorised
from gateway.http.front import Answer, Scope, headers_of, text
from gateway.projects.hub import Hub

_CHALLENGE = (b"www-authenticate", b"Bearer")


class Admission(NamedTuple):
    """What becomes of a handshake: one of these, or none where it has no token and may still show one."""

    grant: Grant | None = None
    answer: Answer | None = None
    """For a program: the handshake is refused."""
    refusal: NotAuthorised | CannotDecide | None = None
    """For a page: the handshake is accepted, then closed. A page's script sees nothing else."""


async def admit(hub: Hub, scope: Scope) -> Admission:
    """Decide on the token of a handshake; waits only where newer keys are on their way."""
    if hub.authority is None:
        return Admission()
    verdict = await _verdict(hub.authority, scope, hub.settings.jwt_cookie)
    if verdict is None or isinstance(verdict, Grant):
        return Admission(grant=verdict)
    if isinstance(verdict, CannotDecide):
        hub.counters.refused["cannot_decide"] += 1
        return Admission(refusal=verdict)
    hub.counters.refused["not_authorised"] += 1
    if headers_of(scope, b"origin"):
        return Admission(refusal=verdict)
    return Admission(answer=text(401, f"Not authorised: {verdict.reason}.", _CHALLENGE))


async def _verdict(authority: Authority, scope: Scope, cookie: str) -> Verdict | None:
    try:
        token = token_in(scope["headers"], scope["query_string"], cookie)
    except NotAuthorised as refused:
        authority.count(refused)
        return refused
    if token is None:
        return None
    return await authority.verdict_on(token)

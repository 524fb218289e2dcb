"""A revocation on its way to Redis. No I/O."""

from publisher.revocation import revocation
from publisher.settings import PublisherSettings
from publisher.transport.conversation import Conversation, wait_for
from publisher.transport.routes import ask, routes_of


def revoke(settings: PublisherSettings, sub: object, revoked_at: int = 0) -> Conversation[int]:
    """Revoke a user; returns the moment, in microseconds since the epoch.

    Asks once, but for redirections: raises redis-py's `RedisError`, and `ValueError` for a bad `sub`.
    """
    key, *words = revocation(sub, settings.namespace, revoked_at)
    routes = routes_of(settings.redis_url)
    yield from wait_for(routes.circuit_for(key))
    answer: int = yield from ask(routes, key, *words, routes.verb)
    return answer

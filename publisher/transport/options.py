"""Options of redis-py's clients, in each version that this package works with: 5.0.1 to 8.x."""

import inspect
from typing import Any

SOCKET_TIMEOUT_SECONDS = 1.0  # for a connect, and for an answer


def redis_options(client: type) -> dict[str, Any]:
    """The options of every client of this package; `client` is the class that will get them.

    At each connect, redis-py would send its name and a request for maintenance notifications. Nobody needs them, and
    each costs a round trip. If the server does not know the notifications, redis-py 7.0 logs an error. So both are off.

    RESP2 has all that a publisher needs, and connects without a HELLO. A connection that the pool drops after a fork is
    closed at once. With RESP3 it would not be: the notification handlers and the connection refer to each other.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
        "retry": None,  # the time bound is kept by this package
        "protocol": 2,
    }
    known = inspect.signature(client).parameters
    if "driver_info" in known:  # from 7.2 on, which warns about the older names
        options["driver_info"] = None
    else:
        options |= {"lib_name": None, "lib_version": None}
    if "maint_notifications_config" in known:  # from 7.0 on, and in redis.asyncio from 8.1 on
        from redis.maint_notifications import MaintNotificationsConfig

        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return options

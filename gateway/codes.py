"""Every code that clients see: close codes, the `code` of an `error` message, and of a refused request to publish.

Close codes from 4000 to 4499 mean "do not reconnect as you are"; all others mean "reconnect with back-off".
"""

from enum import IntEnum, StrEnum


class CloseCode(IntEnum):
    """Why a connection was closed; sent by the gateway unless the comment says otherwise."""

    NORMAL = 1000  # the client's own close, echoed
    GOING_AWAY = 1001  # the browser left the page (sent by the client); or an operator closed the client; reconnect
    PROTOCOL_ERROR = 1002  # invalid WebSocket frames
    BAD_TEXT = 1007  # a text frame that is not UTF-8
    TOO_MANY_BAD_MESSAGES = 1008  # MAX_BAD_MESSAGES in a row
    MESSAGE_TOO_BIG = 1009  # longer than MAX_MESSAGE_BYTES
    INTERNAL_ERROR = 1011  # a bug of the gateway; reconnect (sent by the ASGI server)
    RESTART = 1012  # this replica is shutting down; reconnect to another one
    PROTOCOL_ABUSED = 4400  # more messages than MESSAGE_RATE, for seconds; do not reconnect
    NOT_AUTHORISED = 4401  # no token, or one that is refused; reconnect with another token only
    OVERLOADED = 4503  # overloaded, or no keys that could check the token; reconnect with back-off
    SILENT = 4504  # the client did not answer a ping in time; reconnect
    TOO_SLOW = 4508  # behind for longer than SLOW_SECONDS; reconnect with back-off


class ErrorCode(StrEnum):
    """Why a message of a client was refused. The connection stays open."""

    NOT_TEXT = "not_text"  # a binary message
    NOT_JSON = "not_json"
    BAD_MESSAGE = "bad_message"  # JSON, but not an object
    UNKNOWN_TYPE = "unknown_type"
    BAD_PROJECT_ID = "bad_project_id"
    BAD_SINCE = "bad_since"
    RATE_LIMITED = "rate_limited"  # more subscribes per second than SUBSCRIBE_RATE
    TOO_MANY_PROJECTS = "too_many_projects"  # more than MAX_PROJECTS on this connection
    FORBIDDEN = "forbidden"  # the client's token does not cover the project
    UNAVAILABLE = "unavailable"  # Redis refuses this project's Redis channel; the gateway's log says why


class PublishCode(StrEnum):
    """Why a request to publish was refused."""

    # Each comment begins with the HTTP status.
    METHOD_NOT_ALLOWED = "method_not_allowed"  # 405: only POST is allowed
    NOT_AUTHORISED = "not_authorised"  # 401: no key, or one that is not in PUBLISH_KEYS
    FORBIDDEN = "forbidden"  # 403: the token may not post to this project
    BODY_TOO_BIG = "body_too_big"  # 413: more than PUBLISH_MAX_BYTES
    TOO_MANY_EVENTS = "too_many_events"  # 413: more than PUBLISH_MAX_EVENTS
    BAD_PROJECT_ID = "bad_project_id"  # 422
    BAD_SUB = "bad_sub"  # 422: the user to revoke
    NOT_JSON = "not_json"  # 422
    NO_EVENTS = "no_events"  # 422: an empty list
    BAD_EVENTS = "bad_events"  # 422: `errors` names each field that is not valid
    RATE_LIMITED = "rate_limited"  # 429: more events per second with this key than PUBLISH_RATE
    DRAINING = "draining"  # 503: this replica is shutting down; another one answers
    OVERLOADED = "overloaded"  # 503: too many requests are waiting
    REDIS_UNAVAILABLE = "redis_unavailable"  # 503: Redis did not answer in time
    REDIS_REFUSED = "redis_refused"  # 503: Redis returned an error; the gateway's log says why

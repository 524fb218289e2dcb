"""Every code that a client can see: close codes, the `code` of an `error` message, and that of a refused publication.

Ranges of close codes: 4000-4499 say "do not reconnect", 4500-4999 say "reconnect with back-off", as do all below 4000.
"""

from enum import IntEnum, StrEnum


class CloseCode(IntEnum):
    """Why a connection ended; sent by the gateway unless the comment says otherwise."""

    NORMAL = 1000  # the client's own close, echoed
    GOING_AWAY = 1001  # a browser leaves the page (sent by the client)
    PROTOCOL_ERROR = 1002  # frames that are no WebSocket frames
    BAD_TEXT = 1007  # a text frame that is not UTF-8
    TOO_MANY_BAD_MESSAGES = 1008  # as many in a row as MAX_BAD_MESSAGES
    MESSAGE_TOO_BIG = 1009  # longer than MAX_MESSAGE_BYTES
    INTERNAL_ERROR = 1011  # a bug of the gateway; reconnect (sent by the ASGI server)
    RESTART = 1012  # this replica ends; reconnect, the load balancer knows another
    PROTOCOL_ABUSED = 4400  # do not reconnect (reserved)
    NOT_AUTHORISED = 4401  # do not reconnect (reserved)
    OVERLOADED = 4503  # reconnect with back-off (reserved)
    SILENT = 4504  # the client did not answer a ping before the next was due; reconnect
    TOO_SLOW = 4508  # behind for longer than SLOW_SECONDS; reconnect with back-off


class ErrorCode(StrEnum):
    """What was wrong with one message of a client; the connection stays."""

    NOT_TEXT = "not_text"  # a binary message
    NOT_JSON = "not_json"
    BAD_MESSAGE = "bad_message"  # JSON, but not an object with a known `type` and its fields
    UNKNOWN_TYPE = "unknown_type"
    BAD_PROJECT_ID = "bad_project_id"
    BAD_SINCE = "bad_since"
    RATE_LIMITED = "rate_limited"  # subscribes faster than SUBSCRIBE_RATE
    TOO_MANY_PROJECTS = "too_many_projects"  # more than MAX_PROJECTS on this connection
    UNAVAILABLE = "unavailable"  # Redis refuses this project's channel; the operator's log says why


class PublishCode(StrEnum):
    """Why a request to publish was refused."""

    # The number is the HTTP status.
    METHOD_NOT_ALLOWED = "method_not_allowed"  # 405
    NOT_AUTHORISED = "not_authorised"  # 401: no key, or none of PUBLISH_KEYS
    BODY_TOO_BIG = "body_too_big"  # 413: more than PUBLISH_MAX_BYTES
    TOO_MANY_EVENTS = "too_many_events"  # 413: more than PUBLISH_MAX_EVENTS
    BAD_PROJECT_ID = "bad_project_id"  # 422
    NOT_JSON = "not_json"  # 422
    NO_EVENTS = "no_events"  # 422: an empty list
    BAD_EVENTS = "bad_events"  # 422: `errors` names each field that does not fit
    RATE_LIMITED = "rate_limited"  # 429: faster than PUBLISH_RATE with this key
    DRAINING = "draining"  # 503: this replica ends; another one answers
    OVERLOADED = "overloaded"  # 503: as many requests are waiting as may
    REDIS_UNAVAILABLE = "redis_unavailable"  # 503: Redis did not answer in time
    REDIS_REFUSED = "redis_refused"  # 503: Redis said no; the operator's log says why

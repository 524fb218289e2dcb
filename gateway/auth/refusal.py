"""Why a token is not accepted. The reasons are what clients are told; the details are for the log."""

from enum import StrEnum


class Reason(StrEnum):
    """The reason of close code 4401."""

    NO_TOKEN = "no token"  # noqa: S105 none came in time
    BAD_TOKEN = "bad token"  # noqa: S105
    TOKEN_EXPIRED = "token expired"  # noqa: S105
    TOKEN_REVOKED = "token revoked"  # noqa: S105
    ANOTHER_USER = "another user"  # a later token of the connection has another `sub`


class NotAuthorised(Exception):
    """A token was refused. `detail` completes "the token ..." and repeats nothing of it."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: the token {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class CannotDecide(Exception):
    """No key is known at the moment that could check the token. The client may come back with the same token."""


def bad(detail: str) -> NotAuthorised:
    return NotAuthorised(Reason.BAD_TOKEN, detail)

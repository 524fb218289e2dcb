"""What is answered to a request to publish; the models are the contract, for docs/openapi.json too."""

from typing import NamedTuple

from pydantic import ValidationError

from gateway.codes import PublishCode
from publisher.events import _Model
from publisher.mistakes import of_event


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    headers: dict[str, str]


class Accepted(_Model):
    """Every event was handed to Redis."""

    seqs: list[int | None]
    """The seq of each event, in their order; null for one that the rule for attempts refused, or with replay off."""

    @property
    def answer(self) -> Answer:
        return Answer(202, self.__pydantic_serializer__.to_json(self), {})


class BadField(_Model):
    """One thing that does not fit."""

    index: int | None = None
    """Which event of the list, from 0; left out if the body was one event."""
    field: str | None = None
    """The field, such as `progress` or `result.file`; left out if it is the event itself."""
    message: str
    """What it should be."""


class PublishError(_Model):
    """Nothing was sent, unless the code is `redis_unavailable` or `redis_refused`: then a part may have been."""

    code: PublishCode
    message: str
    """A sentence that says what to do."""
    errors: list[BadField] | None = None
    """What does not fit; with status 422 only."""


class Refused(Exception):
    """A request that is not done; carries what to answer. Headers are given by name: `retry_after=1`."""

    def __init__(
        self, status: int, code: PublishCode, message: str, errors: list[BadField] | None = None, **headers: object
    ) -> None:
        super().__init__(message)
        error = PublishError(code=code, message=message, errors=errors)
        body = error.__pydantic_serializer__.to_json(error, exclude_none=True)
        named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        self.answer = Answer(status, body, named)


def bad_fields(error: ValidationError, index: int | None) -> list[BadField]:
    """What pydantic found in one event: a sentence for each field, never what it held."""
    return [BadField(index=index, field=field, message=message) for field, message in of_event(error).items()]

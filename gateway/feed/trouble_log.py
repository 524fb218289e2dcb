"""Logs the outages of a feed: one line for each, however often the feed tries to connect. No clock."""

import logging
from typing import NamedTuple

from gateway.operations.logs import LOG_PAUSE_SECONDS, Occasional
from publisher.redaction import redacted_redis_url
from publisher.transport.advice import UNKNOWN, advice_for, error_text, with_advice

logger = logging.getLogger("gateway.feed")

STEADY_SECONDS = 5.0  # a feed that was live for less is still in the same outage


class Trouble(NamedTuple):
    """What is wrong with Redis."""

    error: str
    """The error, as Redis or the system words it."""
    hint: str
    """What to do; empty if unknown."""


class TroubleLog:
    """The outages of one feed. Lives as long as the feed.

    `now` is in seconds of a clock that does not jump. An outage ends once the feed was live for `STEADY_SECONDS`. So a
    link that comes and goes is one outage: it is not logged each time, nor tried again without a pause.
    """

    def __init__(self, url: str) -> None:
        self._url = redacted_redis_url(url)
        # The outage: the present one, or the last one until the feed is lost again.
        self.failures = 0
        """The number of errors in it."""
        self._error: Exception | None = None
        """Its last error."""
        self._live_at: float | None = None
        """When the feed became live; None while it is lost."""
        self._logged: set[str] = set()
        """The meanings of its errors that were logged."""
        self._logged_at = float("-inf")
        """When the last of them was logged."""
        self._is_live_news = True
        """True if `live` is to be logged: the last line said that the feed is lost, or there was none."""

        # What Redis refuses while the feed is live.
        self._refusal: Exception | None = None
        """The last refusal of this connection."""
        self._refused_at = float("-inf")
        self._occasional = Occasional("gateway.feed", clock=lambda: self._refused_at)

    def failed(self, error: Exception, now: float) -> None:
        """The link was lost or could not be opened. Logged once per outage and meaning."""
        was_live, self._live_at = self._live_at, None
        if was_live is not None and now - was_live >= STEADY_SECONDS:
            self.failures = 0
            self._logged.clear()
        self.failures += 1
        self._error = error
        self._refusal = None  # the next connection asks for everything again
        meaning = advice_for(error).meaning
        is_due_again = was_live is not None and now - self._logged_at >= LOG_PAUSE_SECONDS
        if meaning in self._logged and not is_due_again:
            return
        self._logged.add(meaning)
        self._logged_at = now
        self._is_live_news = True
        logger.error("Redis at %s: %s Clients are told; trying again.", self._url, with_advice(error))

    @property
    def meaning(self) -> str:
        """What the last error means, in a word of `publisher.transport.advice`."""
        return UNKNOWN.meaning if self._error is None else advice_for(self._error).meaning

    def live(self, now: float) -> None:
        """The feed is live. Logged if the last line said otherwise."""
        self._live_at = now
        if self._is_live_news:
            self._is_live_news = False
            logger.info("Redis at %s: live", self._url)

    def refused(self, what: str, name: str, error: Exception, now: float) -> None:
        """Redis refused a key or Redis channel, and the feed goes on. Logged once a minute for all of them."""
        self._refusal, self._refused_at = error, now
        self._occasional.error(what, "Redis at %s refuses to %s %s: %s", self._url, what, name, with_advice(error))

    def left_out(self, name: str, error: Exception, now: float) -> None:
        """A Redis channel or key is not read, and the feed goes on. Logged once a minute for each of them."""
        self._refusal, self._refused_at = error, now
        self._occasional.error(f"left out {name}", "Redis at %s: %s is not served: %s.", self._url, name, error)

    def trouble(self, *, is_lost: bool, now: float) -> Trouble | None:
        """Why the feed is lost, or what Redis refused within the last minute; None if all is well."""
        error = self._error if is_lost else self._refusal if now - self._refused_at < LOG_PAUSE_SECONDS else None
        return None if error is None else Trouble(error_text(error), advice_for(error).hint)

"""What a replica says of the outages of its feed: one line for each, however often it tries. No clock of its own."""

import logging
from typing import NamedTuple

from publisher.redaction import redacted_redis_url
from publisher.transport.advice import UNKNOWN, advice_for, error_text, with_advice

logger = logging.getLogger("gateway.feed")

STEADY_SECONDS = 5.0  # live for so long, the feed is well again; lost before, it is the same outage
LOG_PAUSE_SECONDS = 60.0  # for what may come again and again while the feed is live


class Trouble(NamedTuple):
    """What is wrong with Redis."""

    error: str
    """In Redis' words."""
    hint: str
    """What to do; empty where nobody knows."""


class OutageLog:
    """The outages of one feed. Lives as long as it.

    `now` is seconds of a clock that does not jump. An outage ends when the feed was live for `STEADY_SECONDS`: a link
    that comes and goes is one outage, so it is neither logged each time nor tried without a pause.
    """

    def __init__(self, url: str) -> None:
        self._url = redacted_redis_url(url)
        self.failures = 0
        """Of the present outage, or of the last one until the feed is lost again."""
        self._error: Exception | None = None
        self._live_at: float | None = None
        # What the log knows: the meanings of this outage's errors, and whether its last word was that the feed is lost.
        self._told: set[str] = set()
        self._told_at = float("-inf")
        self._is_live_news = True
        # What Redis refuses to a feed that is live, until a while after the last time.
        self._refusal: Exception | None = None
        self._refused_at = float("-inf")
        self._refusals_told_at: dict[str, float] = {}  # by what was refused
        self._refusals_untold: dict[str, int] = {}

    def failed(self, error: Exception, now: float) -> None:
        """The link was lost, or could not be opened."""
        was_live, self._live_at = self._live_at, None
        if was_live is not None and now - was_live >= STEADY_SECONDS:
            self.failures = 0
            self._told.clear()
        self.failures += 1
        self._error = error
        self._refusal = None  # all projects are asked for again
        meaning = advice_for(error).meaning
        is_again = was_live is not None and now - self._told_at >= LOG_PAUSE_SECONDS
        if meaning in self._told and not is_again:
            return
        self._told.add(meaning)
        self._told_at = now
        self._is_live_news = True
        logger.error("Redis at %s: %s Clients are told; trying again.", self._url, with_advice(error))

    @property
    def meaning(self) -> str:
        """Of the last error."""
        return UNKNOWN.meaning if self._error is None else advice_for(self._error).meaning

    def live(self, now: float) -> None:
        """The feed brings everything."""
        self._live_at = now
        if self._is_live_news:
            self._is_live_news = False
            logger.info("Redis at %s: live", self._url)

    def refused(self, what: str, redis_channel: str, error: Exception, now: float) -> None:
        """Redis refuses one project, and the feed lives on. Logged once a minute, however many projects it is."""
        self._refusal, self._refused_at = error, now
        if now - self._refusals_told_at.get(what, float("-inf")) < LOG_PAUSE_SECONDS:
            self._refusals_untold[what] = self._refusals_untold.get(what, 0) + 1
            return
        self._refusals_told_at[what] = now
        more = self._refusals_untold.pop(what, 0)
        others = f" (and {more} times more since it was said last)" if more else ""
        logger.error("Redis at %s refuses to %s %s%s: %s", self._url, what, redis_channel, others, with_advice(error))

    def trouble(self, *, is_lost: bool, now: float) -> Trouble | None:
        """What an operator is to know now: why the feed is lost, or what Redis refused within the last minute."""
        error = self._error if is_lost else self._refusal if now - self._refused_at < LOG_PAUSE_SECONDS else None
        return None if error is None else Trouble(error_text(error), advice_for(error).hint)

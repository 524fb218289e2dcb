"""What a subscriber hears of a project, straight from Redis: each event that was published, in order."""

import json
from collections.abc import Callable
from typing import Any

import redis

from tests.contract.deadlines import PATIENCE, wait_for
from tests.contract.processes import RedisServer

Heard = dict[str, Any]


class Listener:
    """Subscribed from its beginning, until `close`. Not for several threads."""

    def __init__(self, server: RedisServer, project: str, *, namespace: str = "") -> None:
        self._events: list[Heard] = []
        self._client: Any = redis.Redis.from_url(server.url)
        self._pubsub: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(f"{namespace}project:{project}")
        assert self._pubsub.get_message(timeout=PATIENCE) is not None

    @property
    def events(self) -> list[Heard]:
        """All that was heard so far."""
        while (message := self._pubsub.get_message()) is not None:
            if message["type"] == "message":
                self._events.append(json.loads(message["data"]))
        return self._events

    def of(self, sentence: str | None = None, job: str = "j") -> list[Heard]:
        """What was heard of one job, or of one sentence of it."""
        return [event for event in self.events if (event["jobId"], event.get("sentenceId")) == (job, sentence)]

    def bars(self, sentence: str | None = None, job: str = "j") -> list[object]:
        """The same in short: percents, and the type of an end."""
        return [event.get("progress", event["type"]) for event in self.of(sentence, job)]

    def has(self, said: object, sentence: str | None = None) -> Callable[[], bool]:
        """A condition: a percent, or the type of an end, was heard."""
        return lambda: said in self.bars(sentence)

    def until(self, said: object, sentence: str | None = None, within: float = PATIENCE) -> list[Heard]:
        """All events of the job, once this was heard."""
        wait_for(self.has(said, sentence), f"{said!r}; heard so far: {self.bars(sentence)}", within)
        return self.of(sentence)

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()

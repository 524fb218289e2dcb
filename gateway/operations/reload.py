"""SIGHUP: reads keys, certificates and the log level from their files again, while the replica runs."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.operations.logs import hide
from gateway.settings import Settings, level_of, read_keys

logger = logging.getLogger("gateway")

Take = Callable[[], str]
"""Makes what was read count, in the loop; says what it is, or '' if it does not come from a file."""


class Part(NamedTuple):
    """One thing that can be read again."""

    setting: str
    """The setting that names the file."""
    read: Callable[[], Take]
    """Reads and checks the file, in a thread: a file of a network may take long. Raises `ValueError`."""


class Reload:
    """Lives as long as the replica; used by its event loop only. Each part stands for itself: one that is bad stays as
    it was, and the others count."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    async def run(self) -> None:
        """Read everything again, and log one line on it, and one for each part that is bad."""
        taken = []
        for part in self.parts:
            try:
                take = await asyncio.to_thread(part.read)
            except ValueError as error:
                logger.error("%s cannot be used, what was read before stays: %s", part.setting, error)
                continue
            taken.append(take())
        words = ", ".join(filter(None, taken))
        logger.info("Read again: %s", words or "nothing, because no setting names a file")


def keys_from(setting: str, path: Path | None, replace: Callable[[list[str]], None], what: str) -> list[Part]:
    """Keys that a file holds; no part without a file."""
    if path is None:
        return []

    def read() -> Take:
        keys = read_keys(path)

        def take() -> str:
            hide(keys)
            replace(keys)
            return f"{what}: {len(keys)}"

        return take

    return [Part(setting, read)]


def log_level(settings: Settings) -> list[Part]:
    """The level of the log; no part without a file."""
    if settings.log_level_file is None:
        return []

    def read() -> Take:
        level = level_of(settings)

        def take() -> str:
            logging.getLogger().setLevel(level.upper())
            return f"log level: {level}"

        return take

    return [Part("GATEWAY_LOG_LEVEL_FILE", read)]

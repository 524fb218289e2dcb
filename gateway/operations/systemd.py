"""Reports this service's state to systemd: sd_notify(3), for a unit of `Type=notify`."""

import asyncio
import logging
import os
import socket

logger = logging.getLogger("gateway")


def is_a_service() -> bool:
    """Whether systemd, or what speaks its protocol, started this process."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


class Systemd:
    """The service manager that the environment names; does nothing without one. Lives as long as the process."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # in the abstract namespace
            self._address = "\0" + self._address[1:]
        is_for_us = os.environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        interval = os.environ.get("WATCHDOG_USEC", "")
        self._watchdog_seconds = int(interval) / 1_000_000 if is_for_us and interval.isdecimal() else 0.0

    def tell(self, *lines: str) -> None:
        """Send lines such as `READY=1`. Never blocks the loop; a failure is logged."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
                plug.setblocking(False)
                plug.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("Cannot tell systemd %s: %s", lines[0], error.strerror or error)

    async def feed_watchdog(self) -> None:
        """Report a running loop until cancelled; systemd ends a service that is silent for the interval."""
        while self._watchdog_seconds:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 3)

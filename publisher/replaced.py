"""Tells a worker that its job was begun again elsewhere: what it still says is refused."""

import logging
import time
from collections.abc import Sequence

from publisher.publication import MAX_JOBS, Publication, Sent

logger = logging.getLogger("publisher")

LOG_PAUSE_SECONDS = 60.0


def warn(project_id: str, job_id: str, attempt: int | None) -> None:
    """Log that `attempt` replaced the one of this worker."""
    logger.warning(
        "job %r of project %r was begun again elsewhere, as attempt %d; this attempt is no longer shown",
        job_id, project_id, attempt,
    )  # fmt: skip


class Replaced:
    """Warns once a minute for each job whose single events are refused. All threads and loops share one."""

    def __init__(self) -> None:
        self._warned_at: dict[tuple[str, str], float] = {}  # by key in Redis and job, the oldest first

    def report(self, publications: Sequence[Publication], sent: Sequence[Sent]) -> None:
        """Warn of the jobs whose events were refused because a later attempt has begun."""
        for publication, one in zip(publications, sent, strict=True):
            if one.replaced_by is not None:
                self._warn_of(publication, one.replaced_by)

    def _warn_of(self, publication: Publication, attempt: int) -> None:
        job = publication.key, publication.event.job_id
        now = time.monotonic()
        if now - self._warned_at.get(job, -LOG_PAUSE_SECONDS) < LOG_PAUSE_SECONDS:
            return
        self._warned_at.pop(job, None)
        self._warned_at[job] = now
        if len(self._warned_at) > MAX_JOBS:  # another thread may have removed the oldest meanwhile
            self._warned_at.pop(next(iter(list(self._warned_at))), None)
        warn(publication.project_id, publication.event.job_id, attempt)


replaced = Replaced()

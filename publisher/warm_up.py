"""Loads, with the package, what a first event needs.

A child that is forked while another thread imports a module waits for that module for ever. So it is with what pydantic
looks up when it first reads or writes a number, a text or a mapping. After the main thread has ended, some modules
cannot be loaded at all. So nothing is left for the first event, and none of the transport is loaded late.
"""

from publisher.events import JobComplete, JobFailed, Result, event_or_none
from publisher.publication import Publication

_DATA = {"a": [1, 0.5, "x", True, None, {"b": {}}]}


def warm_up() -> None:
    """Make, write and read an event of each kind, and refuse one."""
    identity = {"jobId": "j", "jobType": "audio", "attempt": 0}
    for progress in (0, 0.5):
        event = {"type": "progress", "progress": progress, "message": "m", "data": _DATA, "nextWithin": progress + 1}
        event_or_none(Publication.of("p", identity | event, "").payload)
    Publication.of("p", JobComplete(job_id="j", job_type="audio", result=Result(file="f", duration=1)), "").evalsha()
    Publication.of("p", JobFailed(job_id="j", job_type="audio", error="e", reason="lost"), "").evalsha()
    try:
        Publication.of("p", identity | {"type": "progress", "progress": "x"}, "")
    except ValueError:
        pass

"""A progress that stands letter by letter as our publishers write it, read at a glance. No I/O, no clock.

The models read every event and write it anew, so that nothing else of a payload reaches a client. Most events are a
progress in plain ASCII without `data`, and of them the models write the very bytes that came. One pattern recognises
those. It is made from the fields of the model and may only be narrower; tests/projects/test_usual.py compares both.
"""

import re

from gateway.clients.frames import text_frame
from gateway.projects.entry import Entry
from publisher.events import Progress

# What each value may look like: no escapes, and nothing that the model would clean or write in another way. A field
# that is not here (`data`, and what a later version adds) makes the event one for the models.
_NUMBER = r"(0|[1-9]\d{0,14})"
_CHARACTER = r"[ !#-\[\]-~]"
_VALUES = {
    "type": '"progress"',
    "jobId": f'"({_CHARACTER}{{1,128}})"',
    "jobType": r'"[A-Za-z][A-Za-z0-9_\-.:]{0,63}"',
    "sentenceId": f'"({_CHARACTER}{{1,128}})"',
    "attempt": _NUMBER,
    "progress": r"(100|[1-9]?\d(?:\.(?:\d?[1-9]|0))?)",
    "message": f'"{_CHARACTER}{{0,2000}}"',
    "nextWithin": r"[1-9]\d{0,3}(?:\.0)?",
}
_SEQ = r"([1-9]\d{0,14}|[1-8]\d{15})"


def _pattern() -> re.Pattern[bytes]:
    """What publish.lua publishes: the seq and the type, then the other fields in the order of the model."""
    pattern = rf'{{"seq":{_SEQ},"type":"progress"'
    for field in Progress.model_fields.values():
        if field.alias in _VALUES and field.alias != "type":
            value = f',"{field.alias}":{_VALUES[field.alias]}'
            pattern += value if field.is_required() else f"(?:{value})?"
    return re.compile(pattern.encode() + b"}")


USUAL = _pattern()
_REST = len(b'{"seq":,"type":"progress"')


def read_usual(payload: bytes, head: bytes) -> Entry | None:
    """The event, where it is usual; None if it is for the models to read. Its frame begins with `head`."""
    match = USUAL.fullmatch(payload)
    if match is None:
        return None
    seq, job_id, sentence_id, attempt, progress = match.groups()
    return Entry(
        int(seq),
        job_id.decode(),
        None if sentence_id is None else sentence_id.decode(),
        None if attempt is None else int(attempt),
        float(progress),
        text_frame(b"".join((head, b'"type":"progress","seq":', seq, payload[_REST + len(seq) :]))),
    )

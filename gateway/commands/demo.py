"""Demo jobs: processes that publish to the project `demo` for ever, as the job handlers of an application do.

`python -m gateway.commands.demo KIND` runs one of them; `DemoJobs` runs all beside a gateway. The events of a kind are
an endless stream of `Step`s, made without clock or network; `play` publishes them in time.
"""

import argparse
import heapq
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import cycle
from typing import Any, NamedTuple, NoReturn, Self

from gateway.operations.logs import LogFormat, start_logging
from publisher import broadcast_to_project
from publisher.redaction import secrets_of

PROJECT_ID = "demo"
NEXT_WITHIN_SECONDS = 6  # what jobs promise: only a video that will fail is silent for longer
STOP_SECONDS = 3.0  # for a process to end after SIGTERM; then it is killed

Job = dict[str, Any]  # the fields that are the same in all events of a job
Data = dict[str, Any]


class Step(NamedTuple):
    """An event, and the pause before it."""

    pause_seconds: float
    event: dict[str, Any]


# --- The events of a job ---------------------------------------------------------------------------------------------


def _progress(job: Job, percent: float, message: str, data: Data | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {"progress": round(percent, 1), "message": message, "nextWithin": NEXT_WITHIN_SECONDS}
    return {"type": "progress", **job, **fields, **({} if data is None else {"data": data})}


def _complete(job: Job, file: str, duration: float | None = None, data: Data | None = None) -> dict[str, Any]:
    result = {"file": file} if duration is None else {"file": file, "duration": round(duration, 1)}
    return {"type": "job_complete", **job, "result": result, **({} if data is None else {"data": data})}


def _failed(job: Job, reason: str, error: str) -> dict[str, Any]:
    return {"type": "job_failed", **job, "error": error, "reason": reason}


def _ids(kind: str, numbers: Iterable[int]) -> Iterator[Job]:
    """A few ids, again and again, so that the project shows a handful of ended jobs, not thousands.

    Without `attempt`: each run would be shown as one more retry.
    """
    for number in cycle(numbers):
        yield {"jobId": f"{kind}_{number}", "jobType": kind}


def _work(
    rng: random.Random,
    job: Job,
    seconds: float,
    say: Callable[[float], str],
    data_of: Callable[[float], Data] | None = None,
) -> Iterator[Step]:
    """Progress in uneven steps over `seconds`; `say` and `data_of` are given how much is done, 0 to 1."""
    passed = 0.0
    pause = 0.0
    while passed < seconds:
        done = passed / seconds
        yield Step(pause, _progress(job, 100 * done, say(done), None if data_of is None else data_of(done)))
        pause = rng.uniform(0.3, 1.1)
        passed += pause


def _after(seconds: float, steps: Iterator[Step]) -> Iterator[Step]:
    """`steps`, delayed by `seconds`."""
    first = next(steps)
    yield Step(first.pause_seconds + seconds, first.event)
    yield from steps


def _together(*streams: Iterator[Step]) -> Iterator[Step]:
    """Merge streams by time."""
    now = 0.0
    waiting = []
    for number, stream in enumerate(streams):
        step = next(stream)
        waiting.append((step.pause_seconds, number, step.event))
    heapq.heapify(waiting)
    while True:
        at, number, event = waiting[0]
        yield Step(at - now, event)
        now = at
        step = next(streams[number])
        heapq.heapreplace(waiting, (at + step.pause_seconds, number, step.event))


# --- The kinds --------------------------------------------------------------------------------------------------------

SCENES = ("the harbour at night", "a letter arrives", "the storm", "an old friend", "the lighthouse", "the way home")
IMAGE_STAGES = ("sketching", "colouring", "lighting", "upscaling")
EXPORT_STAGES = ("collecting files", "mixing sound", "encoding", "packing")
SENTENCES = 6
FRAMES = 750
FAILURE_ODDS = 0.4
CANCEL_ODDS = 0.15
LANGUAGES = ("German", "French", "Japanese")
LINES = ("The harbour lies still.", "A letter arrives.", "The storm is near.", "Who lit the lamp?", "We sail at dawn.")


def _stage(stages: tuple[str, ...], done: float) -> int:
    return min(int(done * len(stages)), len(stages) - 1)


def scripts(rng: random.Random) -> Iterator[Step]:
    """One at a time, scene by scene."""

    def say(done: float) -> str:
        scene = _stage(SCENES, done)
        return f"scene {scene + 1} of {len(SCENES)}: {SCENES[scene]}"

    for job in _ids("script", (1, 2, 3)):
        yield from _after(rng.uniform(0.5, 3), _work(rng, job, rng.uniform(10, 18), say))
        yield Step(0.5, _complete(job, f"{job['jobId']}.md"))


def audio(rng: random.Random) -> Iterator[Step]:
    """One job with a bar for each of its sentences; their voices are recorded in turn."""
    for job in _ids("audio", (1, 2)):
        sentences = [job | {"sentenceId": f"s{number}"} for number in range(1, SENTENCES + 1)]
        for sentence in sentences:
            waiting = _progress(sentence, 0, "waiting")
            del waiting["nextWithin"]  # nobody knows when its turn comes
            yield Step(2 if sentence is sentences[0] else 0, waiting)
        for number, sentence in enumerate(sentences, 1):
            seconds, text = rng.uniform(3, 6), f"voice {number} of {SENTENCES}"
            yield from _work(rng, sentence, seconds, lambda _: text)  # noqa: B023
            yield Step(0.3, _complete(sentence, f"voice_{number}.mp3", seconds * 1.4))


def images(rng: random.Random) -> Iterator[Step]:
    """Three at a time. Now and then somebody cancels one."""

    def lane(*numbers: int) -> Iterator[Step]:
        for job in _ids("image", numbers):
            work = _work(rng, job, rng.uniform(6, 16), lambda done: IMAGE_STAGES[_stage(IMAGE_STAGES, done)])
            steps = list(_after(rng.uniform(0.5, 6), work))
            if rng.random() < CANCEL_ODDS and len(steps) > 5:
                yield from steps[: len(steps) // 2]
                yield Step(0.4, _failed(job, "cancelled", "cancelled by the editor"))
                continue
            yield from steps
            yield Step(0.4, _complete(job, f"{job['jobId']}.png"))

    return _together(lane(1, 4), lane(2, 5), lane(3, 6))


def videos(rng: random.Random) -> Iterator[Step]:
    """One at a time. Some lose their worker: they fall silent and fail. Their second attempt succeeds."""

    def say(done: float) -> str:
        return f"rendering frame {int(done * FRAMES)} of {FRAMES}"

    for job in _ids("video", (1, 2, 3)):
        pause, seconds = 3.0, rng.uniform(20, 35)
        if rng.random() < FAILURE_ODDS:
            steps = list(_after(pause, _work(rng, job, seconds, say)))
            yield from steps[: int(len(steps) * rng.uniform(0.3, 0.8))]
            error = "the renderer ran out of memory; it will be tried again"
            yield Step(NEXT_WITHIN_SECONDS + 4, _failed(job, "lost", error))
            # Only the second attempt has a number: see _ids.
            job, pause = job | {"attempt": 1}, 3.5
        yield from _after(pause, _work(rng, job, seconds, say))
        yield Step(0.5, _complete(job, f"{job['jobId']}.mp4", FRAMES / 24))


def exports(rng: random.Random) -> Iterator[Step]:
    """One now and then."""
    for job in _ids("export", (1, 2)):
        steps = _work(rng, job, rng.uniform(7, 12), lambda done: EXPORT_STAGES[_stage(EXPORT_STAGES, done)])
        yield from _after(rng.uniform(6, 14), steps)
        yield Step(0.5, _complete(job, f"{job['jobId']}.zip"))


def subtitles(rng: random.Random) -> Iterator[Step]:
    """One at a time, of a type that pages have no icon for, with data of its own."""
    for job, language in zip(_ids("subtitles", (1, 2)), cycle(LANGUAGES), strict=False):
        total = rng.randint(60, 140)

        def data(done: float) -> Data:
            lines = {"done": int(done * total), "total": total}  # noqa: B023
            return {"language": language, "lines": lines, "last": LINES[_stage(LINES, done)]}  # noqa: B023

        text = f"translating into {language}"
        yield from _after(rng.uniform(2, 6), _work(rng, job, rng.uniform(9, 16), lambda _: text, data))  # noqa: B023
        yield Step(0.5, _complete(job, f"{language.lower()}.vtt", data=data(1)))


KINDS: Mapping[str, Callable[[random.Random], Iterator[Step]]] = {
    "script": scripts,
    "audio": audio,
    "image": images,
    "video": videos,
    "export": exports,
    "subtitles": subtitles,
}


# --- The processes ----------------------------------------------------------------------------------------------------


def play(steps: Iterator[Step]) -> None:
    """Publish the steps in time. While Redis is away, the publisher gives up each event within 5 s."""
    for step in steps:
        time.sleep(step.pause_seconds)
        broadcast_to_project(PROJECT_ID, step.event)


class DemoJobs:
    """A process for each kind of job, for as long as the context lasts.

    Each reads a pipe that only this process writes, so it ends with this process even after a kill: the kernel closes
    the pipe. Each has its own session, so that a Ctrl-C in the terminal reaches only this process, which ends them.
    """

    def __init__(
        self, redis_url: str, namespace: str = "", *, log_level: str = "info", log_format: LogFormat | None = None
    ) -> None:
        self._log = [f"--log-level={log_level}", f"--log-format={log_format or 'auto'}"]
        self._environment = {**os.environ, "REDIS_URL": redis_url, "PROGRESS_NAMESPACE": namespace}
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for kind in KINDS:
            command = [sys.executable, "-m", "gateway.commands.demo", kind, "--until-eof", *self._log]
            self.processes.append(
                subprocess.Popen(  # noqa: S603
                    command, env=self._environment, stdin=subprocess.PIPE, start_new_session=True
                )
            )
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _end(*_: object) -> NoReturn:
    sys.exit(0)


def _end_with_parent() -> None:
    """End when standard input does: the parent has ended."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a signal wakes the main thread
    time.sleep(STOP_SECONDS)
    os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.commands.demo", description="Publish demo jobs of a kind for ever."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does, and not by Ctrl-C")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", choices=["auto", "text", "json"], default="auto")
    arguments = parser.parse_args()
    start_logging(arguments.log_level, arguments.log_format, secrets_of(os.environ.get("REDIS_URL"), ()))
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN if arguments.until_eof else _end)
    if arguments.until_eof:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    play(KINDS[arguments.kind](random.Random()))  # noqa: S311


if __name__ == "__main__":
    main()

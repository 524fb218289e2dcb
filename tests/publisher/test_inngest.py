"""Functions of Inngest that tell how they go: over hand-made requests to a served app, and by the SDK's own mock."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import inngest
import pytest
import redis
from inngest.experimental import mocked

import publisher
from examples.inngest.executor import Run, serve
from publisher import client
from publisher.aio import client as aio_client
from publisher.inngest import end_reporter, job_of, progress_middleware
from publisher.sender import sender
from tests.contract.deadlines import PATIENCE, eventually, wait_for
from tests.contract.processes import RedisServer, free_port

EVENT = inngest.TriggerEvent(event="test")


class Heard:
    """What a viewer of the project hears."""

    def __init__(self, server: RedisServer, project: str) -> None:
        self.project = project
        self._client = redis.Redis.from_url(server.url)
        self._pubsub: Any = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(f"project:{project}")
        self._pubsub.get_message(timeout=30)

    def events(self) -> list[dict[str, Any]]:
        """All events so far: those before one that is published now."""
        marker = {"type": "job_complete", "jobId": "marker", "jobType": "script"}
        publisher.broadcast_to_project(self.project, marker)
        events: list[dict[str, Any]] = []
        while not events or events[-1]["jobId"] != "marker":
            message = self._pubsub.get_message(timeout=30)
            assert message is not None
            events.append(json.loads(message["data"]))
        return events[:-1]

    def story(self) -> list[tuple[Any, ...]]:
        """The events in short: (attempt, percent or type, text)."""
        return [
            (event.get("attempt"), event.get("progress", event["type"]), event.get("message", event.get("error")))
            for event in self.events()
        ]

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


@pytest.fixture
def heard(redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    heard = Heard(redis_server, project)
    yield heard
    heard.close()


@pytest.fixture
def app() -> inngest.Inngest:
    return inngest.Inngest(app_id="studio", is_production=False, middleware=[progress_middleware()])


def data(heard: Heard, **more: object) -> dict[str, Any]:
    return {"projectId": heard.project, "jobType": "video", **more}


def execute(app: inngest.Inngest, function: inngest.Function[Any], event: dict[str, Any], **options: Any) -> Any:
    async def run() -> Any:
        try:
            return await Run(serve(app, function), function, event, **options).execute()
        finally:
            await asyncio.sleep(0)

    return asyncio.run(run())


def three_steps(
    app: inngest.Inngest, *, fails: dict[str, int], end: Exception | None = None, within: float = 10.0
) -> inngest.Function[Any]:
    """An `async` function of three steps, some of which fail a few times; then it returns, or raises.

    It waits until each word was sent, for at most `within` seconds: the latest would win.
    """
    left = dict(fails)

    @app.create_function(fn_id="render", trigger=EVENT, retries=3)
    async def render(ctx: inngest.Context) -> dict[str, Any]:
        job = job_of(ctx)

        def step(name: str, percent: float) -> Callable[[], Any]:
            async def work() -> str:
                if left.get(name, 0) > 0:
                    left[name] -= 1
                    raise ValueError(f"{name} broke")
                await asyncio.to_thread(sender.flush, within)
                job.progress(percent, name)
                await asyncio.to_thread(sender.flush, within)
                return name

            return work

        await ctx.step.run("one", step("one", 30))
        job.progress(31, "after one")
        await ctx.step.run("two", step("two", 60))
        job.progress(61, "after two")
        await ctx.step.run("three", step("three", 90))
        job.progress(91, "after three")
        if end is not None:
            raise end
        return {"file": "cat.mp4", "duration": 3.5}

    return render


def test_each_step_is_told_once_though_the_function_runs_again_from_the_top(heard: Heard, app: inngest.Inngest) -> None:
    assert execute(app, three_steps(app, fails={}), data(heard), run_id="run")[0] == "completed"
    events = heard.events()
    assert [(event.get("message"), event.get("progress")) for event in events[:-1]] == [
        (None, 0), ("one", 30), ("after one", 31), ("two", 60), ("after two", 61), ("three", 90), ("after three", 91),
    ]  # fmt: skip
    assert events[-1]["type"] == "job_complete"
    assert events[-1]["result"] == {"file": "cat.mp4", "duration": 3.5}
    assert {(event["jobId"], event["jobType"], event["attempt"]) for event in events} == {("run", "video", 0)}


def test_the_retry_of_a_step_goes_on_in_the_attempt_of_the_run(heard: Heard, app: inngest.Inngest) -> None:
    """A new attempt would drop what viewers see of the steps before. Inngest counts the tries of each step anew."""
    execute(app, three_steps(app, fails={"one": 1, "three": 2}), data(heard))
    story = heard.story()
    assert story[:3] == [
        (0, 0, "ValueError: one broke; this step will be tried again"),
        (0, 0, "trying again (2 of 4)"),
        (0, 30, "one"),
    ]
    assert (0, 61, "ValueError: three broke; this step will be tried again") in story
    assert story[-2:] == [(0, 91, "after three"), (0, "job_complete", None)]
    assert {attempt for attempt, _, _ in story} == {0}


def test_the_retry_of_a_function_is_the_next_attempt_which_begins_where_the_bar_was(
    heard: Heard, app: inngest.Inngest
) -> None:
    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> None:
        await asyncio.to_thread(sender.flush, 10)
        job_of(ctx).progress(40, data={"try": ctx.attempt})
        if ctx.attempt < 2:
            raise ValueError("x")

    assert execute(app, function, data(heard))[0] == "completed"
    again = "ValueError: x; it will be tried again"
    assert heard.story() == [
        (0, 0, None),
        (0, 40, again),
        (1, 40, "trying again (2 of 4)"),
        (1, 40, again),
        (2, 40, "trying again (3 of 4)"),
        (2, 40, "trying again (3 of 4)"),
        (2, "job_complete", None),
    ]


def test_a_step_that_fails_for_good_fails_the_job_once(heard: Heard, app: inngest.Inngest) -> None:
    assert execute(app, three_steps(app, fails={"two": 9}), data(heard))[0] == "failed"
    story = heard.story()
    assert [entry for entry in story if entry[1] == "job_failed"] == [(0, "job_failed", "ValueError: two broke")]
    assert story[-1][1] == "job_failed"
    assert {attempt for attempt, _, _ in story} == {0}


def test_a_function_that_goes_on_without_a_failed_step_is_complete(heard: Heard, app: inngest.Inngest) -> None:
    @app.create_function(fn_id="f", trigger=EVENT, retries=1)
    async def function(ctx: inngest.Context) -> None:
        async def broken() -> None:
            raise ValueError("no preview")

        try:
            await ctx.step.run("preview", broken)
        except inngest.StepError:
            job_of(ctx).progress(50, "without a preview")

    assert execute(app, function, data(heard), max_attempts=2)[0] == "completed"
    assert [entry[1] for entry in heard.story() if isinstance(entry[1], str)] == ["job_complete"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (inngest.NonRetriableError("the script is empty"), "the script is empty"),
        (ValueError("at https://x.test/?token=abc"), "ValueError: at https://x.test/?token=***"),
    ],
)
def test_an_error_of_the_function_itself(heard: Heard, app: inngest.Inngest, error: Exception, text: str) -> None:
    assert execute(app, three_steps(app, fails={}, end=error), data(heard), max_attempts=2)[0] == "failed"
    ends = [entry for entry in heard.story() if entry[1] in ("job_failed", "job_complete")]
    assert ends == [(0 if isinstance(error, inngest.NonRetriableError) else 1, "job_failed", text)]


def test_a_function_that_is_not_async(heard: Heard, app: inngest.Inngest) -> None:
    @app.create_function(fn_id="f", trigger=EVENT)
    def function(ctx: inngest.ContextSync) -> str:
        job = job_of(ctx)
        ctx.step.run("one", lambda: job.progress(40, "one"))
        ctx.step.run("two", lambda: job.progress(80, "two"))
        job.complete(file="a.mp3")
        return "done"

    assert execute(app, function, data(heard)) == ("completed", "done")
    story = heard.story()
    assert [entry[2] for entry in story[:-1]][-2:] == ["one", "two"]
    assert story[-1] == (0, "job_complete", None)


def test_steps_in_parallel_are_heard_and_the_end_comes_after_them(heard: Heard, app: inngest.Inngest) -> None:
    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> None:
        job = job_of(ctx)

        def voice(number: int) -> Callable[[], Any]:
            async def record() -> None:
                sentence = job.sentence(f"s{number}")
                sentence.progress(50, f"voice {number}")
                await sentence.complete(file=f"{number}.mp3")

            return lambda: ctx.step.run(f"voice {number}", record)

        await ctx.group.parallel(tuple(voice(number) for number in (1, 2, 3)))
        job.progress(90, "mixing")

    assert execute(app, function, data(heard))[0] == "completed"
    events = heard.events()
    ends = [event for event in events if event["type"] == "job_complete"]
    files = [(event.get("sentenceId"), event["result"].get("file")) for event in ends]
    assert files == [("s1", "1.mp3"), ("s2", "2.mp3"), ("s3", "3.mp3"), (None, None)]
    assert [event["message"] for event in events if "message" in event] == ["voice 1", "voice 2", "voice 3", "mixing"]


def test_a_long_step_promises_that_it_lives_and_takes_it_back(heard: Heard) -> None:
    app = inngest.Inngest(app_id="a", is_production=False, middleware=[progress_middleware(heartbeat=0.2)])
    promises: list[float | None] = []

    async def promised() -> None:
        async with asyncio.timeout(PATIENCE):
            while 0.4 not in promises:
                await asyncio.sleep(0.2)
                promises.extend([event.get("nextWithin") for event in await asyncio.to_thread(heard.events)])

    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("long", promised)
        await ctx.step.sleep("a night", 1)

    execute(app, function, data(heard))
    promises += [event.get("nextWithin") for event in heard.events()]
    assert promises[0] is None
    assert 0.4 in promises
    assert promises[-1] is promises[-2] is None


def test_a_request_that_is_cut_off_promises_nothing_more(heard: Heard) -> None:
    app = inngest.Inngest(app_id="a", is_production=False, middleware=[progress_middleware(heartbeat=0.1)])

    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(Run(serve(app, function), function, data(heard)).execute())
        await eventually(lambda: any("nextWithin" in event for event in heard.events()), "a promise")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def is_silent() -> bool:
        heard.events()
        time.sleep(0.5)
        return heard.events() == []

    asyncio.run(main())
    wait_for(is_silent, "five heartbeats without a word; the last ones may have been on their way")


def test_a_try_that_was_killed_gives_way_to_the_next(heard: Heard, app: inngest.Inngest) -> None:
    """It could not say that it failed; what it says late is not heard."""

    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> None:
        await asyncio.to_thread(sender.flush, PATIENCE)  # the latest word would win
        job_of(ctx).progress(20, f"try {ctx.attempt}")
        await asyncio.to_thread(sender.flush, PATIENCE)

    late = {"type": "progress", "jobId": "run", "jobType": "video", "progress": 99, "attempt": 0, "message": "late"}

    async def main() -> None:
        run = Run(serve(app, function), function, data(heard), run_id="run")
        publisher.broadcast_to_project(heard.project, late | {"progress": 10, "message": "first try"})
        assert (await run.request("step", 1)).status_code == 200
        assert publisher.broadcast_to_project(heard.project, late) is None

    asyncio.run(main())
    assert heard.story() == [
        (0, 10, "first try"),
        (1, 10, "trying again (2 of 4)"),
        (1, 20, "try 1"),
        (1, "job_complete", None),
    ]


def test_a_second_run_under_the_same_id_begins_anew(heard: Heard) -> None:
    options = progress_middleware(
        project_id=heard.project, job_type="image", job_id=lambda event, _: str(event.data["n"])
    )
    app = inngest.Inngest(app_id="a", is_production=False, middleware=[options])
    function = three_steps(app, fails={})
    for _ in range(2):
        execute(app, function, {"n": 7})
    events = heard.events()
    assert {event["jobId"] for event in events} == {"7"}
    assert [event["attempt"] for event in events if event["type"] == "job_complete"] == [0, 1]
    assert [event["attempt"] for event in events if event.get("progress") == 0] == [0, 1]


@pytest.mark.parametrize("fails", [0, 1])
def test_a_sentence_may_be_a_block_around_steps(heard: Heard, app: inngest.Inngest, fails: int) -> None:
    """The SDK leaves the block by an exception of its own at each step, which holds what the step returned."""
    left = [fails]

    @app.create_function(fn_id="f", trigger=EVENT, retries=3)
    async def function(ctx: inngest.Context) -> None:
        job = job_of(ctx)

        async def record() -> str:
            if left[0]:
                left[0] -= 1
                raise ValueError("no voice")
            job.sentence("s1").progress(50, "voice")
            return "a secret"

        async with job.sentence("s1"):
            await ctx.step.run("record", record)
            await ctx.step.run("again", record)
        await ctx.step.run("mix", record)

    assert execute(app, function, data(heard))[0] == "completed"
    events = heard.events()
    assert "secret" not in json.dumps(events)
    ends = [(event["type"], event.get("sentenceId")) for event in events if event["type"] != "progress"]
    assert ends == [("job_complete", "s1"), ("job_complete", None)]


def test_a_sentence_that_ended_before_a_retry_is_not_touched_by_it(heard: Heard, app: inngest.Inngest) -> None:
    left = [2]

    @app.create_function(fn_id="f", trigger=EVENT, retries=3)
    async def function(ctx: inngest.Context) -> None:
        sentence = job_of(ctx).sentence("s1")

        async def record() -> None:
            sentence.progress(90)
            await sentence.complete(file="1.mp3")

        async def mix() -> None:
            if left[0]:
                left[0] -= 1
                raise ValueError("no mixer")

        await ctx.step.run("record", record)
        await ctx.step.run("mix", mix)

    execute(app, function, data(heard))
    mine = [event for event in heard.events() if "sentenceId" in event]
    assert [event["type"] for event in mine].count("job_complete") == 1
    assert mine[-1]["type"] == "job_complete"


def test_what_cannot_be_sent_as_json_is_a_failure(heard: Heard, app: inngest.Inngest) -> None:
    @app.create_function(fn_id="f", trigger=EVENT, retries=1)
    async def function(ctx: inngest.Context) -> Any:
        return {"x": object()}

    assert execute(app, function, data(heard), max_attempts=2)[0] == "failed"
    ends = [entry[1] for entry in heard.story() if isinstance(entry[1], str)]
    assert ends == ["job_failed"]


def test_a_long_error_hides_no_retry(heard: Heard, app: inngest.Inngest) -> None:
    left = [1]

    @app.create_function(fn_id="f", trigger=EVENT, retries=3)
    async def function(ctx: inngest.Context) -> None:
        if left[0]:
            left[0] -= 1
            raise ValueError("x" * 5_000)

    execute(app, function, data(heard))
    story = heard.story()
    assert any((entry[2] or "").endswith("it will be tried again") for entry in story)
    assert story[-1][:2] == (1, "job_complete")


def test_the_result_may_be_awaited(heard: Heard, app: inngest.Inngest) -> None:
    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> None:
        await job_of(ctx).complete(file="a.mp3")

    assert execute(app, function, data(heard))[0] == "completed"
    assert heard.events()[-1]["result"] == {"file": "a.mp3"}


# Nobody to tell


@pytest.mark.parametrize("event", [{}, {"projectId": "no project!", "jobType": "video"}, {"projectId": "p"}])
def test_a_run_that_cannot_be_told_runs_all_the_same(
    heard: Heard, app: inngest.Inngest, event: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    @app.create_function(fn_id="f", trigger=EVENT)
    async def function(ctx: inngest.Context) -> str:
        job = job_of(ctx)
        job.progress(10)
        async with job.sentence("s") as sentence:
            sentence.progress(10)
            sentence.fail("no voice")
        await job.complete(file="x")
        return "".join(job.track("ab"))

    with caplog.at_level(logging.WARNING, "publisher"):
        assert execute(app, function, event) == ("completed", "ab")
    assert heard.events() == []
    assert len(caplog.messages) == (1 if event else 0)  # an event without a project is none of ours


def test_without_the_middleware_it_is_said_what_is_missing(heard: Heard) -> None:
    app = inngest.Inngest(app_id="a", is_production=False)

    @app.create_function(fn_id="f", trigger=EVENT, retries=0)
    async def function(ctx: inngest.Context) -> None:
        job_of(ctx)

    status, error = execute(app, function, data(heard), max_attempts=1)
    assert status == "failed"
    assert "progress_middleware" in error["message"]


@pytest.mark.parametrize("url", ["redis+cluster://h:1/7", "redis://:pa/ss@h:1", "nonsense"])
def test_a_url_that_is_none_breaks_no_function(app: inngest.Inngest, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    event = {"projectId": "p", "jobType": "video"}
    assert execute(app, three_steps(app, fails={}), event)[0] == "completed"


def test_redis_away_breaks_no_function(app: inngest.Inngest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 0.2)
    event = {"projectId": "p", "jobType": "video"}
    assert execute(app, three_steps(app, fails={"two": 1}, within=0.05), event)[0] == "completed"


def test_redis_away_at_the_beginning_of_a_request_loses_no_end(
    heard: Heard, app: inngest.Inngest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which attempt it is cannot be known then; the end must not be refused for it."""
    broken = redis.ConnectionError("away")

    async def last_event(*_: object) -> None:
        raise broken

    def before_request(number: int) -> None:
        if number == 2:
            monkeypatch.setattr(aio_client, "last_event", last_event)

    execute(app, three_steps(app, fails={"one": 1}), data(heard), before_request=before_request)
    assert heard.events()[-1]["type"] == "job_complete"


def test_a_handler_of_failures_is_no_job(heard: Heard, app: inngest.Inngest) -> None:
    handled: list[str] = []

    async def on_failure(ctx: inngest.Context) -> None:
        handled.append(ctx.event.name)

    @app.create_function(fn_id="f", trigger=EVENT, on_failure=on_failure)
    async def function(ctx: inngest.Context) -> None: ...

    async def main() -> None:
        run = Run(serve(app, function), function, data(heard), event_name="inngest/function.failed")
        assert function.on_failure_fn_id
        function._opts.fully_qualified_id, main_id = function.on_failure_fn_id, function.id
        try:
            response = await run.request("step", 0)
        finally:
            function._opts.fully_qualified_id = main_id
        assert response.status_code in (200, 500)

    asyncio.run(main())
    assert heard.events() == []


# The ends that no middleware sees


def ended(heard: Heard, how: str, **more: object) -> dict[str, Any]:
    return {"event": {"name": "test", "data": data(heard)}, "run_id": "run", "function_id": "f", **more}


@pytest.mark.parametrize(
    ("how", "more", "end"),
    [
        (
            "failed",
            {"error": {"name": "Error", "message": "could not reach https://u:pw@h/"}},
            ("Stopped: its worker ended", "lost"),
        ),
        ("failed", {"error": {"name": "Error", "message": '{"error": "EOF"}'}}, ("Stopped: its worker ended", "lost")),
        ("failed", {"error": {"name": "Error", "message": "request timed out"}}, ("Timed out", "timed_out")),
        ("failed", {"error": {"name": "ValueError", "message": "no GPU"}}, ("ValueError: no GPU", None)),
        ("failed", {"error": {"name": "TimeoutError", "message": "no GPU"}}, ("Timed out: no GPU", "timed_out")),
        ("failed", {"error": "odd"}, ("Stopped: its worker ended", "lost")),
        ("cancelled", {}, ("Cancelled", "cancelled")),
    ],
)
def test_a_run_that_died_without_a_word_is_ended_by_the_reporter(
    heard: Heard, app: inngest.Inngest, how: str, more: dict[str, Any], end: tuple[str, str | None]
) -> None:
    reporter = end_reporter(app)
    going = {"type": "progress", "jobId": "run", "jobType": "video", "progress": 50, "attempt": 2}
    other = going | {"jobId": "run_2"}
    done = going | {"type": "job_complete", "sentenceId": "s0"}
    events = [going, going | {"sentenceId": "s1"}, done, other, other | {"sentenceId": "s1"}]
    publisher.broadcast_many([(heard.project, event) for event in events])
    for _ in range(2):  # the second one finds the end
        execute(app, reporter, ended(heard, how, **more), event_name=f"inngest/function.{how}")
    ends = [event for event in heard.events() if event["type"] == "job_failed"]
    told = [(one["jobId"], one.get("sentenceId"), one["attempt"]) for one in ends]
    assert told == [("run", "s1", 2), ("run", None, 2)]
    assert {(one["error"], one.get("reason")) for one in ends} == {end}


def test_a_function_that_another_one_invokes_is_tracked(heard: Heard, app: inngest.Inngest) -> None:
    """Its event is `inngest/function.invoked`, which was taken for the end of a run."""
    assert (
        execute(app, three_steps(app, fails={}), data(heard), event_name="inngest/function.invoked")[0] == "completed"
    )
    assert heard.events()[-1]["type"] == "job_complete"


def test_the_reporter_takes_the_options_of_the_middleware(heard: Heard) -> None:
    middleware = progress_middleware(project_id=heard.project, job_id=lambda event, run_id: f"own_{run_id}")
    app = inngest.Inngest(app_id="a", is_production=False, middleware=[middleware])
    going = {"type": "progress", "jobId": "own_run", "jobType": "video", "progress": 50}
    publisher.broadcast_to_project(heard.project, going)
    execute(app, end_reporter(app), ended(heard, "cancelled"), event_name="inngest/function.cancelled")
    assert [(one["jobId"], one["type"]) for one in heard.events()][-1] == ("own_run", "job_failed")


def test_a_reporter_whose_job_is_not_known_says_so(
    heard: Heard, app: inngest.Inngest, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = end_reporter(app, job_id=lambda event, run_id: "other")
    execute(app, reporter, ended(heard, "cancelled"), event_name="inngest/function.cancelled")
    assert "nothing is known of job 'other'" in caplog.text


def test_the_reporter_says_nothing_of_jobs_that_ended_or_that_nobody_watches(
    heard: Heard, app: inngest.Inngest
) -> None:
    reporter = end_reporter(app)
    publisher.broadcast_to_project(heard.project, {"type": "job_complete", "jobId": "run", "jobType": "video"})
    heard.events()
    execute(app, reporter, ended(heard, "failed"), event_name="inngest/function.failed")
    no_project = {"event": {"name": "test", "data": {}}, "run_id": "run"}
    assert execute(app, reporter, no_project, event_name="inngest/function.failed")[0] == "completed"
    assert heard.events() == []


def test_the_reporter_is_no_job_itself_and_leaves_what_it_does_not_know_alone(heard: Heard) -> None:
    app = inngest.Inngest(
        app_id="a", is_production=False, middleware=[progress_middleware(project_id=heard.project, job_type="video")]
    )
    reporter = end_reporter(app, project_id=lambda event: event.data["tenant"])  # type: ignore[arg-type, return-value]
    for event in (ended(heard, "failed"), {}, {"event": {"name": "x", "data": {"tenant": "no id!"}}, "run_id": "r"}):
        assert execute(app, reporter, event, event_name="inngest/function.failed")[0] == "completed"
    assert heard.events() == []


def test_the_reporter_is_tried_again_where_redis_is_away(
    heard: Heard, app: inngest.Inngest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_event(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(client, "last_event", last_event)
    status, _ = execute(
        app, end_reporter(app), ended(heard, "failed"), event_name="inngest/function.failed", max_attempts=1
    )
    assert status == "failed"


# The SDK's own mock


@pytest.fixture
def closed_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK's mock runs each request in a loop of its own, and closes none."""
    loops: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        loops.append(new_event_loop())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", noted)
    yield
    for loop in loops:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.mark.usefixtures("closed_loops")
def test_in_the_mock_of_the_sdk(heard: Heard) -> None:
    app = mocked.Inngest(app_id="a", is_production=False, middleware=[progress_middleware()])
    function = three_steps(app, fails={"two": 1}, end=ValueError("the end"))
    result = mocked.trigger(function, inngest.Event(name="test", data=data(heard)), app)
    assert result.status is mocked.Status.FAILED
    story = heard.story()
    assert story == [
        (0, 0, None),
        (0, 30, "one"),
        (0, 31, "after one"),
        (0, 31, "ValueError: two broke; this step will be tried again"),
        (0, 31, "after one"),
        (0, 31, "trying again (2 of 4)"),
        (0, 60, "two"),
        # The mock does not count the tries of the next step from 0, as a function whose worker was killed.
        (1, 61, "after two"),
        (1, 61, "trying again (2 of 4)"),
        (1, 90, "three"),
        (2, 91, "ValueError: the end; it will be tried again"),
        (3, 91, "ValueError: the end; it will be tried again"),
        (4, 91, "after three"),
        (4, "job_failed", "ValueError: the end"),
    ]

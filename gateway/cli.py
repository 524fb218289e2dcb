"""The command `progress-gateway`: serve, demo, publish, watch."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
from pydantic import ValidationError
from redis.exceptions import RedisError

from gateway.redis_start import RedisUnusable, redis_for
from gateway.settings import Settings
from publisher.redis_advice import with_advice

USAGE, FAILURE = 2, 1  # exit statuses; 0 is an orderly end


def _stop(message: str, status: int = FAILURE) -> NoReturn:
    """End with one line that says what to do."""
    click.echo(f"progress-gateway: {message}", err=True)
    sys.exit(status)


def _explain(error: ValidationError, name_of: Callable[[str], str]) -> str:
    """A pydantic error in one line; `name_of` turns a field into the name that the user knows."""
    lines = []
    for details in error.errors(include_url=False):
        field = ".".join(str(part) for part in details["loc"] if not str(part).startswith("function-"))
        lines.append(f"{name_of(field)}: {details['msg']}" if field else details["msg"])
    return "; ".join(dict.fromkeys(lines))


def _setting_name(field: str) -> str:
    return field if field.isupper() else f"GATEWAY_{field.upper()} or --{field.replace('_', '-')}"


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A flag for each setting, made from the settings class: one place to add one."""
    for field, info in reversed(Settings.model_fields.items()):
        variable = str(info.validation_alias or f"GATEWAY_{field.upper()}")
        default = "" if info.default in (None, "", ()) else f"default {info.default}; "
        text = f"{info.description}  [{default}{variable}]"
        command = click.option(f"--{field.replace('_', '-')}", field, default=None, metavar="VALUE", help=text)(command)
    return command


def _read_settings(flags: dict[str, Any]) -> Settings:
    try:
        return Settings(**{field: value for field, value in flags.items() if value is not None})
    except ValidationError as error:
        _stop(_explain(error, _setting_name), USAGE)


def _start_logging(level: str) -> None:
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", level=level.upper(), stream=sys.stderr
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="progress-gateway")
def main() -> None:
    """Show people, live, how their background jobs go."""


@main.command()
@_settings_options
def serve(**flags: Any) -> None:
    """Run a replica of the gateway. Each setting is a flag and an environment variable; the flag wins."""
    _serve(_read_settings(flags), with_demo=False)


@main.command()
@_settings_options
def demo(**flags: Any) -> None:
    """Run a replica, jobs of the project `demo` that publish for ever, and a page to watch them."""
    _serve(_read_settings(flags), with_demo=True)


def _serve(settings: Settings, *, with_demo: bool) -> None:
    # Imported here, so that `publish` and `watch` start fast.
    import contextlib

    from gateway.server import listen, serve

    _start_logging(settings.log_level)
    # Until the server takes the signals over: they end what was started so far, and the process with status 0.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        listener = listen(settings)
    except OSError as error:
        reason = error.strerror or str(error)
        _stop(f"cannot listen on {settings.host}:{settings.port} ({reason}); choose another with --host and --port")
    with listener:
        try:
            with (
                redis_for(settings.redis_url, settings.redis_wait_seconds) as redis_url,
                contextlib.ExitStack() as stack,
            ):
                if with_demo:
                    from gateway.demo import DemoJobs

                    stack.enter_context(DemoJobs(redis_url, settings.namespace))
                    port = listener.getsockname()[1]
                    click.echo(f"\n  Watch the demo jobs:  http://127.0.0.1:{port}/?project=demo\n", err=True)
                serve(settings.model_copy(update={"redis_url": redis_url}), listener)
        except RedisUnusable as error:
            _stop(str(error), USAGE if error.is_usage else FAILURE)
        except KeyboardInterrupt:
            sys.exit(0)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _check_project(project: str) -> None:
    from publisher.names import check_project_id

    try:
        check_project_id(project)
    except ValidationError:
        _stop("PROJECT is 1 to 128 characters of A-Z a-z 0-9 _ - . : and begins with a letter or digit", USAGE)


_EVENT_TYPES = ["script", "audio", "image", "video", "export"]


@main.command()
@click.argument("project")
@click.argument("event", required=False)
@click.option("--job", "jobId", metavar="ID", help="The job's id.")
@click.option("--type", "jobType", type=click.Choice(_EVENT_TYPES), default="script", help="What the job makes.")
@click.option("--sentence", "sentenceId", metavar="ID", help="The sentence, of a job that works by sentences.")
@click.option("--attempt", type=int, help="Which try this is, from 0.")
@click.option("--progress", type=float, help="Percent, 0 to 100: the event is `progress`.")
@click.option("--message", help="With --progress: what goes on.")
@click.option("--next-within", "nextWithin", type=float, help="With --progress: seconds until the next event at most.")
@click.option("--complete", is_flag=True, help="The event is `job_complete`.")
@click.option("--file", help="With --complete: what was made.")
@click.option("--duration", type=float, help="With --complete: its duration in seconds.")
@click.option("--fail", "error", metavar="TEXT", help="The event is `job_failed`, with this error.")
@click.option("--redis-url", help="Redis, if not the one of REDIS_URL.")
@click.option("--namespace", help="Namespace, if not the one of PROGRESS_NAMESPACE.")
def publish(project: str, event: str | None, redis_url: str | None, namespace: str | None, **flags: Any) -> None:
    """Publish one event to PROJECT: EVENT as JSON (- reads it from standard input), or put together by flags.

    Prints the event's seq. Exits 1 if it was refused or could not be sent, 2 if it is no event.
    """
    from publisher import broadcast_to_project
    from publisher.settings import PublisherSettings

    if redis_url:
        os.environ["REDIS_URL"] = redis_url
    if namespace is not None:
        os.environ["PROGRESS_NAMESPACE"] = namespace
    _check_project(project)
    logging.getLogger("publisher").addHandler(logging.NullHandler())  # what it would log is said below
    try:
        seq = broadcast_to_project(project, _event_of(event, flags), strict=True)
    except ValidationError as error:
        _stop(_explain(error, lambda field: field.split(".", 1)[-1]), USAGE)
    except ValueError as error:
        _stop(str(error), USAGE)
    except RedisError as error:
        _stop(f"not sent: {with_advice(error)}")
    if seq is not None:
        click.echo(seq)
    elif PublisherSettings.from_environment().replay:
        _stop("refused: a later event of this job is known already (see `attempt` in docs/protocol.md)")


def _event_of(text: str | None, flags: dict[str, Any]) -> dict[str, Any]:
    if text is not None:
        if given := [name for name, value in flags.items() if value and name != "jobType"]:
            _stop(f"give an EVENT as JSON or by flags, not both ({', '.join(given)})", USAGE)
        try:
            event = json.loads(sys.stdin.read() if text == "-" else text)
        except (ValueError, RecursionError) as error:
            _stop(f"EVENT is not JSON: {error}", USAGE)
        if not isinstance(event, dict):
            _stop("EVENT is one JSON object", USAGE)
        return event
    if flags.pop("complete"):
        kind = "job_complete"
    elif flags["error"] is not None:
        kind = "job_failed"
    elif flags["progress"] is not None:
        kind = "progress"
    else:
        _stop("give an EVENT as JSON, or --progress, --complete or --fail; see --help", USAGE)
    result = {name: value for name in ("file", "duration") if (value := flags.pop(name)) is not None}
    event = {name: value for name, value in flags.items() if value is not None}
    if (progress := event.get("progress")) is not None and progress.is_integer():
        event["progress"] = int(progress)
    return {"type": kind, **event} | ({"result": result} if kind == "job_complete" else {})


@main.command()
@click.argument("project")
@click.option("--url", default="ws://127.0.0.1:3001/ws", show_default=True, help="The gateway.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line for each event.")
def watch(project: str, url: str, as_json: bool) -> None:
    """Watch PROJECT: live bars on a terminal, a line for each event elsewhere. Reconnects and resumes by itself."""
    from gateway.watch import watch as watch_project

    _check_project(project)
    sys.exit(asyncio.run(watch_project(url, project, as_json=as_json)))

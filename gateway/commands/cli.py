"""The command `progress-gateway`."""

from gateway.operations import signals  # first, for early signals: see there

# isort: split
import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel

from gateway.operations.configuration import Configuration, WrongConfiguration, configure, flag_of, variable_of
from gateway.operations.logs import LogFormat, start_logging
from gateway.operations.signals import ExitStatus
from gateway.settings import Settings, level_of, read_keys
from publisher.events import JOB_TYPES, NEXT, JobComplete, JobEvent, JobFailed, Progress, Reason, Result
from publisher.names import PROJECT_ID_RULE, check_project_id
from publisher.redaction import secrets_of
from publisher.transport.advice import with_advice

logger = logging.getLogger("gateway")


def _stop(message: str, status: ExitStatus = ExitStatus.FAILURE) -> NoReturn:
    """Exit with one line that says what is wrong and what to do."""
    click.echo(f"progress-gateway: {message}", err=True)
    sys.exit(status)


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for each setting, made from the settings class."""
    for field, info in reversed(Settings.model_fields.items()):
        default = "" if info.default in (None, "", ()) else f"default {info.default}; "
        text = f"{info.description}  [{default}{variable_of(field)}]"
        command = click.option(flag_of(field), field, default=None, metavar="VALUE", help=text)(command)
    return command


def _seconds_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    seconds = click.FloatRange(0, 3_600, min_open=True)
    return click.option("--seconds", type=seconds, default=default, show_default=True, help="How long to wait.")


_token_option = click.option(
    "--token-file", metavar="PATH", help="A file with the token, read at each connection; or set PROGRESS_TOKEN."
)


def _token(path: str | None) -> str | None:
    """The token of a viewer. It is never a flag: flags show in the list of processes."""
    if path is None:
        return os.environ.get("PROGRESS_TOKEN") or None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        _stop("--token-file must be the path of a file that can be read", ExitStatus.USAGE)
    if not token.isascii() or not token.isprintable():
        _stop("--token-file does not hold a token; get one with: progress-gateway token PROJECT", ExitStatus.USAGE)
    return token


def _configure(flags: dict[str, Any]) -> Configuration:
    try:
        return configure(flags)
    except WrongConfiguration as wrong:
        problems = wrong.problems
        heading = "" if len(problems) == 1 else f"{len(problems)} settings are wrong:\n  "
        _stop(heading + "\n  ".join(problems), ExitStatus.CONFIGURATION)


def _start_logging(settings: Settings) -> LogFormat:
    keys = [key.get_secret_value() for key in (*settings.publish_keys, *settings.admin_keys, *settings.jwt_secret)]
    return start_logging(level_of(settings), settings.log_format, secrets_of(settings.redis_url, keys))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="progress-gateway")
def main() -> None:
    """Show people the live progress of their background jobs."""


@main.command()
@click.option("--check-config", is_flag=True, help="Check the settings, print what is wrong or ok, and exit.")
@click.option("--print-config", is_flag=True, help="Print each setting and its source, without secrets, and exit.")
@_settings_options
def serve(check_config: bool, print_config: bool, **flags: Any) -> None:
    """Run a replica of the gateway. Each setting is a flag and an environment variable; the flag wins."""
    configuration = _configure(flags)
    if configuration.no_redis is not None:
        if not print_config:
            _stop(configuration.no_redis, ExitStatus.CONFIGURATION)
        configuration.remarks.append(configuration.no_redis)
    if not (check_config or print_config):
        _serve(configuration.settings, configuration.remarks, with_demo=False)
        return
    for remark in configuration.remarks:
        click.echo(f"progress-gateway: {remark}", err=True)
    _check_redis_url(configuration.settings.redis_url)
    click.echo("ok" if check_config else "\n".join(configuration.lines()))


@main.command()
@_settings_options
def demo(**flags: Any) -> None:
    """Run a replica and endless jobs of the project `demo`, and print the page that shows them."""
    configuration = _configure(flags)
    _serve(configuration.settings, configuration.remarks, with_demo=True)


def _check_redis_url(url: str | None) -> None:
    from gateway.feed.redis_start import RedisUnusable, check_url

    try:
        if url is not None:
            check_url(url)
    except RedisUnusable as error:
        _stop(str(error), error.status)


def _serve(settings: Settings, remarks: list[str], *, with_demo: bool) -> None:
    # Imported here, so that other commands start fast.
    from gateway.feed.redis_start import RedisUnusable
    from gateway.operations.ports import CannotListen

    # From here on every message is a log record.
    log_format = _start_logging(settings)
    is_text = log_format == "text"
    stop = _stop if is_text else _log_and_stop
    for remark in [*remarks, *_openness(settings)]:
        logger.warning("%s", remark)
    try:
        with contextlib.ExitStack() as stack:
            try:
                _start(settings, stack, log_format, with_demo=with_demo)
            finally:  # more signals must not interrupt the orderly end
                signals.no_more_signals()
    except (RedisUnusable, CannotListen) as error:
        stop(str(error), error.status)
    except KeyboardInterrupt:
        sys.exit(ExitStatus.OK)


def _openness(settings: Settings) -> Iterator[str]:
    """What an operator should know who asks for no tokens."""
    from gateway.http.hosts import is_loopback

    if settings.auth == "none" and not is_loopback(settings.host):
        yield (
            f"Anyone who reaches {settings.host} can watch every project: set GATEWAY_AUTH to jwt, or keep strangers "
            "away from this address (docs/security.md)"
        )
    if settings.auth == "none" and (settings.jwt_secret or settings.jwt_public_keys_file or settings.jwt_jwks_url):
        yield "Keys for tokens are set, but GATEWAY_AUTH is none: no token is asked for. Set it to jwt"


def _start(settings: Settings, stack: contextlib.ExitStack, log_format: LogFormat, *, with_demo: bool) -> None:
    """Start what a replica needs, then run the replica; the stack ends the rest."""
    from gateway.feed.redis_start import redis_for
    from gateway.operations.ports import bind
    from gateway.server import serve

    # Until the server sets its handlers. Who runs `demo` sits at the terminal, and ends it by closing that.
    signals.on_ending_signals(signals.interrupt, None if with_demo else signals.note_hangup)
    listener = stack.enter_context(bind(settings.host, settings.port))
    admin_listener = None
    if settings.admin_port is not None:
        admin_listener = stack.enter_context(bind(settings.admin_host or settings.host, settings.admin_port, "admin-"))
    redis_url = stack.enter_context(
        redis_for(settings.redis_url, settings.redis_wait_seconds, may_embed=settings.embedded_redis != "off")
    )
    if with_demo:
        from gateway.commands.demo import DemoJobs

        jobs = DemoJobs(redis_url, settings.namespace, log_level=settings.log_level, log_format=log_format)
        stack.enter_context(jobs)
        scheme = "http" if settings.tls_cert is None else "https"
        page = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/?project=demo"
        if log_format == "text":
            hint = "" if settings.auth == "none" else "  It asks for a token:  progress-gateway token demo\n"
            click.echo(f"\n  Watch the demo jobs:  {page}\n{hint}", err=True)
        else:
            logger.info("Watch the demo jobs: %s", page)
    settings = settings.model_copy(update={"redis_url": redis_url})
    serve(settings, listener, admin_listener, ends_on_hangup=with_demo)


def _log_and_stop(message: str, status: ExitStatus = ExitStatus.FAILURE) -> NoReturn:
    logger.critical("%s", message, extra={"status": int(status)})
    sys.exit(status)


def _check_project(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return value if context.resilient_parsing else check_project_id(value)
    except ValueError:
        _stop(f"PROJECT must be {PROJECT_ID_RULE}", ExitStatus.USAGE)


def _aliases(model: type[BaseModel]) -> set[str]:
    return {str(info.alias) for info in model.model_fields.values()}


# The flag that asks for each kind of event, and the fields that only this kind has.
_KINDS: dict[str, type[JobEvent]] = {"progress": Progress, "complete": JobComplete, "error": JobFailed}
_FIELDS = {flag: _aliases(model) - _aliases(JobEvent) - {"data"} for flag, model in _KINDS.items()}
_FIELDS["complete"] |= _aliases(Result)


def _read_attempt(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    try:
        return value if value in (None, NEXT) else int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a whole number or {NEXT!r}.") from None


def _complete_attempt(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _starting_with(incomplete, [NEXT])


def _complete_type(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _starting_with(incomplete, JOB_TYPES)


def _starting_with(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _read_data(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    return None if value is None or context.resilient_parsing else _read_object(value, "--data")


@main.command()
@click.argument("project", callback=_check_project)
@click.argument("event", required=False)
@click.option("--job", "jobId", metavar="ID", help="The job's id.")
@click.option(
    "--type", "jobType", metavar="NAME", shell_complete=_complete_type,
    help=f"The job's type, any name; {JOB_TYPES[0]} if not given. Pages have icons for {', '.join(JOB_TYPES)}.",
)  # fmt: skip
@click.option("--sentence", "sentenceId", metavar="ID", help="The sentence, if the job works by sentences.")
@click.option(
    "--attempt", callback=_read_attempt, shell_complete=_complete_attempt, metavar="N|next",
    help="The number of this attempt, from 0. With --progress: `next` begins a new attempt, and Redis numbers it.",
)  # fmt: skip
@click.option("--data", metavar="JSON", callback=_read_data, help="Data of your own, shown to viewers: a JSON object.")
@click.option("--progress", type=float, help="Publish `progress`: percent, 0 to 100.")
@click.option("--message", help="With --progress: what the job does now.")
@click.option("--next-within", "nextWithin", type=float, help="With --progress: seconds until the next event at most.")
@click.option("--complete", is_flag=True, help="Publish `job_complete`.")
@click.option("--file", help="With --complete: name or URL of the result.")
@click.option("--duration", type=float, help="With --complete: duration of the result in seconds.")
@click.option("--fail", "error", metavar="TEXT", help="Publish `job_failed` with this error.")
@click.option("--reason", type=click.Choice(get_args(Reason)), help="With --fail: why the job ended; default: error.")
@click.option("--redis-url", help="URL of Redis; default: REDIS_URL.")
@click.option("--namespace", help="Namespace; default: PROGRESS_NAMESPACE.")
def publish(project: str, event: str | None, redis_url: str | None, namespace: str | None, **flags: Any) -> None:
    """Publish one event to PROJECT: EVENT as JSON (-: from standard input), or an event made from flags.

    Prints the event's seq; where the event asked for the next attempt, the attempt's number after it: `SEQ NUMBER`.

    Exits with 1 if the event was refused or could not be sent, 2 if it is not valid. With PROGRESS_DISABLED=1 nothing
    is sent, and a valid event is 0.
    """
    from redis.exceptions import RedisError

    from publisher.client import publish_one
    from publisher.settings import PublisherSettings

    if redis_url:
        os.environ["REDIS_URL"] = redis_url
    if namespace is not None:
        os.environ["PROGRESS_NAMESPACE"] = namespace
    logging.getLogger("publisher").addHandler(logging.NullHandler())  # its errors are printed below
    try:
        fields = _event_of(event, flags)
        sent = publish_one(project, fields, strict=True)
    except ValueError as error:
        _stop(str(error), ExitStatus.USAGE)
    except RedisError as error:
        _stop(f"not sent: {with_advice(error)}")
    if sent.seq is not None:
        click.echo(sent.seq if sent.attempt is None else f"{sent.seq} {sent.attempt}")
    elif sent.replaced_by is not None:
        job = fields.get("jobId", fields.get("job_id"))
        _stop(f"refused: {job} was begun again elsewhere, as attempt {sent.replaced_by}")
    elif (settings := PublisherSettings.from_environment()).replay and not settings.disabled:
        _stop("refused: a later event of this job was published already (see `attempt` in docs/protocol.md)")


def _event_of(text: str | None, flags: dict[str, Any]) -> dict[str, Any]:
    option_of = {str(option.name): option.opts[0] for option in publish.params}
    given = {name: value for name, value in flags.items() if value is not None and value is not False}
    if text is not None:
        if given:
            names = ", ".join(option_of[name] for name in given)
            _stop(f"give an EVENT as JSON or by flags, not both ({names})", ExitStatus.USAGE)
        return _read_event(text)
    kinds = [flag for flag in _KINDS if flag in given]
    if not kinds:
        _stop("give an EVENT as JSON, or --progress, --complete or --fail; see --help", ExitStatus.USAGE)
    if len(kinds) > 1:
        names = " and ".join(option_of[flag] for flag in kinds)
        _stop(f"give only one of --progress, --complete and --fail, not {names}", ExitStatus.USAGE)
    [kind] = kinds
    for other, fields in _FIELDS.items():
        for name in sorted(fields & given.keys()):
            if other != kind:
                wrong = f"{option_of[name]} goes with {option_of[other]}, not with {option_of[kind]}"
                _stop(wrong, ExitStatus.USAGE)
    given.pop("complete", None)
    result = {name: given.pop(name) for name in _aliases(Result) if name in given}
    if (progress := given.get("progress")) is not None and progress.is_integer():
        given["progress"] = int(progress)
    event = {"type": _KINDS[kind].model_fields["type"].default, "jobType": JOB_TYPES[0]} | given
    return event | ({"result": result} if kind == "complete" else {})


def _read_event(text: str) -> dict[str, Any]:
    return _read_object(sys.stdin.read() if text == "-" else text, "EVENT")


def _read_object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        _stop(f"{name} is not JSON: {error}", ExitStatus.USAGE)
    if not isinstance(value, dict):
        _stop(f"{name} must be a JSON object", ExitStatus.USAGE)
    return value


@main.command()
@click.argument("project", callback=_check_project)
@click.option("--url", default="ws://127.0.0.1:3001/ws", show_default=True, help="WebSocket URL of the gateway.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@_token_option
def watch(project: str, url: str, as_json: bool, token_file: str | None) -> None:
    """Watch PROJECT: live bars on a terminal, else a line per event. Reconnects and resumes by itself."""
    from gateway.commands.watch import watch as watch_project

    sys.exit(asyncio.run(watch_project(url, project, as_json=as_json, get_token=partial(_token, token_file))))


@main.command()
@click.option("--url", help="The replica, as http://host:port; default: from GATEWAY_ADMIN_PORT or GATEWAY_PORT.")
@click.option("--ready", is_flag=True, help="Ask /readyz (can it deliver?) instead of /healthz (is it alive?).")
@_seconds_option(3)
def healthcheck(url: str | None, ready: bool, seconds: float) -> None:
    """Exit with 0 if the replica of this environment is healthy, else with 1 and a line that says why."""
    from gateway.commands.healthcheck import Unhealthy, address_of, check

    try:
        is_own = url is None
        if url is None:
            settings = configure({}).settings
            port = settings.port if settings.admin_port is None else settings.admin_port
            host = settings.host if settings.admin_port is None else settings.admin_host or settings.host
            has_tls = settings.admin_port is None and settings.tls_cert is not None
            url = address_of(host, port, "https" if has_tls else "http")
        check(url, "/readyz" if ready else "/healthz", seconds, is_own=is_own)
    except (Unhealthy, WrongConfiguration) as error:
        _stop(str(error))


@main.command()
@click.option(
    "--url", "urls", multiple=True, metavar="URL",
    help="Admin port of a replica, as http://host:port; repeat it for several; default: from GATEWAY_ADMIN_PORT.",
)  # fmt: skip
@click.option(
    "--key-file", metavar="PATH", help="A file with a key of GATEWAY_ADMIN_KEYS; not needed on the replica's machine."
)
@click.option("--interval", type=click.FloatRange(0.5, 60), default=2, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Print one look as a table, as where the output is no terminal, and exit.")
def top(urls: tuple[str, ...], key_file: str | None, interval: float, once: bool) -> None:
    """Show who is connected to replicas, how far each client is behind, and what is watched, until Ctrl-C.

    Exits with 1 if a replica cannot be asked (without --once: if none can be asked at the start).
    """
    from gateway.commands.healthcheck import Unhealthy, address_of
    from gateway.commands.top import Replicas
    from gateway.commands.top_views import show

    try:
        if not urls:
            settings = configure({}).settings
            if settings.admin_port is None:
                _stop("name an admin port with --url, or set GATEWAY_ADMIN_PORT", ExitStatus.USAGE)
            urls = (address_of(settings.admin_host or settings.host, settings.admin_port),)
        problems = show(Replicas(urls, _key(key_file)), interval, once=once)
    except (Unhealthy, WrongConfiguration) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        return
    if problems:
        _stop("\n  ".join(problems))


def _key(path: str | None) -> str | None:
    """A key is never a flag: flags show in the list of processes."""
    if path is None:
        return None
    try:
        return read_keys(Path(path))[0]
    except ValueError as error:
        _stop(f"--key-file: {error}", ExitStatus.USAGE)


@main.command()
@click.argument("project", default="canary", callback=_check_project)
@click.option("--url", help="The gateway, as ws://host:port/ws; default: from GATEWAY_PORT.")
@_seconds_option(5)
@_token_option
def canary(project: str, url: str | None, seconds: float, token_file: str | None) -> None:
    """Publish an event to PROJECT as a job does, and wait for it at /ws as a page does.

    Prints how many milliseconds it took. Exits with 1 and a line that says where the event was lost.
    """
    from gateway.commands.canary import Dead
    from gateway.commands.canary import canary as fly
    from gateway.commands.healthcheck import Unhealthy, address_of

    logging.getLogger("publisher").addHandler(logging.NullHandler())  # its errors are printed below
    try:
        settings = configure({}).settings
        # Publish to the Redis of this environment's replica; its URL may be in a file, which publishers do not read.
        if settings.redis_url is not None:
            os.environ["REDIS_URL"] = settings.redis_url
        os.environ["PROGRESS_NAMESPACE"] = settings.namespace
        certificate = settings.tls_cert if url is None else None
        url = url or address_of(settings.host, settings.port, "wss" if certificate else "ws") + "/ws"
        click.echo(f"{asyncio.run(fly(url, project, seconds, _token(token_file), certificate)) * 1000:.1f}")
    except (Dead, Unhealthy, WrongConfiguration) as error:
        _stop(str(error))


@main.command()
@click.argument("projects", nargs=-1, required=True, metavar="PROJECT...")
@click.option("--sub", metavar="USER", help="The user's id; `revoke` refuses all tokens of a user.")
@click.option("--seconds", type=float, default=3_600, show_default=True, help="How long the token is valid.")
@click.option("--publish", multiple=True, metavar="PROJECT", help="Projects to which it may post events by HTTP.")
@click.option("--audience", metavar="TEXT", help="The claim `aud`, where the gateway asks for it.")
@click.option("--issuer", metavar="TEXT", help="The claim `iss`, where the gateway asks for it.")
def token(projects: tuple[str, ...], publish: tuple[str, ...], **claims: Any) -> None:
    """Print a token that may watch each PROJECT: an id, `prefix*`, or `*` for all.

    Signed with HS256 and the first secret of GATEWAY_JWT_SECRET, or of the file GATEWAY_JWT_SECRET_FILE.
    """
    from publisher.tokens import mint

    try:
        click.echo(mint(projects, publish=publish, **claims))
    except ValueError as error:
        _stop(str(error), ExitStatus.USAGE)


@main.command()
@click.argument("sub")
@click.option("--redis-url", help="URL of Redis; default: REDIS_URL.")
@click.option("--namespace", help="Namespace; default: PROGRESS_NAMESPACE.")
def revoke(sub: str, redis_url: str | None, namespace: str | None) -> None:
    """Refuse all tokens of the user SUB that were issued before now, and close this user's connections."""
    from redis.exceptions import RedisError

    from publisher.client import revoke_viewer

    if redis_url:
        os.environ["REDIS_URL"] = redis_url
    if namespace is not None:
        os.environ["PROGRESS_NAMESPACE"] = namespace
    try:
        revoke_viewer(sub)
    except ValueError as error:
        _stop(str(error), ExitStatus.USAGE)
    except RedisError as error:
        _stop(f"not revoked: {with_advice(error)}")

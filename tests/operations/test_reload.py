"""SIGHUP: what is read again, what a bad file does, and that nothing ends."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from gateway.app import create_app
from gateway.operations.logs import TextFormatter
from gateway.settings import Settings, level_of
from publisher.tokens import mint
from tests.contract.client import connect
from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer, Replica, free_port
from tests.starlette_client import TestClient

OLD, NEW, THIRD = "an-old-key-0123456789", "a-new-key-0123456789", "a-third-key-0123456789"
SECRET, NEW_SECRET = "s" * 32, "n" * 32
EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    level = root.level
    yield root
    root.setLevel(level)


def files(directory: Path, **texts: str) -> dict[str, Path]:
    """Files by the setting that names them."""
    paths = {}
    for name, text in texts.items():
        paths[name] = directory / name
        paths[name].write_text(text)
    return paths


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway"]


async def test_keys_of_all_kinds_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    given = files(tmp_path, publish_keys_file=OLD, admin_keys_file=OLD, jwt_secret_file=SECRET)
    app = create_app(Settings(admin_port=4_001, auth="jwt", **given))  # type: ignore[arg-type]
    stranger = TestClient(app.state.admin, client=("10.0.0.7", 1))

    def taken(key: str) -> tuple[int, int]:
        headers = {"authorization": f"Bearer {key}"}
        listed = stranger.get("/admin/clients", headers=headers)
        return listed.status_code, stranger.post("/projects/p/events", headers=headers).status_code

    assert (taken(OLD), taken(NEW)) == ((200, 422), (401, 401))
    files(tmp_path, publish_keys_file=f"{NEW}\n{THIRD}\n", admin_keys_file=f"{NEW}\n", jwt_secret_file=NEW_SECRET)
    await app.state.reload.run()
    assert (taken(OLD), taken(NEW)) == ((401, 401), (200, 422))
    assert said(caplog)[-1] == "Read again: admin keys: 1, publish keys: 2, keys for tokens: 1"
    authority = app.state.hub.authority
    assert str(await authority.verdict_on(mint(["p"], secret=NEW_SECRET))).startswith("Grant")
    assert not str(await authority.verdict_on(mint(["p"], secret=SECRET))).startswith("Grant")


@pytest.mark.parametrize("content", [None, "", "short", f"{NEW} {NEW}", "\0" * 70_000])
async def test_a_bad_file_keeps_what_was_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    caplog.set_level("INFO")
    given = files(tmp_path, publish_keys_file=OLD, admin_keys_file=OLD)
    app = create_app(Settings(admin_port=4_001, **given))  # type: ignore[arg-type]
    stranger = TestClient(app.state.admin, client=("10.0.0.7", 1))
    files(tmp_path, publish_keys_file=NEW)
    if content is None:
        given["admin_keys_file"].unlink()
    else:
        given["admin_keys_file"].write_text(content)
    await app.state.reload.run()
    assert stranger.get("/admin/clients", headers={"authorization": f"Bearer {OLD}"}).status_code == 200
    assert stranger.post("/projects/p/events", headers={"authorization": f"Bearer {NEW}"}).status_code == 422
    [error, line] = [record for record in caplog.records if record.name == "gateway"][-2:]
    assert (error.levelname, line.levelname) == ("ERROR", "INFO")
    assert error.getMessage().startswith("GATEWAY_ADMIN_KEYS_FILE cannot be used, what was read before stays: ")
    assert line.getMessage() == "Read again: publish keys: 1"
    assert NEW not in caplog.text


async def test_without_files_there_is_nothing_to_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await create_app(Settings()).state.reload.run()
    assert said(caplog) == ["Read again: nothing, because no setting names a file"]


async def test_the_level_of_the_log_follows_its_file(tmp_path: Path, root: logging.Logger) -> None:
    path = tmp_path / "level"
    app = create_app(Settings(log_level="warning", log_level_file=path))
    for text, level in (("debug\n", "DEBUG"), ("ERROR", "ERROR"), ("loud", "ERROR"), ("", "WARNING")):
        path.write_text(text)
        await app.state.reload.run()
        assert logging.getLevelName(root.level) == level
    path.write_text("debug")
    await app.state.reload.run()
    path.unlink()
    await app.state.reload.run()
    assert logging.getLevelName(root.level) == "WARNING"


def test_the_file_of_the_level_counts_at_the_start_and_need_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "level"
    assert level_of(Settings(log_level_file=path)) == "info"
    path.write_text("debug")
    assert level_of(Settings(log_level_file=path)) == "debug"
    path.write_text("loud")
    with pytest.raises(ValidationError, match="must hold one word: debug, info, warning, error"):
        Settings(log_level_file=path)


async def test_a_new_key_is_kept_out_of_the_log(tmp_path: Path) -> None:
    given = files(tmp_path, admin_keys_file=OLD)
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter([OLD]))
    logging.getLogger().addHandler(handler)
    try:
        app = create_app(Settings(admin_port=4_001, **given))  # type: ignore[arg-type]
        given["admin_keys_file"].write_text(NEW)
        await app.state.reload.run()
        said = handler.format(logging.makeLogRecord({"msg": f"{OLD} {NEW}"}))
        assert OLD not in said
        assert NEW not in said
    finally:
        logging.getLogger().removeHandler(handler)


async def test_a_hangup_ends_no_connection_and_no_replica(
    redis_server: RedisServer, project: str, tmp_path: Path
) -> None:
    given = files(tmp_path, publish_keys_file=OLD, log_level_file="info")
    settings: dict[str, Any] = {"admin_port": (admin := free_port()), "log_format": "json"}
    replica = Replica(redis_server.url, tmp_path / "log", **settings, **given)  # type: ignore[arg-type]
    try:
        replica.wait_ready()

        def post(key: str) -> int:
            url = f"http://127.0.0.1:{admin}/projects/{project}/events"
            return httpx.post(url, json=EVENT, headers={"authorization": f"Bearer {key}"}, timeout=30).status_code

        async with connect(replica.ws) as client:
            await client.subscribe(project)
            given["publish_keys_file"].write_text(NEW)
            given["log_level_file"].write_text("debug")
            replica.signal(signal.SIGHUP)
            wait_for(
                lambda: "Read again: log level: debug, publish keys: 1" in replica.log, "the files to be read again"
            )
            assert (post(OLD), post(NEW)) == (401, 202)
            assert (await client.until_type("progress"))[-1]["progress"] == 40
            given["publish_keys_file"].write_text("short")
            for _ in range(3):
                replica.signal(signal.SIGHUP)
            wait_for(lambda: "what was read before stays" in replica.log, "the error")
            assert post(NEW) == 202
        assert replica.stop() == 0
    finally:
        replica.end()

"""The log of a live replica, as a program reads it: every line is a record, whatever clients and Redis do."""

import asyncio
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from .client import connect, watching
from .conftest import Launch
from .deadlines import eventually, wait_for
from .events import progress
from .processes import Process, RedisServer, environment, free_port, run, run_gateway
from .raw import raw_socket, request

KEY, PASSWORD = "0123456789abcdef-the-key", "hunter2-the-password"
FORGED = (
    '\n{"ts":"2026-01-01T00:00:00.000Z","level":"error","logger":"gateway","message":"forged"}\n\x1b[2J12:00 forged'
)


def records(text: str) -> list[dict[str, Any]]:
    """Each line, which has to be a record."""
    read = [json.loads(line) for line in text.splitlines()]
    for record in read:
        assert list(record)[:4] == ["ts", "level", "logger", "message"], record
        assert datetime.fromisoformat(record["ts"])
    return read


@pytest.mark.parametrize("log_format", ["auto", "text"])
async def test_a_log_cannot_be_forged_and_shows_no_secret(
    launch: Launch, own_redis: RedisServer, project: str, log_format: str
) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", PASSWORD)
    own_redis.command("AUTH", PASSWORD)
    url = f"redis://:{PASSWORD}@127.0.0.1:{own_redis.port}/0"
    settings: dict[str, Any] = {
        "log_format": log_format,
        "log_level": "debug",
        "publish_keys": KEY,
        "max_bad_messages": 2,
    }
    replica = launch(url, **settings)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for key in (KEY, f"{KEY}x"):
            headers = {"Authorization": f"Bearer {key}", "User-Agent": "a\tforged"}
            event = progress("secret job", message=f"secret message{FORGED}")
            await http.post(f"{replica.http}/projects/{project}/events", json=event, headers=headers)
    async with raw_socket(replica.port) as raw:
        await raw.send(b"GET /\x1b[2J\x00 forged\r\n\r\n")
        await raw.ended()
    async with raw_socket(replica.port) as raw:
        await raw.send(request(replica.port, path="/ws?token=secret-token%0aforged", origin="https://forged\x1b[2J"))
        await raw.status()
    async with watching(replica.ws, project) as client:
        own_redis.publish(project, progress("job", message=f"secret message{FORGED}"))
        own_redis.publish(project, f"no event secret payload{FORGED}")
        await client.until_job("job")
    async with connect(replica.ws) as client:
        for _ in range(2):
            await client.send_raw(f"secret text{FORGED}")
        assert await client.closed() == 1008
    own_redis.kill()
    await eventually(lambda: "Clients are told" in replica.log, "the loss to be logged")
    assert await asyncio.to_thread(replica.stop) == 0
    log = replica.log
    assert not [word for word in (KEY, PASSWORD, "secret", "\x1b") if word in log], log
    assert "Ended in order" in log
    if log_format == "auto":
        assert {record["logger"].partition(".")[0] for record in records(log)} >= {"gateway", "redis"}
        assert not [record for record in records(log) if record["message"] == "forged"]
    else:
        assert all(line[2] == line[5] == ":" for line in log.splitlines()), log


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_the_demo_jobs_write_records_too(own_redis: RedisServer, tmp_path: Path, how: str) -> None:
    """They lose their Redis, and each logs it."""
    env = environment(own_redis.url, GATEWAY_PORT=0) | ({} if how == "flag" else {"GATEWAY_LOG_FORMAT": "json"})
    flags = ["--log-format=json"] if how == "flag" else []
    demo = Process([sys.executable, "-m", "gateway", "demo", *flags], env, tmp_path / "log")
    try:
        wait_for(lambda: "Watch the demo jobs" in demo.log, "the page to be told")
        own_redis.kill()
        wait_for(lambda: '"logger": "publisher' in demo.log, "a job to tell that Redis is away", 30)
    finally:
        demo.end()
    assert {record["logger"] for record in records(demo.log)} >= {"gateway", "publisher"}


def test_without_standard_error_it_serves_all_the_same(redis_server: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", CLOSED, sys.executable, "-m", "gateway", "serve"]
    env = environment(redis_server.url, GATEWAY_PORT=port, GATEWAY_LOG_FORMAT="auto")
    with subprocess.Popen(command, env=env) as replica:
        try:
            wait_for(lambda: answers(port), "the replica to answer")
        finally:
            replica.terminate()
            assert replica.wait(30) == 0


CLOSED = "import os, sys; os.close(2); os.execv(sys.argv[1], sys.argv[1:])"


def answers(port: int) -> bool:
    with httpx.Client(trust_env=False, timeout=30) as http:
        try:
            return http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False


def test_a_start_that_fails_is_a_record_too(tmp_path: Path) -> None:
    env = environment(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}", GATEWAY_PORT=0, GATEWAY_REDIS_WAIT_SECONDS=0.1)
    done = run_gateway("serve", "--log-format=auto", env=env)
    *_, last = records(done.stderr)
    assert (done.returncode, last["status"], last["level"]) == (75, 75, "critical")
    assert "GATEWAY_REDIS_WAIT_SECONDS" in last["message"]
    assert PASSWORD not in done.stderr


def test_a_crash_is_a_record_and_status_1() -> None:
    code = (
        "import gateway.server\ndef crash(*_, **__): raise RuntimeError('it\\nforged')\ngateway.server.serve = crash\n"
    )
    code += "import gateway.feed.redis_start, contextlib\n"
    code += "gateway.feed.redis_start.redis_for = lambda *_, **__: contextlib.nullcontext('redis://unused')\n"
    code += "from gateway.commands.cli import main\nmain(['serve', '--port=0', '--log-format=json'])"
    done = run([sys.executable, "-c", code], environment(None), within=30)
    assert done.returncode == 1
    *_, last = records(done.stderr)
    assert (last["level"], last["message"]) == ("critical", "Ended by an error: RuntimeError")
    assert "it\nforged" in last["exception"]

"""Centrifugo: plain publish and subscribe over Redis, and with history and recovery, which is nearest to the gateway.

Its users publish by its HTTP or GRPC API, which costs CPU in its process. The benchmark spares it that and writes into
Redis what its broker would write: the protobuf message by PUBLISH, and with history its stream and position first.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench.intake import Intake, redis_command
from bench.peers.peer import Peer
from bench.servers import LOOPBACK, Kind
from bench.toolchain import BUILD

VERSION = "6.9.1"
MODULE = "github.com/centrifugal/centrifugo/v6"
INSTALL = (
    f"GOBIN=$PWD/bench/build go install -ldflags '-X {MODULE}/internal/build.Version={VERSION}' {MODULE}@v{VERSION}"
)

HISTORY_SIZE = 300  # as many as a client may recover at once (client.recovery_max_publication_limit)
HISTORY_SECONDS = 3600  # the gateway's, too
META_SECONDS = 30 * 24 * 3600  # its default
HISTORY: dict[str, object] = {
    "history_size": HISTORY_SIZE,
    "history_ttl": f"{HISTORY_SECONDS}s",
    "force_recovery": True,
}

# What its own script (centrifuge, internal/redis_lua/broker_history_add_stream.lua) does for a publication without an
# idempotency key, a delta or a version. The answer is that of PUBLISH, so that the benchmark sees who heard it.
ADD_TO_HISTORY = f"""
local epoch = redis.call("hget", KEYS[2], "e")
if not epoch then
    epoch = "bench"
    redis.call("hset", KEYS[2], "e", epoch)
end
local offset = redis.call("hincrby", KEYS[2], "s", 1)
redis.call("expire", KEYS[2], {META_SECONDS})
if offset == 1 then redis.call("del", KEYS[1]) end
redis.call("xadd", KEYS[1], "MAXLEN", {HISTORY_SIZE}, offset, "d", ARGV[1])
redis.call("expire", KEYS[1], {HISTORY_SECONDS})
return redis.call("publish", ARGV[2], "__p1:" .. offset .. ":" .. epoch .. "__" .. ARGV[1])
"""
_SCRIPT_SHA = hashlib.sha1(ADD_TO_HISTORY.encode(), usedforsecurity=False).hexdigest().encode()


def publication(event: bytes) -> bytes:
    """The protobuf message `Publication` of its client protocol, with nothing but field 4, `data`."""
    size, length = len(event), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return b"\x22" + length + bytes([size]) + event


def _publish(project: int, event: bytes) -> bytes:
    return redis_command(b"PUBLISH", b"centrifugo.client.bench-%d" % project, publication(event))


def _publish_with_history(project: int, event: bytes) -> bytes:
    channel = b"bench-%d" % project
    keys = b"centrifugo.stream." + channel, b"centrifugo.stream.meta." + channel
    arguments = publication(event), b"centrifugo.client." + channel
    return redis_command(b"EVALSHA", _SCRIPT_SHA, b"2", *keys, *arguments)


def settings(port: int, redis_port: int, channel: dict[str, object]) -> dict[str, Any]:
    """Its configuration: what the benchmark needs, and the defaults."""
    return {
        "http_server": {"address": LOOPBACK, "port": port},
        "engine": {"type": "redis", "redis": {"address": [f"redis://{LOOPBACK}:{redis_port}"]}},
        "client": {"allow_anonymous_connect_without_token": True, "allowed_origins": ["http://localhost:3000"]},
        "channel": {
            "without_namespace": {
                "allow_subscribe_for_client": True,
                "allow_subscribe_for_anonymous": True,
                **channel,
            }
        },
        "health": {"enabled": True},
        "usage_stats": {"disabled": True},
        "log": {"level": "warn"},
    }


def find_program() -> Path | None:
    found = shutil.which("centrifugo") or shutil.which("centrifugo", path=str(BUILD))
    return Path(found) if found else None


def _command(port: int, redis_port: int, *, channel: dict[str, object]) -> list[str]:
    configuration = BUILD / "centrifugo.json"
    configuration.write_text(json.dumps(settings(port, redis_port, channel), indent=2))
    return [str(find_program()), "-c", str(configuration)]


def _prepare() -> str | None:
    if find_program() is None:
        _build()
    program = find_program()
    if program is None:
        return None
    said = subprocess.run([str(program), "version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"v(\S+) \((.*)\)", said)
    return f"{version[1]}, {version[2]}" if version else said.strip()


def _build() -> None:
    """Into bench/build, if Go is at hand."""
    compiler = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if compiler is None:
        return
    print(f"Building Centrifugo {VERSION} into bench/build/ (once, some minutes) ...", file=sys.stderr, flush=True)
    BUILD.mkdir(exist_ok=True)
    flags = f"-X {MODULE}/internal/build.Version={VERSION}"
    command = [compiler, "install", "-ldflags", flags, f"{MODULE}@v{VERSION}"]
    built = subprocess.run(
        command, env={**os.environ, "GOBIN": str(BUILD)}, capture_output=True, text=True, check=False
    )
    if built.returncode:
        print(f"Centrifugo was not built:\n{built.stderr[-1500:]}", file=sys.stderr)


def _kind(name: str, channel: dict[str, object], intake: Intake) -> Kind:
    return Kind(name, partial(_command, channel=channel), dialect="centrifugo", intake=intake, ready_path="/health")


PEER = Peer(
    name="Centrifugo",
    prepare=_prepare,
    install=INSTALL,
    kinds=(
        _kind("centrifugo", {}, Intake(_publish)),
        _kind("centrifugo-history", HISTORY, Intake(_publish_with_history, script=ADD_TO_HISTORY)),
    ),
    settings={
        "centrifugo": "Redis engine, anonymous clients, JSON protocol, no history",
        "centrifugo-history": "the same, with " + ", ".join(f"{name} {value}" for name, value in HISTORY.items()),
    },
)

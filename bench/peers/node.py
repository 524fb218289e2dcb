"""Node: a server with the package `ws`, and one with Socket.IO, each some 30 lines, as their users write them."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from bench.peers.peer import Peer
from bench.servers import Kind

HERE = Path(__file__).parent / "node"


def _command(port: int, redis_port: int, *, server: str) -> list[str]:
    return ["node", str(HERE / server), str(port), str(redis_port)]


def _prepare(package: str) -> str | None:
    manifest = HERE / "node_modules" / package / "package.json"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    if not manifest.exists():
        print("Installing the servers of Node into bench/peers/node (once) ...", file=sys.stderr, flush=True)
        done = subprocess.run(["npm", "ci"], cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"npm ci failed:\n{done.stderr[-1500:]}", file=sys.stderr)
            return None
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    redis = json.loads((HERE / "node_modules/redis/package.json").read_text())["version"]
    return f"{json.loads(manifest.read_text())['version']}, Node {node}, redis {redis}"


def _peer(name: str, kind: Kind, package: str, settings: str) -> Peer:
    return Peer(
        name=name,
        prepare=partial(_prepare, package),
        install="apt install nodejs npm",
        kinds=(kind,),
        settings={kind.name: settings},
    )


WS = _peer(
    "ws",
    Kind("ws", partial(_command, server="ws-server.js")),
    "ws",
    "ws-server.js: a Set of sockets for each project",
)
SOCKET_IO = _peer(
    "Socket.IO",
    Kind("socketio", partial(_command, server="socketio-server.js"), dialect="socketio"),
    "socket.io",
    "socketio-server.js: a room for each project, fed from Redis; WebSocket from the start",
)

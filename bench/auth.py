"""`python -m bench auth`: what tokens cost: the CPU time of a handshake, of a forged token, and the memory of a viewer.

Each kind of key has a server of its own, and all are asked in turn, so that a slow moment hits all of them. A handshake
is a page's, with `Origin`, from the TCP connection to the first message; one that is refused ends with the close frame.
"""

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from bench.process import Child
from bench.servers import LOOPBACK, Ground, Kind, run_server

HANDSHAKES = 1_000
IDLE_FIRST, IDLE_MORE = 1_000, 4_000
SECRET = "a-secret-of-the-benchmark-with-32-bytes"
UPGRADE = (
    "GET /ws{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Case(NamedTuple):
    """One kind of key, and how a token is made for it."""

    name: str
    flags: tuple[str, ...]
    sign: Callable[[dict[str, Any]], str] | None


def claims(number: int = 0) -> dict[str, Any]:
    return {"sub": f"user_{number}", "projects": [f"film_{number}"], "exp": int(time.time()) + 3_600, "iat": 1}


def _es256(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "a"}


@contextmanager
def _provider(jwks: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(jwks).encode())

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{LOOPBACK}:{server.server_port}/"
        server.shutdown()


def cases(directory: Path, url: str, key: ec.EllipticCurvePrivateKey) -> list[Case]:
    keys: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65_537, 2_048), "ES256": key, "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }  # fmt: skip
    found = [
        Case("none", (), None),
        Case("HS256", ("--auth=jwt", f"--jwt-secret={SECRET}"), lambda given: jwt.encode(given, SECRET, "HS256")),
    ]
    for name, private in keys.items():
        path = directory / name
        path.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        flags = ("--auth=jwt", f"--jwt-public-keys-file={path}")
        found.append(Case(name, flags, lambda given, key=private, name=name: jwt.encode(given, key, name)))
    flags = ("--auth=jwt", f"--jwt-jwks-url={url}")
    found.append(Case("JWKS (ES256)", flags, lambda given: jwt.encode(given, key, "ES256", headers={"kid": "a"})))
    return found


def shake(port: int, token: str, *, is_forged: bool = False) -> socket.socket:
    """One handshake, and the first frame behind it."""
    connection = socket.create_connection((LOOPBACK, port))
    query = f"?token={token}" if token else ""
    connection.sendall(UPGRADE.format(query=query, port=port).encode())
    data = b""
    while b"\r\n\r\n" not in data or not data.split(b"\r\n\r\n", 1)[1]:
        piece = connection.recv(4_096)
        assert piece, data
        data += piece
    head, frame = data.split(b"\r\n\r\n", 1)
    assert b" 101 " in head, head
    assert (frame[0] == 0x88) == is_forged, frame
    return connection


def cost_us(server: Child, port: int, tokens: list[str], *, is_forged: bool) -> float:
    before = server.cpu_seconds()
    for token in tokens:
        shake(port, token, is_forged=is_forged).close()
    time.sleep(0.1)
    return (server.cpu_seconds() - before) / len(tokens) * 1e6


def forged(token: str) -> str:
    """The same with one other letter in its signature: it has the form of one, so its check costs the same."""
    middle = token.rindex(".") + 20
    return f"{token[:middle]}{'A' if token[middle] != 'A' else 'B'}{token[middle + 1 :]}"


def run_auth(ground: Ground, rounds: int) -> str:
    """The table, as Markdown."""
    key = ec.generate_private_key(ec.SECP256R1())
    costs: dict[tuple[str, bool], list[float]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(_provider({"keys": [_es256(key)]}))
        every = cases(directory, url, key)
        running = [(case, *stack.enter_context(run_server(_kind(case.flags), ground))) for case in every]
        for number in range(rounds + 1):  # the first one warms up
            for case, server, port in running:
                tokens = [case.sign(claims(n)) for n in range(HANDSHAKES)] if case.sign else [""] * HANDSHAKES
                for is_forged in (False, True) if case.sign else (False,):
                    sent = list(map(forged, tokens)) if is_forged else tokens
                    cost = cost_us(server, port, sent, is_forged=is_forged)
                    if number:
                        costs.setdefault((case.name, is_forged), []).append(cost)
                    kind = " forged" if is_forged else ""
                    print(f"auth round {number}/{rounds} {case.name}{kind} {cost:.0f} us", file=sys.stderr, flush=True)
    none = costs["none", False]
    lines = ["| token | CPU of a handshake | ratio to none | forged: ratio to none |", "| --- | --- | --- | --- |"]
    for case in every:
        good = costs[case.name, False]
        bad = f"{_ratio(costs[case.name, True], none):.2f}" if case.sign else ""
        lines.append(f"| {case.name} | {statistics.median(good):.0f} us | {_ratio(good, none):.2f} | {bad} |")
    return "\n".join([*lines, "", *_memory(ground)])


def _ratio(costs: list[float], none: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(cost / base for cost, base in zip(costs, none, strict=True))


def _memory(ground: Ground) -> list[str]:
    """The memory of one more idle connection, without and with a token that no other viewer has."""
    lines = ["| idle connection | bytes |", "| --- | --- |"]
    for name, flags, has_token in (
        ("without GATEWAY_AUTH", (), False),
        ("GATEWAY_AUTH=jwt, with a token", ("--auth=jwt", f"--jwt-secret={SECRET}"), True),
        ("GATEWAY_AUTH=jwt, before its token", ("--auth=jwt", f"--jwt-secret={SECRET}", "--auth-seconds=600"), False),
    ):
        with run_server(_kind(flags), ground) as (server, port):
            held = []

            def hold(count: int, port: int = port, held: list[socket.socket] = held, given: bool = has_token) -> None:
                for _ in range(count):
                    token = jwt.encode(claims(len(held)), SECRET, "HS256") if given else ""
                    held.append(shake(port, token))

            hold(IDLE_FIRST)
            before = server.pss_bytes()
            hold(IDLE_MORE)
            lines.append(f"| {name} | {(server.pss_bytes() - before) / IDLE_MORE:.0f} |")
            for connection in held:
                connection.close()
    return lines


def _kind(flags: tuple[str, ...]) -> Kind:
    return Kind("gateway", lambda port, _: [sys.executable, "-m", "gateway", "serve", "--port", str(port), *flags])

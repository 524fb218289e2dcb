"""Keys that change while a replica runs: a file that is written anew, and a JWKS that is away, slow or wrong."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.auth import authority as authority_module
from gateway.auth import key_sources as module
from gateway.auth.authority import Authority, Verdict
from gateway.auth.grant import Grant
from gateway.auth.key_sources import FileSource, JwksSource, fetch_jwks
from gateway.auth.keys import KeySet, public_keys, secret_keys, split_secrets
from gateway.auth.refusal import CannotDecide, NotAuthorised
from gateway.auth.tokens import Rules
from tests.auth.keys import OLD_SECRET, SECRET, claims, hs256, jwk, jwks, part, signed
from tests.contract.deadlines import PATIENCE


class Server:
    """A server of a JWKS. `answer` writes the whole answer."""

    def __init__(self) -> None:
        self.requests = 0
        self.body = jwks(jwk("ES256", "a")).encode()
        self.status = 200
        self.release = threading.Event()
        self.release.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                outer.release.wait(PATIENCE)
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                try:
                    self.wfile.write(outer.body)
                except OSError:
                    pass

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


class Counting:
    """A fetch that counts, fails or waits as it is told."""

    def __init__(self, *results: KeySet | Exception) -> None:
        self.calls = 0
        self.results = list(results)
        self.release = threading.Event()
        self.release.set()

    def __call__(self, url: str) -> KeySet:
        self.calls += 1
        self.release.wait(PATIENCE)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


KEYS_A, KEYS_AB = jwks(jwk("ES256", "a")), jwks(jwk("ES256", "a"), jwk("ES256", "b"))
TOKEN_A, TOKEN_B = signed("ES256", claims(exp=2**32), kid="a"), signed("ES256", claims(exp=2**32), kid="b")
FOREVER = Rules(1e10)


def keys_of(text: str) -> KeySet:
    return public_keys(text)


async def until(is_true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.005)


async def decided(authority: Authority, token: str) -> Verdict:
    verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    authority.decide(token, verdict.set_result)
    async with asyncio.timeout(PATIENCE):
        return await verdict


# The URL


def test_a_jwks_is_fetched(server: Server) -> None:
    assert fetch_jwks(server.url).algorithms == {"ES256"}


@pytest.mark.parametrize("status", [301, 404, 500])
def test_an_answer_that_is_not_200_is_an_error_and_redirections_are_not_followed(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(OSError, match=str(status)):
        fetch_jwks(server.url)
    assert server.requests == 1


def test_an_answer_of_10_mb_is_not_read_to_its_end(server: Server) -> None:
    server.body = b" " * (10 << 20)
    with pytest.raises(ValueError, match="longer than 1048576 bytes"):
        fetch_jwks(server.url)


def test_an_answer_that_is_no_jwks_is_an_error(server: Server) -> None:
    for body in (b"", b"<html>", b"\xff", b"{}"):
        server.body = body
        with pytest.raises(ValueError, match=r"JWKS|codec"):
            fetch_jwks(server.url)


async def test_a_slow_server_keeps_tokens_waiting_for_a_while_only_and_not_the_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    server.release.clear()
    authority = Authority(JwksSource(server.url), FOREVER)
    running = asyncio.create_task(authority.run())
    assert isinstance(await decided(authority, TOKEN_A), CannotDecide)
    server.release.set()
    await until(lambda: authority.has_keys, "the keys come in the end")
    assert isinstance(await decided(authority, TOKEN_A), Grant)
    assert server.requests == 1
    running.cancel()


async def test_an_unknown_kid_waits_for_one_fetch_and_is_then_decided() -> None:
    fetch = Counting(keys_of(KEYS_A), keys_of(KEYS_AB))
    authority = Authority(JwksSource("https://x/", fetch), FOREVER)
    running = asyncio.create_task(authority.run())
    await until(lambda: authority.has_keys, "the first fetch ends")
    assert isinstance(await decided(authority, TOKEN_B), Grant)
    assert fetch.calls == 2
    running.cancel()


async def test_a_flood_of_unknown_kids_causes_one_fetch() -> None:
    fetch = Counting(keys_of(KEYS_A))
    authority = Authority(JwksSource("https://x/", fetch), FOREVER)
    running = asyncio.create_task(authority.run())
    await until(lambda: authority.has_keys, "the first fetch ends")
    verdicts: list[Verdict] = []
    for number in range(2_000):
        authority.decide(f"{part({'alg': 'ES256', 'kid': str(number)})}.e30.AAAA", verdicts.append)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(verdicts) == 2_000, "each is answered")
    assert fetch.calls == 2
    # Those beyond the ones that may wait cannot be decided; none is accepted.
    assert not any(isinstance(verdict, Grant) for verdict in verdicts)
    assert str(await decided(authority, TOKEN_B)) == "bad token: the token has an unknown `kid`"
    assert fetch.calls == 2
    running.cancel()


async def test_without_keys_nothing_can_be_decided_and_the_first_token_asks_again() -> None:
    fetch = Counting(OSError("away"), OSError("away"), keys_of(KEYS_A))
    authority = Authority(JwksSource("https://x/", fetch), FOREVER)
    running = asyncio.create_task(authority.run())
    await until(lambda: fetch.calls == 1 and not authority.has_keys, "the first fetch fails")
    await asyncio.sleep(0.05)
    assert isinstance(await decided(authority, TOKEN_A), CannotDecide)
    assert fetch.calls == 2
    assert isinstance(await decided(authority, TOKEN_A), CannotDecide)  # not again within 30 s
    assert fetch.calls == 2
    assert authority.results["cannot_decide"] == 2
    running.cancel()


async def test_the_last_good_set_is_kept_while_the_server_fails_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(module, "UNKNOWN_KID_SECONDS", 0.01)
    fetch = Counting(keys_of(KEYS_A), OSError("away"))
    authority = Authority(JwksSource("https://x/", fetch), FOREVER)
    running = asyncio.create_task(authority.run())
    assert not authority.are_keys_failing
    await until(lambda: fetch.calls > 3, "it is fetched again and again")
    assert authority.are_keys_failing
    assert isinstance(await decided(authority, TOKEN_A), Grant)
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.0)
    assert isinstance(await decided(authority, TOKEN_A), CannotDecide)
    running.cancel()


# The file


def read_secrets(path: Path) -> KeySet:
    try:
        return secret_keys(split_secrets(path.read_text()))
    except OSError:
        raise ValueError("cannot read it") from None


async def test_a_file_that_was_replaced_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    path = tmp_path / "secret"
    path.write_text(OLD_SECRET)
    authority = Authority(FileSource(read_secrets(path), path, read_secrets), FOREVER)
    running = asyncio.create_task(authority.run())
    old, new = hs256(claims(), OLD_SECRET), hs256(claims(), SECRET)

    async def accepts(token: str, is_accepted: bool) -> None:
        end = time.monotonic() + PATIENCE
        while isinstance(await decided(authority, token), Grant) != is_accepted:
            assert time.monotonic() < end
            await asyncio.sleep(0.005)

    def replace(text: str) -> None:
        (tmp_path / "next").write_text(text)
        os.replace(tmp_path / "next", path)

    await accepts(old, True)
    await accepts(new, False)
    replace(f"{SECRET},{OLD_SECRET}")
    await accepts(new, True)
    await accepts(old, True)
    replace(SECRET)
    await accepts(old, False)
    await accepts(new, True)
    running.cancel()


def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    source = FileSource(read_secrets(path), path, read_secrets)
    before = source.keys
    assert not source.is_failing
    path.write_text("short")
    for _ in range(3):
        source.look()
    assert source.keys is before
    assert source.is_failing, "the metric gateway_token_keys_failing tells"
    path.unlink()
    source.look()
    assert source.keys is before
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "secret 1 is too short" in said[0]
    assert "cannot read it" in said[1]
    path.write_text(OLD_SECRET)
    source.look()
    assert source.keys is not before
    assert not source.is_failing


async def test_secrets_and_pems_know_no_kid() -> None:
    authority = Authority(FileSource(secret_keys([SECRET]), None, read_secrets), FOREVER)
    verdict = await decided(authority, hs256(claims(), header={"alg": "HS256", "kid": "x"}))
    assert isinstance(verdict, NotAuthorised)
    assert authority.results["bad_token"] == 1


async def test_a_forged_token_that_comes_again_is_not_checked_again_until_the_keys_change(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    source = FileSource(read_secrets(path), path, read_secrets)
    authority = Authority(source, FOREVER)
    token = hs256(claims(), OLD_SECRET)
    for _ in range(3):
        assert str(await decided(authority, token)).endswith("has a signature of none of the gateway's keys")
    path.write_text(OLD_SECRET)
    source.look()
    assert isinstance(await decided(authority, token), Grant)
    for number in range(1_000):
        await decided(authority, hs256(claims(sub=str(number))))
    assert len(authority._forged) == authority_module.MAX_FORGED


async def test_a_refused_token_leaves_no_work_for_the_garbage_collector() -> None:
    authority = Authority(FileSource(secret_keys([SECRET]), None, read_secrets), FOREVER)
    tokens = [hs256(claims(sub=str(number)), OLD_SECRET) for number in range(50)]
    await decided(authority, tokens[0])
    gc.collect()
    gc.disable()
    try:
        for given in tokens[1:]:
            authority.decide(given, lambda verdict: None)
        assert gc.collect() < 10  # with the traceback: some for each
    finally:
        gc.enable()

"""The settings of GATEWAY_AUTH that need each other, and their files: exit status 78 and one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands import cli
from gateway.settings import Settings
from tests.auth.keys import OLD_SECRET, SECRET, jwk, jwks, private_pem, public_pem


def checked(*flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, ["serve", "--check-config", *flags])
    return result.exit_code, result.stderr


ONE_KIND = "--auth (GATEWAY_AUTH): jwt needs exactly one kind of key, and "


def test_exactly_one_kind_of_key_is_set(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    path.write_text(public_pem("EdDSA"))
    secret, keys, url = f"--jwt-secret={SECRET}", f"--jwt-public-keys-file={path}", "--jwt-jwks-url=https://a.example/k"
    for one in (secret, keys, url):
        assert checked("--auth=jwt", one)[0] == 0
    for several, said in (
        ((), "no key is set; set GATEWAY_JWT_SECRET"),
        ((secret, keys), "GATEWAY_JWT_SECRET and GATEWAY_JWT_PUBLIC_KEYS_FILE are set; set"),
        ((secret, url), "GATEWAY_JWT_SECRET and GATEWAY_JWT_JWKS_URL are set; set"),
        ((keys, url), "GATEWAY_JWT_PUBLIC_KEYS_FILE and GATEWAY_JWT_JWKS_URL are set; set"),
    ):
        status, line = checked("--auth=jwt", *several)
        assert (status, line.count("\n")) == (78, 1)
        assert ONE_KIND + said in line
    assert checked("--auth=maybe")[0] == 78


def test_a_wrong_key_is_said_once_and_without_the_key() -> None:
    status, line = checked("--auth=jwt", "--jwt-secret=hunter2")
    assert (status, line.count("\n")) == (78, 1)
    assert "secret 1 is too short: use 32 or more random bytes" in line
    assert "hunter2" not in line


def test_a_cookie_needs_exact_origins() -> None:
    said = "--jwt-cookie (GATEWAY_JWT_COOKIE): needs GATEWAY_ORIGINS, the exact origins"
    for flags in ((), ("--origins=*",)):
        status, line = checked("--jwt-cookie=progress", *flags)
        assert status == 78
        assert said in line
    assert checked("--jwt-cookie=progress", "--origins=https://a.example")[0] == 0
    assert checked("--jwt-cookie=a b", "--origins=https://a.example")[0] == 78


def test_public_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for text in (public_pem("ES256"), jwks(jwk("RS256", "a"))):
        path.write_text(text)
        assert checked(f"--jwt-public-keys-file={path}")[0] == 0


def test_a_file_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for text, said in (("", "is empty"), ("x", "no public key"), (private_pem("ES256"), "a private key")):
        path.write_text(text)
        status, line = checked(f"--jwt-public-keys-file={path}")
        assert (status, line.count("\n")) == (78, 1)
        assert said in line
    path.unlink()
    assert checked(f"--jwt-public-keys-file={path}")[0] == 78


def test_secrets_may_come_from_a_file_in_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    monkeypatch.setenv("GATEWAY_JWT_SECRET_FILE", str(path))
    assert [secret.get_secret_value() for secret in Settings().jwt_secret] == [SECRET, OLD_SECRET]
    assert checked("--auth=jwt")[0] == 0
    printed = CliRunner().invoke(cli.main, ["serve", "--print-config"]).output
    assert "GATEWAY_JWT_SECRET=***,***" in printed
    assert SECRET not in printed

"""Certificates from an authority of the test's own, made by the openssl command."""

import shutil
import subprocess
from pathlib import Path


class Authority:
    """Signs for servers at 127.0.0.1 and for clients.

    Python 3.13 and newer refuse an authority without key usage; `key_usage=""` makes such a one.
    """

    def __init__(self, directory: Path, name: str, *, key_usage: str = "keyCertSign,cRLSign") -> None:
        assert shutil.which("openssl"), "these tests need openssl: `tests/system-packages openssl`"
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        self._run(
            "req", "-x509", *self._new_key(self._key), "-subj", f"/CN={name}", "-out", self.certificate,
            *(["-addext", f"keyUsage=critical,{key_usage}"] if key_usage else []),
        )  # fmt: skip

    def sign(self, name: str, *, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """A certificate and its key."""
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        self._run(
            "req", "-x509", "-CA", self.certificate, "-CAkey", self._key, *self._new_key(key), "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={host}", "-addext", "basicConstraints=critical,CA:FALSE", "-out", certificate,
        )  # fmt: skip
        return certificate, key

    @staticmethod
    def _new_key(path: Path) -> list[str | Path]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path, "-days", "2"]

    @staticmethod
    def _run(*words: str | Path) -> None:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

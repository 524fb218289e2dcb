"""What `make image-check` makes of an image's description. The build takes minutes, so `make test` leaves it out."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from .container import Config, bubblewrap, missing

INSPECTED: dict[str, Any] = {
    "Docker": {
        "config": {
            "User": "10001:10002",
            "Entrypoint": ["progress-gateway"],
            "Cmd": ["serve"],
            "Env": ["PATH=/opt/gateway/bin:/bin", "GATEWAY_HOST=0.0.0.0"],
            "Healthcheck": {"Test": ["CMD", "python", "probe.py"]},
            "Labels": {"a": "b"},
        }
    }
}


def test_an_image_runs_as_its_user_with_its_environment_and_may_write_nothing() -> None:
    config = Config.read(INSPECTED)
    words = bubblewrap(config, Path("/image"), config.entrypoint + config.command, {"GATEWAY_PORT": "1"})
    said = " ".join(words)
    assert said.endswith("-- progress-gateway serve")
    assert "--ro-bind /image / " in said
    assert " --bind " not in said
    assert "--uid 10001 --gid 10002 --cap-drop ALL" in said
    assert words.index("--clearenv") < words.index("--setenv"), "nothing of this machine's environment"
    assert "--setenv GATEWAY_HOST 0.0.0.0" in said
    assert "--setenv GATEWAY_PORT 1" in said
    assert config.health == ["python", "probe.py"]


def test_a_health_check_by_a_shell_is_not_taken() -> None:
    config = INSPECTED["Docker"]["config"] | {"Healthcheck": {"Test": ["CMD-SHELL", "true"]}}
    with pytest.raises(AssertionError, match="shell"):
        Config.read({"Docker": {"config": config}})


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing() == "root, for chroot and mounts and the Debian packages buildah debootstrap bubblewrap"
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert missing() == ""

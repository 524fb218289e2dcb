"""What an image says of itself, and the bubblewrap command that runs it as an engine would."""

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple, Self

PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap", "bwrap": "bubblewrap"}


class Config(NamedTuple):
    user: int
    group: int
    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]
    health: list[str]
    labels: dict[str, str]

    @classmethod
    def read(cls, inspected: dict[str, Any]) -> Self:
        """From `buildah inspect`, for an image in Docker's format (that of OCI has no health check)."""
        config = inspected["Docker"]["config"]
        user, _, group = config["User"].partition(":")
        kind, *health = config["Healthcheck"]["Test"]
        assert kind == "CMD", f"a health check by {kind} needs a shell"
        environment = dict(text.split("=", 1) for text in config["Env"])
        return cls(
            int(user), int(group), config["Entrypoint"], config["Cmd"], environment, health, config["Labels"]
        )  # fmt: skip


def bubblewrap(config: Config, root: Path, command: list[str], variables: dict[str, str]) -> list[str]:
    """Its user, its environment, no right beyond, and a root file system that nobody can write to."""
    environment = config.environment | variables
    return [
        "bwrap", "--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent", "--new-session",
        "--unshare-user", "--uid", str(config.user), "--gid", str(config.group), "--cap-drop", "ALL", "--chdir", "/",
        "--clearenv", *(word for pair in environment.items() for word in ("--setenv", *pair)), "--", *command,
    ]  # fmt: skip


def missing() -> str:
    """What this machine lacks, in words; empty if nothing."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    needs = [] if os.geteuid() == 0 else ["root, for chroot and mounts"]
    needs += [f"the Debian packages {' '.join(packages)}"] if packages else []
    return " and ".join(needs)

"""What deploy/ has for a host without containers: systemd takes the unit, and the kernel has each limit."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rolling.balancers import DEPLOY, program

# systemd

SYSTEMD = DEPLOY / "systemd"
UNIT = SYSTEMD / "progress-gateway.service"
TEMPLATE, TARGET = SYSTEMD / "progress-gateway@.service", SYSTEMD / "progress-gateway.target"
COMMAND = "/opt/progress-gateway/bin/progress-gateway"


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    installed = Path(sys.executable).with_name("progress-gateway")
    assert installed.exists()
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(COMMAND, str(installed)))
    return path


def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = systemd_analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_control_systemd_names_a_directive_that_it_does_not_know(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchdogSecs"))
    assert "WatchdogSecs" in systemd_analyze("verify", str(unit)).stderr


def test_the_unit_gives_the_service_little(unit: Path) -> None:
    done = systemd_analyze("security", "--offline=true", "--threshold=20", str(unit))
    assert done.returncode == 0, done.stdout[-500:]


# systemd, on all cores of one machine


def test_systemd_accepts_the_template_and_its_target(tmp_path: Path) -> None:
    installed = Path(sys.executable).with_name("progress-gateway")
    (path := tmp_path / TEMPLATE.name).write_text(TEMPLATE.read_text().replace(COMMAND, str(installed)))
    (target := tmp_path / TARGET.name).write_text(TARGET.read_text())
    done = systemd_analyze("verify", str(path), str(target))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_instance_is_the_same_service_but_for_its_port() -> None:
    def lines(path: Path) -> list[str]:
        text = path.read_text()
        return [line for line in text[text.index("[Unit]") :].splitlines() if line and not line.startswith("#")]

    single, template = lines(UNIT), lines(TEMPLATE)
    assert [line.partition("=")[0] for line in single if line not in template] == [
        "Description",
        "ExecStart",
        "WantedBy",
    ]
    own = [line.partition("=")[0] for line in template if line not in single]
    assert own == ["Description", "PartOf", "ExecStart", "WantedBy"]
    assert "PartOf=progress-gateway.target" in template


# The kernel


def test_every_limit_is_one_that_the_kernel_has() -> None:
    found = {}
    for line in (DEPLOY / "sysctl" / "90-progress-gateway.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            name, value = line.split(" = ")
            found[name] = value
            path = Path("/proc/sys") / name.lstrip("-").replace(".", "/")
            assert path.exists() or name.startswith("-"), name
            assert all(part.isdecimal() for part in value.split()), line
    assert len(found) == 6

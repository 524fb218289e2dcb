"""The Dockerfile, read and replayed without a container engine: its own steps, in a directory instead of an image."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped, unused-ignore]

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
UID = 10001
NOT_OURS = ("GATEWAY_", "PROGRESS_", "REDIS_", "PYTHON", "VIRTUAL_ENV", "HOME")
STEP_SECONDS = 300.0
# Another user, who may read all (the Python that runs the tests may be in root's home) and write only what is its own.
AS_USER = f"setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs --inh-caps -all,+dac_read_search"
AS_USER += " --ambient-caps +dac_read_search --bounding-set -all,+dac_read_search"


class Instruction(NamedTuple):
    name: str
    text: str


def instructions(dockerfile: str) -> list[Instruction]:
    """Lines that belong together as one; without comments."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*re.split(r"\s+", line.strip(), maxsplit=1)) for line in joined.splitlines()]


def is_sent(path: str, ignored: list[str]) -> bool:
    """Whether a file gets into the build's context; as in .dockerignore, the last pattern that fits decides."""
    sent = True
    for pattern in ignored:
        wanted, plain = pattern.startswith("!"), pattern.removeprefix("!")
        parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
        tail = plain.removeprefix("**/")
        if any(fnmatch.fnmatchcase(part.split("/")[-1] if tail != plain else part, tail) for part in parents):
            sent = wanted
    return sent


class Image:
    """What building makes: a directory that stands for the image's root, and how a container of it starts.

    Its absolute paths lie below that directory. The steps run as another user where the tests run as root, and the
    result is not writable for that user.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="gateway-image-"))
        self.root.chmod(0o755)
        self.environment = {"PATH": f"/base/bin:{os.environ['PATH']}"}
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.healthcheck: list[str] = []
        self.stop_signal = ""
        self.user = ""
        self.labels: dict[str, str] = {}
        self._directory = "/"
        self.is_root = os.geteuid() == 0

    def build(self) -> None:
        # The base image: a Python with pip.
        subprocess.run([sys.executable, "-m", "venv", self.inside("/base")], check=True)
        self._own(self.root)
        for name, text in instructions(DOCKERFILE.read_text()):
            getattr(self, f"_{name.lower()}")(text)
        if self.is_root:
            subprocess.run(["chown", "-R", "0:0", self.root], check=True)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def inside(self, path: str) -> str:
        return str(self.root) + path if path.startswith("/") else path

    def start(self, command: list[str], **variables: object) -> subprocess.Popen[bytes]:
        """A process of the image: nothing from outside but these variables, and no right to write."""
        given = {name: str(value) for name, value in variables.items()}
        env = {name: self._mapped(text) for name, text in self.environment.items()} | given
        program = shutil.which(command[0], path=env["PATH"])
        assert program, f"{command[0]} is not in the image"
        words = [*self._as_user, program, *map(self._mapped, command[1:])]
        return subprocess.Popen(words, env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    @staticmethod
    def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """What it has started: a container's end takes them along, a process' end does not."""
        return psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []

    @property
    def _as_user(self) -> list[str]:
        return AS_USER.split() if self.is_root else []

    def _own(self, path: Path) -> None:
        if self.is_root:
            subprocess.run(["chown", "-R", f"{UID}:{UID}", path], check=True)

    def _mapped(self, text: str) -> str:
        """Each absolute path of the image is one below the directory; those of this machine stay."""
        return re.sub(r"(?<![\w/.}])/(?=(base|src|wheels|dist|opt)\b)", f"{self.root}/", text)

    # --- The instructions; one that is not here fails the build ---

    def _from(self, text: str) -> None:
        self._directory = "/"

    def _arg(self, text: str) -> None:
        assert text.partition("=")[0] in ("PYTHON_IMAGE", "SOURCE", "REVISION", "CREATED"), text

    def _workdir(self, text: str) -> None:
        self._directory = text
        Path(self.inside(text)).mkdir(parents=True)
        self._own(Path(self.inside(text)))

    def _copy(self, text: str) -> None:
        if text.startswith("--from=build"):
            _, source, target = shlex.split(text)
            assert source == target, "a venv works in the place only where it was made"
            return
        *sources, target = shlex.split(text)
        ignored = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]
        to = self.root / self._directory.lstrip("/") / target
        for source in sources:
            path = ROOT / source
            files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
            sent = [file for file in files if is_sent(str(file.relative_to(ROOT)), ignored)]
            assert sent, f"{source} is not in the context: .dockerignore"
            for file in sent:
                place = to / (file.name if path.is_file() else file.relative_to(path))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)
        self._own(to)

    def _run(self, text: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
        env |= {"PATH": self._mapped(self.environment["PATH"]), "HOME": "/nonexistent"}
        step = subprocess.run(
            [*self._as_user, "/bin/sh", "-e", "-c", self._mapped(text)],
            env=env,
            cwd=self.inside(self._directory),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        assert step.returncode == 0, f"RUN {text}\n{step.stdout}\n{step.stderr}"

    def _env(self, text: str) -> None:
        before = self.environment["PATH"]
        for word in shlex.split(text):
            name, _, value = word.partition("=")
            self.environment[name] = value.replace("$PATH", before)

    def _label(self, text: str) -> None:
        self.labels |= dict(word.split("=", 1) for word in shlex.split(text))

    def _healthcheck(self, text: str) -> None:
        self.healthcheck = json.loads(text.split("CMD", 1)[1])

    def _entrypoint(self, text: str) -> None:
        self.entrypoint = json.loads(text)

    def _cmd(self, text: str) -> None:
        self.command = json.loads(text)

    def _user(self, text: str) -> None:
        self.user = text

    def _stopsignal(self, text: str) -> None:
        self.stop_signal = text

    def _expose(self, text: str) -> None:
        assert text == "3001"

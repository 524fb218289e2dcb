"""`make screenshot`: docs/dashboard.png, the dashboard of a replica with demo jobs, as the README shows it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.commands.demo import PROJECT_ID
from tests.contract.processes import RedisServer, Replica, environment

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "dashboard.png"
PUBLISH = [sys.executable, "-m", "gateway", "publish", PROJECT_ID]
FAILED = ["--job", "export_3", "--type", "export", "--fail", "No space left on the disk"]
CANCELLED = ["--job", "image_7", "--type", "image", "--fail", "cancelled by the editor", "--reason", "cancelled"]
FAIL_AFTER_SECONDS = 8.0  # these two are then among the first of those that ended


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer()
        replica = Replica(server.url, Path(folder) / "demo.log", command="demo")
        try:
            replica.wait_ready()
            words = ["node", "scripts/screenshot.mjs", f"{replica.http}/?project={PROJECT_ID}", str(PICTURE)]
            with subprocess.Popen(words, cwd=ROOT / "frontend") as browser:
                time.sleep(FAIL_AFTER_SECONDS)
                for end in (FAILED, CANCELLED):
                    subprocess.run([*PUBLISH, *end], env=environment(server.url), check=True, capture_output=True)
            assert browser.returncode == 0
        finally:
            replica.end()
            server.kill()


if __name__ == "__main__":
    main()

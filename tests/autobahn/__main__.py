"""Runs the Autobahn test suite against the echo server, and prints what it found. Exits with 1 if a case failed.

    python -m tests.autobahn WSTEST [CASE ...]     # the path of its command; cases such as 6.* (default: all)

The suite's report is an HTML page a case, in .venv/.autobahn/report.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.contract.deadlines import wait_for
from tests.contract.processes import free_port, listens

ROOT = Path(__file__).parent.parent.parent
REPORT = ROOT / ".venv" / ".autobahn" / "report"
AGENT = "progress-gateway"
COMPRESSION = ["12.*", "13.*"]  # not offered: a frame is built once for all clients
KINDS = {
    "1": "framing", "2": "pings and pongs", "3": "reserved bits", "4": "opcodes", "5": "fragments",
    "6": "UTF-8", "7": "closing", "9": "limits and speed", "10": "automatic fragments",
}  # fmt: skip
GOOD = {"OK", "INFORMATIONAL"}  # the latter: the suite only says how the server ends a connection


def run_suite(wstest: str, cases: list[str]) -> dict[str, dict[str, str]]:
    """The suite's verdict of each case."""
    port = free_port()
    spec = {
        "outdir": str(REPORT),
        "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}/"}],
        "cases": cases or ["*"],
        "exclude-cases": COMPRESSION,
    }
    server = subprocess.Popen([sys.executable, "-m", "tests.autobahn.echo", str(port)], cwd=ROOT)
    try:
        wait_for(lambda: listens(port), "the echo server", within=30)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(spec, file)
            file.flush()
            subprocess.run(
                [wstest, "-m", "fuzzingclient", "-s", file.name], check=True, stdout=subprocess.DEVNULL, timeout=1_800
            )
    finally:
        server.terminate()
        server.wait(10)
    verdicts: dict[str, dict[str, str]] = json.loads((REPORT / "index.json").read_text())[AGENT]
    return verdicts


def main(wstest: str, *cases: str) -> int:
    verdicts = run_suite(wstest, list(cases))
    by_kind: dict[str, Counter[str]] = {}
    bad = []
    for case, verdict in verdicts.items():
        both = {verdict["behavior"], verdict["behaviorClose"]}
        by_kind.setdefault(case.partition(".")[0], Counter())[verdict["behavior"]] += 1
        if not both <= GOOD:
            bad.append(f"{case}: {verdict['behavior']}, close {verdict['behaviorClose']}")
    for kind, counts in sorted(by_kind.items(), key=lambda item: int(item[0])):
        print(f"{kind:>3}  {KINDS.get(kind, ''):20} {', '.join(f'{count} {what}' for what, count in counts.items())}")
    print(*bad, sep="\n", end="\n" if bad else "")
    print(f"{len(verdicts)} cases: {len(bad)} failed or not strict")
    return 1 if bad or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

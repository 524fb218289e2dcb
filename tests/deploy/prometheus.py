"""A real Prometheus with the shipped configuration: only addresses and times are a test's own."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, environment, free_port

from .tools import DEPLOY

SCRAPE_SECONDS = 1


class Prometheus(Process):
    """It scrapes `targets` each second; `end()` leaves nothing of it behind."""

    def __init__(self, targets: list[str], directory: Path) -> None:
        program = shutil.which("prometheus")
        assert program, "this test needs prometheus: `tests/system-packages prometheus`, or your system's own way"
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(DEPLOY / "prometheus" / "alerts.yaml", directory)
        self.url = f"http://127.0.0.1:{free_port()}"
        words = [f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
        words += [f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn"]
        super().__init__([program, *words], environment(None), directory / "prometheus.log")

    def wait_ready(self, targets: int) -> None:
        def all_up() -> bool:
            assert self.running(), self.log
            try:
                return len(self.values('up{job="progress-gateway"} == 1')) == targets
            except httpx.TransportError:
                return False

        wait_for(all_up, f"{targets} replicas that answer their scrapes", 30)

    def ask(self, path: str, **parameters: object) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=30) as http:
            answer = http.get(f"{self.url}/api/v1/{path}", params={n: str(value) for n, value in parameters.items()})
        if answer.status_code == 503:  # it has just begun
            return {"result": []}
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def values(self, query: str) -> dict[str, float]:
        """What a query returns now: the values, by their labels."""
        return {str(one["metric"]): float(one["value"][1]) for one in self.ask("query", query=query)["result"]}

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def alerts(self) -> dict[str, str]:
        """Those that are pending or firing."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.ask("alerts")["alerts"]}

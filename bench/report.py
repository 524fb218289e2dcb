"""Turns samples into the table: medians over the rounds, ratios within a round."""

import json
import os
import platform
from collections import defaultdict
from collections.abc import Container, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bench.latencies import Latencies
from bench.scenarios import Sample, Scenario

PERCENTILES = (50, 99, 99.9, 100)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


class Report:
    """All samples of one run of the benchmark. Lives as long as the run."""

    def __init__(self, kinds: list[str]) -> None:
        self._kinds = kinds  # names of the servers, in the order of the columns
        # Samples in the order of the rounds, by scenario and by server.
        self._samples: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        self._scenarios: list[Scenario] = []  # in the order of the rows

    def add(self, scenario: Scenario, kind: str, sample: Sample) -> None:
        if scenario not in self._scenarios:
            self._scenarios.append(scenario)
        self._samples[scenario.name][kind].append(sample)

    def ratios(self, scenario: Scenario, kind: str) -> list[float]:
        """One ratio a round: the load of the machine differs less within a round than between rounds."""
        of_c, own = self._samples[scenario.name]["c"], self._samples[scenario.name][kind]
        return [sample.value / c.value for sample, c in zip(own, of_c, strict=False) if c.value]

    def lost_anything(self, of: Container[str] | None = None) -> bool:
        """`of`: only these servers count."""
        return any(
            sample.lost
            for kinds in self._samples.values()
            for kind, samples in kinds.items()
            for sample in samples
            if of is None or kind in of
        )

    def table(self) -> str:
        """As Markdown, for bench/README.md."""
        rows = [["figure", "goal", *self._kinds], ["---"] * (2 + len(self._kinds))]
        for scenario in self._scenarios:
            cells = [self._cell(scenario, kind) for kind in self._kinds]
            rows.append([f"{scenario.name}: {scenario.title}", scenario.goal, *cells])
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def notes(self) -> list[str]:
        """Each different note once, with the number of times."""
        seen: dict[str, int] = defaultdict(int)
        for scenario in self._scenarios:
            for kind in self._kinds:
                for sample in self._samples[scenario.name][kind]:
                    for note in sample.notes:
                        seen[f"{scenario.name}, {kind}: {note}"] += 1
        return [note if times == 1 else f"{note} ({times} times)" for note, times in seen.items()]

    def figures(self) -> list[dict[str, Any]]:
        """All samples, as --json writes them."""
        return [
            {
                "name": scenario.name,
                "title": scenario.title,
                "unit": scenario.unit,
                "goal": scenario.goal,
                "servers": {kind: self._as_json(scenario, kind) for kind in self._kinds},
            }
            for scenario in self._scenarios
        ]

    def write_json(self, path: Path, others: list[dict[str, Any]], about: Mapping[str, str] | None = None) -> None:
        """Write all samples. `others`: figures that compare no servers; `about`: versions and settings by server."""
        machine = {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
        content = {"machine": machine, "about": dict(about or {}), "figures": self.figures() + others}
        path.write_text(json.dumps(content, indent=2) + "\n")

    def _as_json(self, scenario: Scenario, kind: str) -> dict[str, object]:
        samples = self._samples[scenario.name][kind]
        return {
            "parts": [[round(part, 4) for part in sample.parts] for sample in samples if sample.parts],
            "values": [round(sample.value, 4) for sample in samples],
            "ratios_to_c": [round(ratio, 4) for ratio in self.ratios(scenario, kind)] if scenario.beside_c else None,
            "latency_ms": self._curve(samples),
            "lost": any(sample.lost for sample in samples),
            "notes": [note for sample in samples for note in sample.notes],
        }

    def _curve(self, samples: list[Sample]) -> dict[str, float] | None:
        """Of all rounds together, by percent."""
        timed = [sample.latencies for sample in samples if sample.latencies]
        return Latencies.joined(timed).curve() if timed else None

    def latency_table(self) -> str:
        """As Markdown, a row for each server: the medians of the rounds, the lowest and the highest. Or empty."""
        rows = []
        for scenario in self._scenarios:
            for kind in self._kinds:
                samples = self._samples[scenario.name][kind]
                timed = [sample.latencies for sample in samples if sample.latencies]
                if not timed:
                    continue
                cells = [_spread([each.ms(percent) for each in timed]) for percent in PERCENTILES]
                core = median(sample.core for sample in samples)
                rows.append(f"| {scenario.name}, {kind} | {' | '.join(cells)} | {f'{core:.0%}' if core else ''} |")
        head = "".join(f" {'largest' if percent == 100 else f'p{percent:g}'} |" for percent in PERCENTILES)
        rule = "|".join(["---"] * (len(PERCENTILES) + 2))
        return "\n".join([f"| publish to socket, ms |{head} of a core |", f"|{rule}|", *rows]) if rows else ""

    def _cell(self, scenario: Scenario, kind: str) -> str:
        samples = self._samples[scenario.name][kind]
        if not samples:
            return "-"
        lost = " LOST" if any(sample.lost for sample in samples) else ""
        values = [sample.value for sample in samples]
        absolute = f"{median(values):,.2f} {scenario.unit}"
        if any(sample.latencies for sample in samples) and len(samples) > 1:
            absolute += f" ({min(values):,.2f}-{max(values):,.2f})"
        ratios = self.ratios(scenario, kind) if scenario.beside_c else []
        if kind == "c" or (scenario.beside_c and not ratios):
            return f"{absolute}{lost}"
        if scenario.beside_c:
            return f"**{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f}); {absolute}{lost}"
        return f"**{absolute}**{lost}"

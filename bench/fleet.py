"""`python -m bench cores`: what one replica can deliver, and two; `python -m bench age`: a fleet that evens out."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.load import Publisher, Traffic, commands, run_clients
from bench.process import Child
from bench.servers import KINDS, Ground, run_server
from bench.toolchain import BenchError

ROUNDS = 3
GROUPS = 2  # client processes; with two replicas, each has one of them
# Of each client process: 10 viewers of a project in all, and 8,000 deliveries a second. Not as fast as can be: clients,
# publisher and Redis need the same cores, so on a small machine the time would be theirs.
TRAFFIC = Traffic(subscribers=1_000, projects=200, rounds=20, per_second=800)
DELIVERY_SECONDS = 90.0


def cpu_of_a_delivery(replicas: int, ground: Ground) -> float:
    """CPU time of all replicas for one delivery, in microseconds."""
    with ExitStack() as stack:
        servers = [stack.enter_context(run_server(KINDS["gateway"], ground)) for _ in range(replicas)]
        ports = [servers[group % replicas][1] for group in range(GROUPS)]
        groups = [stack.enter_context(run_clients(port)) for port in ports]
        publisher = stack.enter_context(Publisher(ground.redis_port, subscribers=replicas))
        for group in groups:
            group.open(TRAFFIC.subscribers, TRAFFIC.projects)
        time.sleep(1)
        for group in groups:
            group.count(TRAFFIC.jobs)
        before = cpu_seconds(servers)
        publisher.publish(commands(TRAFFIC), TRAFFIC.per_second)
        found = [group.wait(DELIVERY_SECONDS) for group in groups]
        spent = cpu_seconds(servers) - before
        if not all(one.complete for one in found):
            raise BenchError(f"Not everything was delivered within {DELIVERY_SECONDS:.0f} s.")
        return spent * 1e6 / sum(one.total for one in found)


def cpu_seconds(servers: Sequence[tuple[Child, int]]) -> float:
    return sum(server.cpu_seconds() for server, _ in servers)


def run_cores(ground: Ground, rounds: int) -> str:
    """One replica and two, in turn; what a delivery costs tells how many a second so many cores can do."""
    costs, ratios = {1: list[float](), 2: list[float]()}, []
    for number in range(1, rounds + 1):
        for replicas in costs:
            costs[replicas].append(cpu_of_a_delivery(replicas, ground))
        one, two = costs[1][-1], costs[2][-1]
        ratios.append(2 * one / two)
        words = f"cores round {number}/{rounds}  {one:.2f} and {two:.2f} us a delivery: {ratios[-1]:.2f} times as many"
        print(words, file=sys.stderr, flush=True)
    lines = ["| replicas, each on a core | CPU of all for a delivery | deliveries a second |", "|---|---|---|"]
    for replicas, found in costs.items():
        lines.append(f"| {replicas} | {median(found):.2f} us | {replicas * 1e6 / median(found):,.0f} |")
    return "\n".join(
        [*lines, "", f"Two do {median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}) of one."]
    )


# How long until load is even

AGE_SECONDS = 20.0
CLIENTS = 300
EVEN = 0.8  # of its fair share, on the replica that has the fewest


def run_age() -> str:
    """Two full replicas, and one that is added; behind nginx and HAProxy as shipped, while jobs publish."""
    lines = [
        f"{CLIENTS} clients on two replicas; a third is added. GATEWAY_MAX_AGE_SECONDS={AGE_SECONDS:.0f}",
        "",
        "| behind | half of its share | even (80 %) | moves | refused | longest gap | ends lost |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [asyncio.run(_grow(kind)) for kind in ("nginx", "haproxy")]
    return "\n".join([*lines, "", "Times are in ages, from the moment at which the load balancer knows the replica."])


async def _grow(kind: str) -> str:
    from tests.rolling.stage import stage  # the load balancers, their clients and jobs are those of the tests

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx' workers are another user
        async with stage(directory, kind, max_age_seconds=AGE_SECONDS) as made:
            await made.open_viewers(CLIENTS, obey=True)
            made.start_jobs()
            await made.jobs_are_busy()
            made.start(2)
            await made.wait_known(2)
            began, reached = made.now(), dict[float, float]()
            while EVEN not in reached and made.now() - began < 4 * AGE_SECONDS:
                await asyncio.sleep(0.5)
                counts = [await asyncio.to_thread(made.clients_of, number) for number in made.replicas]
                share = min(counts) / (CLIENTS / len(counts))
                for goal in (0.5, EVEN):
                    if share >= goal:
                        reached.setdefault(goal, (made.now() - began) / AGE_SECONDS)
            moves, refused = sum(viewer.moves for viewer in made.viewers), made.refused()
            figures = await made.end_jobs()
    times = " | ".join(f"{reached[goal]:.2f}" if goal in reached else "never" for goal in (0.5, EVEN))
    return f"| {kind} | {times} | {moves} | {refused} | {figures.longest_gap_obeying:.2f} s | {figures.ends_lost} |"

"""`python -m bench cores`: what one replica can deliver, and two; `python -m bench age`: a fleet that evens out."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.load import Publisher, Traffic, commands, run_clients
from bench.process import Child
from bench.servers import KINDS, Ground, run_server
from bench.toolchain import BenchError
from tests.rolling.balancers import Balancer, balancer_class  # as the tests start them, with the shipped files
from tests.rolling.stage import stage

GROUPS = 2  # client processes; with two replicas, each has one of them
# Of each client process. Not as fast as can be: clients, publisher and Redis need the same cores, so on a small
# machine the time would be theirs. In the first, the price of a delivery is that of writing it; in the second, each
# replica also reads and checks every event, for five viewers.
SHAPES = {
    "2,000 viewers of one project": Traffic(subscribers=1_000, projects=1, rounds=100, per_second=20),
    "10 viewers of each of 200 projects": Traffic(subscribers=1_000, projects=200, rounds=20, per_second=800),
}
DELIVERY_SECONDS = 90.0


def cpu_of_a_delivery(
    traffic: Traffic, replicas: int, ground: Ground, *, behind_nginx: bool = False
) -> tuple[float, float]:
    """CPU time for one delivery, in microseconds: of all replicas, and of nginx before them."""
    with ExitStack() as stack:
        servers = [stack.enter_context(run_server(KINDS["gateway"], ground)) for _ in range(replicas)]
        ports = [servers[group % replicas][1] for group in range(GROUPS)]
        proxies = [stack.enter_context(_nginx(port)) for port in ports[:1]] if behind_nginx else []
        ports = [proxy.port for proxy in proxies] * GROUPS or ports
        groups = [stack.enter_context(run_clients(port)) for port in ports]
        publisher = stack.enter_context(Publisher(ground.redis_port, subscribers=replicas))
        for group in groups:
            group.open(traffic.subscribers, traffic.projects)
        time.sleep(1)
        for group in groups:
            group.count(traffic.jobs)
        before = cpu_seconds(servers), sum(map(_cpu_of_family, proxies))
        publisher.publish(commands(traffic), traffic.per_second)
        found = [group.wait(DELIVERY_SECONDS) for group in groups]
        spent, of_nginx = cpu_seconds(servers) - before[0], sum(map(_cpu_of_family, proxies)) - before[1]
        if not all(one.complete for one in found):
            raise BenchError(f"Not everything was delivered within {DELIVERY_SECONDS:.0f} s.")
        each = 1e6 / sum(one.total for one in found)
        return spent * each, of_nginx * each


@contextmanager
def _nginx(port: int) -> Iterator[Balancer]:
    """The shipped nginx before one replica, without its limit for an address: all clients come from one."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # its workers are another user
        limit = "limit_conn progress_gateway_clients 200;"
        made = balancer_class("nginx")(Path(name) / "nginx", [port, 9, 9], {limit: ""})
        try:
            yield made.wait_listening()
        finally:
            made.end()


def _cpu_of_family(proxy: Balancer) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in proxy.family()))


def cpu_seconds(servers: Sequence[tuple[Child, int]]) -> float:
    return sum(server.cpu_seconds() for server, _ in servers)


def run_cores(ground: Ground, rounds: int) -> str:
    """One replica and two, in turn; what a delivery costs tells how many a second so many cores can do."""
    lines = [
        "| viewers | CPU for a delivery: one replica | two, together | two do | nginx before one |",
        "|---|---|---|---|---|",
    ]
    for shape, traffic in SHAPES.items():
        samples = []
        for number in range(1, rounds + 1):
            (one, _), (two, _) = (cpu_of_a_delivery(traffic, replicas, ground) for replicas in (1, 2))
            _, of_nginx = cpu_of_a_delivery(traffic, 1, ground, behind_nginx=True)
            samples.append((one, two, 2 * one / two, of_nginx / one))
            print(f"cores round {number}/{rounds}  {shape}: {one:.2f} and {two:.2f} us", file=sys.stderr, flush=True)
        one, two, ratio, of_nginx = (median(column) for column in zip(*samples, strict=True))
        spread = f"{min(sample[2] for sample in samples):.2f} to {max(sample[2] for sample in samples):.2f}"
        lines.append(
            f"| {shape} | {one:.2f} us | {two:.2f} us | {ratio:.2f} x the deliveries ({spread}) | {of_nginx:.2f} x |"
        )
    return "\n".join(lines)


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

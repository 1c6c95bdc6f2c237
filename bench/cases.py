"""The measurements. Each runs in processes of its own; peers take turns with us in the same run, medians are quoted."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.container_engine import an_engine
from bench.report import Report

ROOT = Path(__file__).parents[1]
TIMES = 5
BEHIND = 1_000_000


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def module(name: str, *arguments: object) -> dict[str, Any]:
    """Runs `python -m bench.NAME` and gives what it prints."""
    command = [sys.executable, "-m", f"bench.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def by_turns(name: str, *rivals: tuple[object, ...], steps: int) -> list[dict[str, float]]:
    """Runs `python -m bench.NAME` for each rival; a line to one of them, and its answer, is a step, and they take turns at each, so that
    the machine's mood is in all of them alike. Gives what they print at their end."""
    command = [sys.executable, "-m", f"bench.{name}"]
    running = [
        subprocess.Popen(
            [*command, *map(str, each)], cwd=ROOT, env=environment(), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for each in rivals
    ]  # fmt: skip
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "\n", each.args  # it is ready
    for _ in range(steps):
        for each in running:
            assert each.stdin is not None
            assert each.stdout is not None
            each.stdin.write("\n")
            assert each.stdout.readline() == "\n", each.args
    return [json.loads(each.communicate()[0]) for each in running]


def xargs(count: int, wide: int) -> float:
    """Processes per second of `xargs -P WIDE -n 1 /bin/true`."""
    lines = b"x\n" * count
    begun = time.perf_counter()
    subprocess.run(["xargs", "-P", str(wide), "-n", "1", "/bin/true"], input=lines, check=True)
    return count / (time.perf_counter() - begun)


def processes(report: Report) -> None:
    """All logs stay until the end: ext4 without a journal takes no inode that was freed in the last minutes, and searches
    past each of them, so logs deleted between two runs would make the second one half as fast."""
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        _processes(report, folder)


def _processes(report: Report, folder: str) -> None:
    for wide in (8, 2):
        ours, theirs = [], []
        for nth in range(TIMES):
            theirs.append(xargs(5000, wide))
            ours.append(module("process_tasks", 5000, wide, f"{folder}/{wide}-{nth}")["tasks_per_s"])
        ratio = statistics.median(ours) / statistics.median(theirs)
        was = f"{statistics.median(ours):,.0f}/s, xargs {statistics.median(theirs):,.0f}/s: {ratio:.2f}"
        must = ">= 0.6 of xargs" if wide == 8 else "(shown)"
        report.add(f"5,000 x /bin/true, {wide} at a time", must, was, ratio, held=wide != 8 or ratio >= 0.6)


def fakes(report: Report) -> None:
    small = [module("fake_tasks", 10, 10_000) for _ in range(3)]
    rate = statistics.median(each["tasks_per_s"] for each in small)
    cpu_us = statistics.median(each["cpu_us_per_task"] for each in small)
    report.add("100,000 children, fake backend, events", ">= 10,000/s", f"{rate:,.0f}/s", rate, held=rate >= 10_000)
    large = module("fake_tasks", 100, 10_000)
    ratio = rate / large["tasks_per_s"]
    was = f"{large['tasks_per_s']:,.0f}/s: {ratio:.2f} x per task ({large['cpu_us_per_task'] / cpu_us:.2f} x the CPU)"
    report.add("1,000,000 children in 100 arrays", "<= 1.2 x per task", was, ratio, held=ratio <= 1.2)
    peak = large["rss_peak_mib"]
    report.add("the same: peak RSS", "<= 200 MB", f"{peak * 1.048576:.0f} MB", peak, held=peak * 1.048576 <= 200)


def files(report: Report) -> None:
    found = [module("workflow_files") for _ in range(3)]
    check = statistics.median(each["check_s"] for each in found)
    expand = statistics.median(each["expand_s"] for each in found)
    lines = found[0]["lines"]
    report.add(f"check of a {lines:,.0f}-line file", "<= 0.3 s", f"{check:.3f} s", check, held=check <= 0.3)
    report.add("expanding and storing 100 x 10,000", "<= 0.5 s", f"{expand:.3f} s", expand, held=expand <= 0.5)


def recovery(report: Report) -> None:
    seconds = statistics.median(module("recovery")["first_placement_s"] for _ in range(3))
    report.add(
        "100,000 unfinished tasks: open to first placement", "<= 1 s", f"{seconds:.3f} s", seconds, held=seconds <= 1
    )


def containers(report: Report) -> None:
    """The Engine of both is the bench's own, where that can be; the raw API takes turns with us."""
    ours, theirs, shares = [], [], []
    with an_engine() as engine:
        for _ in range(3):
            theirs.append(module("container_tasks", "raw", engine.path, 100, 8)["per_s"])
            found = module("container_tasks", 100, 8)
            ours.append(found["per_s"])
            shares.append(found["cpu_share"])
    ratio = statistics.median(ours) / statistics.median(theirs)
    was = f"{statistics.median(ours):.1f}/s, raw {statistics.median(theirs):.1f}/s: {ratio:.2f}"
    report.add("100 no-op containers, 8 at a time", ">= 0.95 of raw", was, ratio, held=ratio >= 0.95)
    share = statistics.median(shares)
    report.add("the same: engine CPU", "<= 10 %", f"{share:.1%}", share, held=share <= 0.1)


def sleepers(report: Report) -> None:
    found = module("container_sleepers", 1000)
    share, rss = found["cpu_share"], found["rss_mib"]
    report.add("1,000 containers asleep: engine CPU", "<= 2 %", f"{share:.2%}", share, held=share <= 0.02)
    was = f"{rss * 1.048576:.0f} MB, {found['sockets']:.0f} sockets"
    report.add("the same: RSS", "<= 120 MB", was, rss, held=rss * 1.048576 <= 120 and found["sockets"] <= 50)
    found = module("container_sleepers", 200)
    seconds = found["recovery_s"]
    was = f"{seconds:.2f} s, {found['recovery_cpu_s']:.2f} s of CPU"
    report.add("recovery with 200 running containers", "<= 2 s", was, seconds, held=seconds <= 2)


def queues(report: Report) -> None:
    found = [module("placements", "depth") for _ in range(3)]
    ratio = statistics.median(each["ratio"] for each in found)
    was = f"{found[0]['us']:.0f} us, with 1,000 {found[0]['base_us']:.0f} us: {ratio:.2f}"
    report.add("a placement, 1,000,000 waiting in 50 queues", "<= 1.2 x of 1,000", was, ratio, held=ratio <= 1.2)
    found = [module("placements", "shares") for _ in range(3)]
    ratio = statistics.median(each["ratio"] for each in found)
    was = f"{found[0]['us']:.0f} us, FIFO {found[0]['base_us']:.0f} us: {ratio:.2f}"
    report.add("a placement among 500 active shares", "<= 2 x FIFO", was, ratio, held=ratio <= 2)


def api(report: Report) -> None:
    """Server and client on the same cores; requests are signed beforehand."""
    found = module("api_calls")

    def add(what: str, key: str, most: float, unit: str, *, at_least: bool = False) -> None:
        value = found[key]
        held = value >= most if at_least else value <= most
        report.add(what, f"{'>=' if at_least else '<='} {most:g} {unit}", f"{value:,.4g} {unit}", value, held=held)

    add("SubmitJob, 32 clients, durable and authorised", "submit_per_s", 1500, "/s", at_least=True)
    add("DescribeJobs, 32 clients, 1,000 tasks run", "describe_per_s", 2000, "/s", at_least=True)
    add("the same: p99", "describe_p99_ms", 50, "ms")
    add("an array of 10,000 submitted", "array_ms", 20, "ms")
    add("1,000 open connections: p99", "open_p99_ms", 100, "ms")
    add("the same: errors", "open_errors", 0, "")
    add("idle server: share of a core", "idle_share", 0.01, "")
    add("the same: memory", "idle_mb", 100, "MB")
    add("submit_job of boto3 to the start of a process, p50", "start_p50_ms", 15, "ms")


def lists(report: Report) -> None:
    found = module("api_lists")
    whole, kinds = found["status_1000_ms"], ("status_100", "name", "prefix", "definition", "before", "after")
    cpu = found["status_1000_cpu_ms"]
    report.add(
        "ListJobs, 1,000 of 1,000,000", "<= 20 ms", f"{whole:.1f} ms, {cpu:.1f} ms of CPU", whole, held=whole <= 20
    )
    worst = max(kinds, key=lambda kind: found[f"{kind}_ms"])
    slowest, cpu = found[f"{worst}_ms"], max(found[f"{kind}_cpu_ms"] for kind in kinds)
    was = f"{slowest:.1f} ms ({worst}), at most {cpu:.1f} ms of CPU"
    report.add("ListJobs, 100 of 1,000,000, by any filter", "<= 20 ms", was, slowest, held=slowest <= 20)


def latency(report: Report) -> None:
    found = module("slot_latency")
    p99 = found["p99_ms"]
    was = f"p50 {found['p50_ms']:.1f} ms, p99 {p99:.1f} ms"
    report.add("a free slot to the next start, 100,000 waiting", "p99 <= 20 ms", was, p99, held=p99 <= 20)


def gangs(report: Report) -> None:
    found = module("gangs", 100, 30)
    placed, worst = found["placed_ms"], found["placed_worst_ms"]
    was = f"{placed:.1f} ms, at worst {worst:.1f} ms"
    report.add("a gang of 100 nodes, submitted to all ordered", "<= 10 ms", was, placed, held=placed <= 10)
    large = module("gangs", 1000, 10)
    ratio = large["placed_ms"] / placed
    was = f"{large['placed_ms']:.1f} ms: {ratio:.1f} x"
    report.add("a gang of 1,000 nodes", "<= 12 x of 100", was, ratio, held=ratio <= 12)


def hooks(report: Report) -> None:
    """Signed events to receivers on the same cores."""
    single = statistics.median(module("hooks_load", "single", 10_000)["per_s"] for _ in range(3))
    report.add("signed events to one endpoint", ">= 2,000/s", f"{single:,.0f}/s", single, held=single >= 2000)
    batch = statistics.median(module("hooks_load", "batch", 100_000)["per_s"] for _ in range(3))
    report.add("the same, batch: 100", ">= 20,000/s", f"{batch:,.0f}/s", batch, held=batch >= 20_000)
    p50 = statistics.median(module("hooks_load", "latency", 300)["p50_ms"] for _ in range(3))
    report.add("an event's commit to an idle receiver", "p50 <= 20 ms", f"p50 {p50:.1f} ms", p50, held=p50 <= 20)
    behind_a_dead_receiver(report)


def behind_a_dead_receiver(report: Report) -> None:
    """A million events wait for who is not there: of no moment to the others, and delivered once it is."""
    alone, beside = by_turns(
        "hooks_load", ("alone", BEHIND), ("dead", BEHIND), steps=3_000
    )  # the same log, of which nobody wants those
    assert beside["behind"] > BEHIND, beside
    ratio = beside["p99_ms"] / alone["p99_ms"]
    was = f"{beside['p99_ms']:.1f} ms, without it {alone['p99_ms']:.1f} ms: {ratio:.2f}"
    report.add("1,000,000 events behind a dead receiver: others' p99", "<= 1.1 x", was, ratio, held=ratio <= 1.1)
    most = beside["grown_mib"]
    report.add("the same: memory", "<= 30 MB more", f"{most:.0f} MB", most, held=most <= 30)
    found = module("hooks_load", "drain", BEHIND)
    was = f"{found['delivered']:,.0f} of {found['logged']:,.0f}, {found['per_s']:,.0f}/s, {found['seconds']:.0f} s"
    drained = found["delivered"] == found["logged"] and not found["lag"]
    report.add("the same, drained in full (batch: 100)", "all of them", was, found["per_s"], held=drained)
    most = found["peak_grown_mib"]
    report.add("the same: memory while it drains", "<= 30 MB more", f"{most:.0f} MB", most, held=most <= 30)


def worlds(report: Report) -> None:
    found = [module("sim_worlds", 1_000) for _ in range(5)]
    assert all(each["median_tasks"] >= 30 and each["median_faults"] >= 3 for each in found), found
    rate = statistics.median(each["worlds_per_s"] for each in found)
    # Of everything, and of what the store would bring back, at each crash and each twentieth step.
    what = "simulated worlds: after every step, the laws of what it touched"
    report.add(what, ">= 200/s", f"{rate:,.0f}/s", rate, held=rate >= 200)


def command_line(report: Report) -> None:
    flowbatch = str(Path(sys.executable).parent / "flowbatch")

    def timed(*arguments: str) -> float:
        begun = time.perf_counter()
        subprocess.run([flowbatch, *arguments], cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    timed("--help")
    seconds = statistics.median(timed("--help") for _ in range(7))
    report.add("flowbatch --help", "<= 100 ms", f"{seconds * 1000:.0f} ms", seconds, held=seconds <= 0.1)
    runs = []
    for _ in range(7):
        with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
            runs.append(timed("--state", f"{folder}/state", "run", "workflows/hello.yaml"))
    seconds = statistics.median(runs)
    report.add("flowbatch run workflows/hello.yaml", "<= 0.5 s", f"{seconds:.3f} s", seconds, held=seconds <= 0.5)


ALL: dict[str, Callable[[Report], None]] = {
    "processes": processes,  # first: see there
    "command_line": command_line,
    "files": files,
    "recovery": recovery,
    "latency": latency,
    "queues": queues,
    "api": api,
    "lists": lists,
    "fakes": fakes,
    "gangs": gangs,
    "worlds": worlds,
    "hooks": hooks,
    "containers": containers,
    "sleepers": sleepers,
}

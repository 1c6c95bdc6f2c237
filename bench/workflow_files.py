"""Reading and planning a 10,000-line file; expanding and storing 100 arrays of 10,000. Prints JSON."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import anyio

from flowbatch.app import open_app
from flowbatch.cli.context import Place
from flowbatch.cli.load import load_plan
from flowbatch.folder import StateFolder
from flowbatch.model.stimuli import SubmitRun
from flowbatch.settings import defaults
from flowbatch.spec.pinning import pinned

JOBS = 1_666


def long_file() -> str:
    lines = ["name: long", "params:", "  n: {type: integer, default: 3}", "jobs:"]
    for number in range(JOBS):
        lines += [
            f"  job{number}:",
            f"    needs: [job{number - 1}]" if number else "    needs: []",
            "    vcpus: 1",
            "    memory: 64MiB",
            "    timeout: 5m",
            f"    script: echo {number} $AWS_BATCH_JOB_ID",
        ]
    return "\n".join(lines) + "\n"


async def store(place: Place, file: Path) -> float:
    settings = defaults()
    async with open_app(StateFolder(place.folder.path), settings) as app:
        begun = time.perf_counter()
        plan = load_plan(place, str(file), [], run_id=str(uuid4()))
        ready = pinned(plan.run, plan.environments, plan.queues)
        answer = await app.engine.ask(lambda ticket: SubmitRun(ticket, ready))
        assert answer.error is None, answer.error
        return time.perf_counter() - begun


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        place = Place(f"{folder}/state", None)
        tiny = Path(folder) / "tiny.yaml"
        tiny.write_text("jobs: {a: {command: ['true']}}\n", encoding="utf-8")
        load_plan(place, str(tiny), [])  # the imports and the models are `run hello`'s to measure
        file = Path(folder) / "long.yaml"
        file.write_text(long_file(), encoding="utf-8")
        begun = time.perf_counter()
        plan = load_plan(place, str(file), [])
        check_s = time.perf_counter() - begun
        assert len(plan.run.jobs) == JOBS
        arrays = Path(folder) / "arrays.yaml"
        # Each waits for the one before it, so that what is measured is the storing and not the first tasks.
        text = "environments: {none: {backend: fake, vcpus: 1}}\njobs:\n"
        for number in range(100):
            needs = f", needs: a{number - 1}" if number else ""
            text += f"  a{number}: {{array: 10000, vcpus: 1, script: 'true', x-fake: {{duration: 1h}}{needs}}}\n"
        arrays.write_text(text, encoding="utf-8")
        expand_s = anyio.run(store, place, arrays)
    print(json.dumps({"lines": JOBS * 6 + 4, "check_s": check_s, "expand_s": expand_s}))


if __name__ == "__main__":
    main()

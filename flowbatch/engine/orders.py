"""From a decided Launch to the order that a backend needs: variables, substitutions, paths. No secrets yet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flowbatch.model.effects import Launch, Place
from flowbatch.model.ids import AttemptKey, RunId, child_id, log_name, node_id, node_name
from flowbatch.model.jobspec import JobSpec
from flowbatch.ports import LaunchOrder
from flowbatch.spec.references import expand_status, substitute_refs

RESERVED: Final = ("AWS_BATCH_", "FLOWBATCH_")
ALLOWED: Final = "FLOWBATCH_PARAM_"  # made by the compiler from the run's parameters


class OrderDesk:
    """Makes orders. Remembers per spec what its tasks have in common, for the tasks of an array come in thousands."""

    def __init__(self, state_folder: Path, *, log_cap_bytes: int) -> None:
        self._logs = state_folder / "logs"
        self._runs = state_folder / "runs"
        self._log_cap_bytes = log_cap_bytes
        self._common: dict[int, tuple[JobSpec, tuple[str, ...], dict[str, str]]] = {}
        self._run_dirs: dict[RunId, str] = {}

    def order(self, launch: Launch) -> LaunchOrder:
        """Variables as aws-batch.md §7 and workflow.md §3 list them. Raises OSError where an items file cannot be written."""
        key, spec, program = launch.key, launch.spec, launch.program
        command, common = self._in_common(launch)
        env = dict(common)
        env["AWS_BATCH_CE_NAME"] = launch.environment
        env["AWS_BATCH_JQ_NAME"] = launch.queue
        env["AWS_BATCH_JOB_ID"] = child_id(key.job, spec.size, key.idx)
        env["AWS_BATCH_JOB_ATTEMPT"] = str(key.attempt)
        attempt_id = key.id
        env["FLOWBATCH_ATTEMPT_ID"] = attempt_id
        if spec.size is not None:
            env["AWS_BATCH_JOB_ARRAY_INDEX"] = str(key.idx)
        if spec.items:
            self._add_items(launch, env)
        if launch.place is not None:
            add_place(env, key, launch.place)
        return LaunchOrder(
            key,
            command,
            env,
            program.workdir,
            launch.resources,
            f"{self._logs}/{log_name(attempt_id)}",
            self._log_cap_bytes,
            launch.timeout_ms,
            program.stop_grace_ms,
            program.user,
            program.container,
            program.fake,
            launch.cpu,
            launch.place,
        )

    def forget_specs(self) -> None:
        """Called when runs end: what was remembered of their specs is not needed any more."""
        self._common.clear()

    def _in_common(self, launch: Launch) -> tuple[tuple[str, ...], dict[str, str]]:
        spec, program = launch.spec, launch.program
        held = self._common.get(id(program))
        if held is not None and held[0] is program and not launch.run_status:
            return held[1], held[2]
        status = launch.run_status
        parameters = dict(program.parameters)
        command = substitute_refs(program.command, parameters)
        env = {name: value for name, value in program.env if not name.startswith(RESERVED) or name.startswith(ALLOWED)}
        if status:
            command = tuple(expand_status(each, status) for each in command)
            env = {name: expand_status(value, status) for name, value in env.items()}
        env["FLOWBATCH_JOB"] = spec.key
        if spec.size is not None:
            env["FLOWBATCH_ARRAY_SIZE"] = str(spec.size)
        if launch.run is not None:
            env["FLOWBATCH_RUN_ID"] = launch.run.id
            env["FLOWBATCH_WORKFLOW"] = launch.run.workflow
            env["FLOWBATCH_RUN_DIR"] = self._run_dir(launch.run.id)
        if not status:
            self._common[id(program)] = (program, command, env)
        return command, env

    def _run_dir(self, run: RunId) -> str:
        held = self._run_dirs.get(run)
        if held is None:
            path = self._runs / run
            path.mkdir(parents=True, exist_ok=True)
            held = self._run_dirs[run] = str(path)
        return held

    def _add_items(self, launch: Launch, env: dict[str, str]) -> None:
        """FLOWBATCH_ITEM and its keys; with `chunk` above 1 a file with the child's items, one a line."""
        spec, index = launch.spec, launch.key.idx
        if spec.chunk > 1:
            items = spec.items[index * spec.chunk : (index + 1) * spec.chunk]
            folder = Path(env["FLOWBATCH_RUN_DIR"]) / "items" / spec.key
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{index}.txt"
            path.write_text("".join(f"{item_text(item)}\n" for item in items), encoding="utf-8")
            env["FLOWBATCH_ITEMS_FILE"] = str(path)
            return
        item = spec.items[index]
        env["FLOWBATCH_ITEM"] = item_text(item)
        if isinstance(item, dict):
            for name, value in item.items():
                env[f"FLOWBATCH_ITEM_{name.upper().replace('-', '_')}"] = value


def add_place(env: dict[str, str], key: AttemptKey, place: Place) -> None:
    """Of a node, aws-batch.md §7; and where the others reach it: an address, or a name where the backend gives addresses."""
    if place.nodes is None:
        return
    env["AWS_BATCH_JOB_ID"] = node_id(key.job, place.node)
    env["AWS_BATCH_JOB_NODE_INDEX"] = str(place.node)
    env["AWS_BATCH_JOB_NUM_NODES"] = str(place.nodes)
    env["AWS_BATCH_JOB_MAIN_NODE_INDEX"] = str(place.main)
    if place.node != place.main:
        env["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = place.main_address
    env["FLOWBATCH_NODE_ADDRESS"] = place.address or node_name(key.job, place.node)


def item_text(item: str | dict[str, str]) -> str:
    return item if isinstance(item, str) else " ".join(f"{name}={value}" for name, value in item.items())

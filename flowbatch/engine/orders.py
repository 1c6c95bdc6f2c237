"""From a decided Launch to the order that a backend needs: variables, substitutions, paths. No secrets yet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flowbatch.model.effects import Launch
from flowbatch.model.ids import RunId, child_id, log_name
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
        key, spec = launch.key, launch.spec
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
        return LaunchOrder(
            key,
            command,
            env,
            spec.workdir,
            launch.resources,
            f"{self._logs}/{log_name(attempt_id)}",
            self._log_cap_bytes,
            spec.timeout_ms,
            spec.stop_grace_ms,
            spec.user,
            spec.container,
            spec.fake,
            launch.cpu,
        )

    def forget_specs(self) -> None:
        """Called when runs end: what was remembered of their specs is not needed any more."""
        self._common.clear()

    def _in_common(self, launch: Launch) -> tuple[tuple[str, ...], dict[str, str]]:
        spec = launch.spec
        held = self._common.get(id(spec))
        if held is not None and held[0] is spec and not launch.run_status:
            return held[1], held[2]
        status = launch.run_status
        parameters = dict(spec.parameters)
        command = substitute_refs(spec.command, parameters)
        env = {name: value for name, value in spec.env if not name.startswith(RESERVED) or name.startswith(ALLOWED)}
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
            self._common[id(spec)] = (spec, command, env)
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


def item_text(item: str | dict[str, str]) -> str:
    return item if isinstance(item, str) else " ".join(f"{name}={value}" for name, value in item.items())

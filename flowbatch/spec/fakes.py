"""`x-fake`: a job's script for the fake backend. What an override does not say, it takes from the script around it."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.model.jobspec import FakeScript
from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import Path
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import FakeModel


def fake_script(model: FakeModel, path: Path, findings: Findings, around: FakeScript | None = None) -> FakeScript:
    base = FakeScript() if around is None else around
    script = FakeScript(
        duration_ms=base.duration_ms if model.duration is None else model.duration,
        exit_code=base.exit_code if model.exit is None else model.exit,
        reason=base.reason if model.reason is None else model.reason,
        launch_error=base.launch_error if model.launch_error is None else model.launch_error,
        output=base.output if model.output is None else model.output,
        ignores_term=base.ignores_term if model.ignores_term is None else model.ignores_term,
        lost=base.lost if model.lost is None else model.lost,
    )
    return replace(
        script,
        by_index=_overrides(model.by_index, (*path, "by_index"), 0, script, findings),
        by_attempt=_overrides(model.by_attempt, (*path, "by_attempt"), 1, script, findings),
    )


def _overrides(
    models: dict[str, FakeModel] | None, path: Path, least: int, around: FakeScript, findings: Findings
) -> dict[int, FakeScript]:
    scripts: dict[int, FakeScript] = {}
    for name, model in (models or {}).items():
        number = int(name) if name.isascii() and name.isdigit() and len(name) <= 6 else -1
        if number < least or number in scripts:
            findings.problem(
                (*path, name), f"a number of its own from {least} on is needed, found {shown(name)}", at_key=True
            )
        else:
            scripts[number] = fake_script(model, (*path, name), findings, around)
    return scripts

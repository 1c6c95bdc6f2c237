"""What a server is told of itself, and what a file may that it runs for others (security.md §5; semantics.md 23, 29, 33)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from flowbatch.spec.findings import Findings
    from flowbatch.spec.schema import ParamModel, SecretModel, WorkflowModel

OWNER: Final = "owner"  # the principal of whoever runs the server


class Folder(Struct, frozen=True):
    """`path`: absolute. `policies`: None allows everything."""

    path: str
    principal: str = OWNER
    policies: tuple[str, ...] | None = None
    owners: tuple[str | int, ...] = ()
    runs_per_minute: float | None = None


class Serve(Struct, frozen=True):
    """As the file has it; what is None there has its default where it is used."""

    listen: tuple[str, ...] = ()
    host_names: tuple[str, ...] = ()
    tls: tuple[str, str] | None = None
    behind_proxy: bool = False
    account: str | None = None
    region: str | None = None
    strict: bool = True
    rate: float | None = None
    folders: tuple[Folder, ...] = ()


class House(Struct, frozen=True):
    """Whose house a file is in. `environments`: it may bring its own. `secrets`: those that there are, and there are no others."""

    secrets: Mapping[str, SecretModel]
    environments: bool = False


def judge_guest(model: WorkflowModel, house: House, findings: Findings) -> None:
    """What a server does not take from a file: where secrets come from, programs and files that are told of events."""
    for name in model.secrets or {}:
        if name not in house.secrets:
            text = "a server takes secrets from its settings alone; name it there (`secrets` in flowbatch.yaml), or leave it out"
            findings.problem(("secrets", name), text, at_key=True)
    for number, each in enumerate(model.notify or ()):
        for key in ("jsonl", "exec"):
            if getattr(each.to, key, None) is not None:
                text = "a server writes no file and runs no program of its own for a workflow; name it in `notify` of its settings"
                findings.problem(("notify", number, "to", key), text, at_key=True)
    if house.environments:
        return
    for section, given in (("environments", model.environments), ("queues", model.queues)):
        if given:
            findings.warn(
                (section,),
                f"not used: a server has its own {section}, unless its settings say `allow_workflow_environments: true`",
            )


def judge_pasted(
    name: str, path: tuple[str | int, ...], declared: Mapping[str, ParamModel], findings: Findings
) -> None:
    """A parameter in a script is code to the shell: on a server only one whose values its author has bounded."""
    param = declared.get(name)
    if param is not None and (param.type != "string" or param.pattern is not None or param.enum is not None):
        return
    variable = "$FLOWBATCH_PARAM_" + name.upper().replace("-", "_")
    text = f'params.{name} is pasted into a script: a server takes that of a parameter with a `pattern` or an `enum`; use "{variable}"'
    findings.problem(path, text)

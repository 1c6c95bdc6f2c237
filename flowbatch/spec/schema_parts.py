"""The mappings inside a job: arrays, needs, retry, what AWS nests, and the script of the fake backend."""

import re
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from flowbatch.spec.quantities import duration_ms, size_mib, vcpus_milli
from flowbatch.spec.scalars import shown
from flowbatch.spec.values import (
    Backoff,
    DurationMs,
    EnvName,
    ExitPattern,
    Factor,
    Listed,
    Name,
    Pattern,
    Text,
    Tolerance,
)

_AMOUNT: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?", re.ASCII)
CHILDREN_MAX: Final = 10_000


class Strict(BaseModel):
    """Nothing is guessed: no unknown keys, no numbers out of text, no text out of numbers.

    A key of `LATER` belongs to an issue that has not landed: it parses, and is refused with what it waits for. One of
    `REFUSED` has no place here, with what to do instead.
    """

    LATER: ClassVar[dict[str, str]] = {}
    REFUSED: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True, hide_input_in_errors=True)


def _sized(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"size": value}
    if isinstance(value, dict):
        return value
    raise ValueError(
        f"a size (1000) or a mapping ({{lines: FILE}}, {{size: 10, max_running: 2}}) is needed, found {shown(value)}"
    )


class ArrayModel(Strict):
    """Exactly one source of children (`size`, `lines`, `glob`, `items`, `matrix`); none where `needs: [{each: …}]` gives it."""

    size: int | None = Field(None, ge=0, description="How many children, 0 to 10,000; the index counts from 0.")
    lines: str | None = Field(None, min_length=1, description="A file; one child per line, given as FLOWBATCH_ITEM.")
    glob: str | None = Field(
        None, min_length=1, description="A pattern of files such as 'data/*.csv'; one child per file."
    )
    items: list[object] | None = Field(None, description="One child per item: a value, or a mapping of values.")
    matrix: dict[Name, object] | None = Field(
        None, description="One child per combination: {lr: [1, 2], seed: 0..9}. Ranges include both ends."
    )
    max_running: int | None = Field(None, ge=1, description="At most so many children run at once.")
    tolerate: Tolerance | None = Field(
        None, description="How many children may fail: a count, or a share such as 0.5%."
    )
    sequential: bool | None = Field(None, description="Child i waits until child i-1 has succeeded.")
    chunk: int | None = Field(None, ge=1, description="So many items per child, as lines of FLOWBATCH_ITEMS_FILE.")


Array = Annotated[ArrayModel, BeforeValidator(_sized, json_schema_input_type=int | ArrayModel)]


class AwsArrayModel(Strict):
    size: int = Field(ge=0, description="How many children, 0 to 10,000.")


def _need(value: object) -> object:
    if isinstance(value, str):
        return {"job": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"a job's name or a mapping such as {{each: render}} is needed, found {shown(value)}")


def _array(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"an array's name is needed, as in {{each: render}}, found {shown(value)}")
    return value


class NeedModel(Strict):
    job: str | None = Field(None, description="The job that this one waits for.")
    each: Annotated[str, BeforeValidator(_array, json_schema_input_type=str)] | None = Field(
        None, description="N_TO_N: child i waits for child i of this array; its size is taken over."
    )
    type: Literal["N_TO_N", "SEQUENTIAL"] | None = Field(None, description="AWS's type of the dependency.")
    when: Literal["success", "failure", "done"] | None = Field(
        None, description="Which end of the needed job satisfies the need; success unless given."
    )
    job_id: str | None = Field(None, alias="jobId", description="AWS's spelling of `job`.")


Need = Annotated[NeedModel, BeforeValidator(_need, json_schema_input_type=str | NeedModel)]
Needs = Listed[Need]


def _action(value: object) -> str:
    if isinstance(value, str) and value.upper() in ("RETRY", "EXIT"):
        return value.upper()
    raise ValueError(f"must be retry or exit, found {shown(value)}")


Action = Annotated[str, PlainValidator(_action, json_schema_input_type=Literal["retry", "exit", "RETRY", "EXIT"])]


class RuleModel(Strict):
    """All given conditions must match; a pattern is whole, or a prefix when it ends in `*`."""

    exit: ExitPattern | None = Field(None, description="The exit code: 137, or a prefix such as 13*.")
    reason: Pattern | None = Field(None, description="The container's reason, e.g. 'OutOfMemory*'.")
    status: Pattern | None = Field(None, description="The attempt's statusReason, e.g. 'Host*'.")
    action: Action = Field(description="retry or exit.")
    memory: Factor | None = Field(None, description="x2: the next attempt gets twice the memory.")
    on_exit_code: ExitPattern | None = Field(None, alias="onExitCode", description="AWS's spelling of `exit`.")
    on_reason: Pattern | None = Field(None, alias="onReason", description="AWS's spelling of `reason`.")
    on_status_reason: Pattern | None = Field(None, alias="onStatusReason", description="AWS's spelling of `status`.")


class RetryModel(Strict):
    attempts: int = Field(ge=1, le=10, description="The total number of attempts, 1 to 10.")
    backoff: Backoff | None = Field(
        None, description="The wait before a retry: 10s, or 10s..5m doubling up to the last."
    )
    rules: list[RuleModel] | None = Field(None, max_length=5, description="First match wins; no match means retry.")
    evaluate_on_exit: list[RuleModel] | None = Field(
        None, alias="evaluateOnExit", max_length=5, description="AWS's spelling of `rules`."
    )


def _timeout(value: object) -> int:
    if isinstance(value, dict):
        unknown = [key for key in value if key != "attemptDurationSeconds"]
        if unknown or not value:
            raise ValueError("write a duration (20m), or AWS's {attemptDurationSeconds: 1200}")
        return duration_ms(value["attemptDurationSeconds"])
    return duration_ms(value)


class _TimeoutSchema(Strict):
    attempt_duration_seconds: int = Field(alias="attemptDurationSeconds", ge=1)


Timeout = Annotated[int, PlainValidator(_timeout, json_schema_input_type=DurationMs | _TimeoutSchema)]


class LostModel(Strict):
    free: int = Field(ge=0, le=10, description="So many attempts lost with the host do not count.")


class ResourceModel(Strict):
    type: Literal["VCPU", "MEMORY", "GPU"]
    value: Text = Field(description="As AWS has it: a number in quotes; MiB for MEMORY.")

    def parsed(self) -> int:
        """In thousandths, MiB or GPUs. Raises ValueError."""
        if not _AMOUNT.fullmatch(self.value):
            raise ValueError(f"{shown(self.value)} is not an amount; write a number such as '2048'")
        number = float(self.value)
        if self.type == "VCPU":
            return vcpus_milli(number)
        if number != int(number):
            raise ValueError(f"{self.type} takes a whole number, found {shown(self.value)}")
        if self.type == "MEMORY":
            return size_mib(int(number))
        if not 0 <= number <= 1024:
            raise ValueError(f"GPUs lie between 0 and 1,024, found {shown(self.value)}")
        return int(number)


class PairModel(Strict):
    name: EnvName
    value: Text


class SecretPairModel(Strict):
    name: EnvName
    value_from: Name = Field(alias="valueFrom", description="The name of one of the file's `secrets`.")


class FakeModel(Strict):
    """What the fake backend does with this job; nothing else reads it."""

    duration: DurationMs | None = Field(None, description="How long an attempt runs.")
    exit: int | None = Field(None, ge=0, le=255, description="Its exit code.")
    reason: str | None = Field(None, description="container.reason of its end.")
    launch_error: str | None = Field(None, description="The launch fails with this reason.")
    output: str | None = Field(None, description="What its log holds.")
    ignores_term: bool | None = Field(None, description="It ends by SIGKILL only.")
    lost: bool | None = Field(None, description="The backend loses it.")
    by_index: dict[str, "FakeModel"] | None = Field(
        None, description="Overrides for single children: {'3': {exit: 1}}."
    )
    by_attempt: dict[str, "FakeModel"] | None = Field(
        None, description="Overrides for single attempts: {'1': {exit: 1}}."
    )

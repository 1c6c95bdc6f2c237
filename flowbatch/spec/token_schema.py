"""`tokens`: what there is of consumable resources, in settings and workflow files, and what a job holds of them (aws-batch.md §6.9)."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from flowbatch.model.tokens import Token, TokenKind
from flowbatch.spec.findings import Findings
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.values import NAME, Name

QUANTITY_MAX: Final = 2**53
_ARN: Final = re.compile(r"arn:[a-z-]+:batch:[a-z0-9-]*:[0-9]*:consumable-resource/(.*)", re.ASCII)
_NAME: Final = re.compile(NAME[1:-1], re.ASCII)


def _kind(value: object) -> TokenKind:
    if isinstance(value, str) and value.upper().replace("-", "_") in TokenKind.__members__:
        return TokenKind[value.upper().replace("-", "_")]
    raise ValueError(f"must be replenishable or non_replenishable, found {shown(value)}")


def _token(value: object) -> object:
    """A number is a total."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"total": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"a total (5) or {{total: 100, type: non_replenishable}} is needed, found {shown(value)}")


Kind = Annotated[
    TokenKind,
    PlainValidator(
        _kind,
        json_schema_input_type=Literal["replenishable", "non_replenishable", "REPLENISHABLE", "NON_REPLENISHABLE"],
    ),
]
Quantity = Annotated[int, Field(ge=1, le=QUANTITY_MAX)]


class TokenModel(Strict):
    """A consumable resource."""

    total: int = Field(ge=0, le=QUANTITY_MAX, description="How many there are.")
    type: Kind = Field(
        TokenKind.REPLENISHABLE,
        description="replenishable: given back when an attempt is over; non_replenishable: used up by it.",
    )

    def token(self, name: str) -> Token:
        return Token(name, self.total, self.type)


Tokens = dict[Name, Annotated[TokenModel, BeforeValidator(_token, json_schema_input_type=int | TokenModel)]]


def _resource(value: object) -> str:
    """A name, or an ARN of which the name is taken."""
    if isinstance(value, str):
        arn = _ARN.fullmatch(value)
        name = value if arn is None else arn[1]
        if _NAME.fullmatch(name):
            return name
    raise ValueError(f"{shown(value)} is no consumable resource; write its name or its ARN")


class AwsDemandModel(Strict):
    name: Annotated[str, PlainValidator(_resource, json_schema_input_type=str)] = Field(alias="consumableResource")
    quantity: Quantity


class AwsDemandsModel(Strict):
    """consumableResourceProperties"""

    resources: list[AwsDemandModel] = Field(alias="consumableResourceList")

    def demand(self) -> dict[str, int]:
        """Raises ValueError where one is named twice."""
        found: dict[str, int] = {}
        for each in self.resources:
            if each.name in found:
                raise ValueError(f"{each.name!r} is given twice")
            found[each.name] = each.quantity
        return found


def tokens_of(models: Mapping[str, TokenModel] | None) -> dict[str, Token]:
    return {name: model.token(name) for name, model in (models or {}).items()}


def judge_demand(
    demand: Mapping[str, int],
    known: Mapping[str, Token],
    own: Mapping[str, Token],
    path: tuple[str | int, ...],
    findings: Findings,
) -> None:
    """What does not exist, or can never be met, is refused; what somebody may add to is warned of."""
    for name, quantity in demand.items():
        token = known.get(name)
        if token is None:
            findings.unknown((*path, name), "tokens", name, known)
        elif quantity > token.total:
            said = f"needs {quantity} of tokens {name}, of which there are {token.total}"
            if token.kind is TokenKind.NON_REPLENISHABLE and name not in own:
                findings.warn((*path, name), f"{said} left; it waits until somebody adds some")
            else:
                findings.problem((*path, name), f"{said} in all")

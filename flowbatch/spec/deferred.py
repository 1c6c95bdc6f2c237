"""Models that are built when a file first has what they describe: to build those of all that a workflow may say took longer
than to run a small one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

M = TypeVar("M", bound=BaseModel)


class Deferred:
    """Of that model: its own validator, found at the first value. Its errors are told below the place where it stands, as ever."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(source.model_validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        self.model.model_rebuild()
        return handler(
            core_schema.definitions_schema(self.model.__pydantic_core_schema__, [])
        )  # as a definition of its own


if TYPE_CHECKING:
    Lazy = Annotated[M, ...]
else:

    class Lazy:
        """`Lazy[Model]`: the type of a field that few files have."""

        def __class_getitem__(cls, model: type[M]) -> object:
            return Annotated[model, Deferred(model)]

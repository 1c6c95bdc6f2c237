"""The JSON Schemas of the workflow file and of the settings, for editors: made from the models, then to say what these cannot.

That is: which keys a job, a definition and the defaults have of the one layer model; that keys beginning with `x-` are free;
and that an expression may stand where a number or a flag is meant.
"""

from __future__ import annotations

from typing import Final

from flowbatch.spec.schema import DEFAULTS_LACK, DEFINITION_LACKS, JOB_LACKS, WorkflowModel
from flowbatch.spec.settings_schema import SettingsModel
from flowbatch.spec.values import EXPRESSION_SCHEMA, NAME

Json = dict[str, object]
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_LAYER: Final = "LayerModel"
_WITHOUT_EXPRESSIONS: Final = frozenset({"ParamModel", "WorkflowModel"})


def workflow_schema() -> Json:
    schema: Json = WorkflowModel.model_json_schema(by_alias=True, mode="validation")
    models = _mapping(schema.pop("$defs"))
    layer = _mapping(models.pop(_LAYER))
    models["Job"] = _lacking(layer, JOB_LACKS, "A job.")
    models["Definition"] = _lacking(layer, DEFINITION_LACKS, "What jobs with `uses` are made from.")
    models["Defaults"] = _lacking(layer, DEFAULTS_LACK, "Merged under every job.")
    properties = _mapping(schema["properties"])
    for section, model in (
        ("jobs", "Job"),
        ("finally", "Job"),
        ("definitions", "Definition"),
        ("defaults", "Defaults"),
    ):
        properties[section] = _renamed(properties[section], f"#/$defs/{model}")
    root = _mapping(_tidy({**schema, "$defs": models}))
    for name, definition in (*_mapping(root["$defs"]).items(), ("WorkflowModel", root)):
        _open(_mapping(definition), expressions=name not in _WITHOUT_EXPRESSIONS)
    deadline = _mapping(_mapping(root["properties"])["deadline"])
    _mapping(root["properties"])["deadline"] = _with_expression(deadline)
    root.pop("title", None)
    return {
        "$schema": DRAFT,
        "title": "flowbatch workflow",
        **root,
    }


def settings_schema() -> Json:
    """Of flowbatch.yaml: no expressions, and keys beginning with `x-` are free as in a workflow."""
    schema: Json = SettingsModel.model_json_schema(by_alias=True, mode="validation")
    root = _mapping(_tidy(schema))
    for definition in (*_mapping(root["$defs"]).values(), root):
        _open(_mapping(definition), expressions=False)
    root.pop("title", None)
    return {"$schema": DRAFT, "title": "flowbatch settings", **root}


def _mapping(value: object) -> Json:
    assert isinstance(value, dict)
    return value


def _lacking(layer: Json, keys: frozenset[str], description: str) -> Json:
    properties = {key: item for key, item in _mapping(layer["properties"]).items() if key not in keys}
    return {**layer, "properties": properties, "description": description}


def _renamed(value: object, reference: str) -> object:
    """With every reference to the layer model replaced."""
    if isinstance(value, dict):
        return {
            key: reference if key == "$ref" and item == f"#/$defs/{_LAYER}" else _renamed(item, reference)
            for key, item in value.items()
        }
    return [_renamed(item, reference) for item in value] if isinstance(value, list) else value


def _tidy(value: object, *, names: bool = False) -> object:
    """Without titles made from names, and without null: a key is left out rather than empty. `names`: keys are the author's."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    if names:
        return {key: _tidy(item) for key, item in value.items()}
    tidy = {
        key: _tidy(item, names=key in ("properties", "$defs"))
        for key, item in value.items()
        if not (key == "title" or (key == "default" and item is None))
    }
    choices = tidy.get("anyOf")
    if isinstance(choices, list):
        left = [choice for choice in choices if choice != {"type": "null"}]
        if len(left) == 1 and isinstance(left[0], dict):
            del tidy["anyOf"]
            tidy = {**left[0], **tidy}
        else:
            tidy["anyOf"] = left
    patterns = tidy.get("patternProperties")
    if isinstance(patterns, dict) and NAME in patterns:
        tidy["additionalProperties"] = False
    return tidy


def _open(model: Json, *, expressions: bool) -> None:
    model["patternProperties"] = {"^x-": {}}
    if not expressions:
        return
    properties = _mapping(model["properties"])
    for key, item in properties.items():
        properties[key] = _with_expression(_mapping(item))


def _with_expression(item: Json) -> Json:
    """Where only a number or a flag is allowed; text is allowed to be an expression as it is."""
    kinds = _kinds(item)
    if not kinds & {"integer", "number", "boolean"} or "string" in kinds:
        return item
    outer: Json = {key: item[key] for key in ("description", "default") if key in item}
    inner: Json = {key: value for key, value in item.items() if key not in outer}
    choices = inner.pop("anyOf", None)
    before: list[object] = choices if isinstance(choices, list) and not inner else [item if choices else inner]
    return {"anyOf": [*before, dict(EXPRESSION_SCHEMA)], **outer}


def _kinds(item: Json) -> set[str]:
    kinds: set[str] = set()
    kind = item.get("type")
    kinds.update(kind if isinstance(kind, list) else [kind] if isinstance(kind, str) else [])
    choices = item.get("anyOf")
    for choice in choices if isinstance(choices, list) else []:
        kinds |= _kinds(_mapping(choice))
    return kinds

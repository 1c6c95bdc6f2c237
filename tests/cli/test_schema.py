from __future__ import annotations

import json

import pytest

from flowbatch.cli.main import run


@pytest.mark.parametrize("arguments", [["schema"], ["schema", "workflow"]])
def test_the_schema_of_workflow_files(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "jobs" in schema["properties"]


def test_the_schema_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "settings"]) == 0
    assert {"environments", "queues", "policy"} <= set(json.loads(capsys.readouterr().out)["properties"])


def test_what_has_no_schema_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "novel"]) == 2
    assert "'workflow'" in capsys.readouterr().err

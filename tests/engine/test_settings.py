"""flowbatch.yaml, the variables that win over it, and what is offered without either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowbatch.errors import InputError, WorkflowInvalid
from flowbatch.model.events import ChildEvents
from flowbatch.model.resources import Resources
from flowbatch.settings import LOG_CAP_BYTES, defaults, machine, memory_mib, read_settings

FILE = """
environments: {big: {backend: process, vcpus: 12, memory: 48GiB}, light: {vcpus: 0.5}}
queues: {bulk: {priority: 1, environments: [big]}, fast: {priority: 10, environments: [light, big], max_running: 3}}
limits: {log: 8MiB, disk_free: 500MiB}
events: {children: ends}
retention: 30d
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FLOWBATCH_"):
            monkeypatch.delenv(name)


def test_without_a_file(tmp_path: Path) -> None:
    settings = read_settings(tmp_path / "state", None)
    assert settings == defaults()
    [place] = settings.environments
    assert (place.name, place.backend, place.capacity) == ("default", "local", machine())
    assert place.capacity.vcpus_milli == 1000 * len(os.sched_getaffinity(0))
    assert 0 < place.capacity.memory_mib < memory_mib()
    assert [queue.name for queue in settings.queues] == ["default"]
    assert (settings.log_cap_bytes, settings.retention_ms, settings.child_events) == (
        LOG_CAP_BYTES,
        None,
        ChildEvents.NONE,
    )


@pytest.mark.parametrize("named", [False, True])
def test_the_file_beside_the_state_folder_or_the_one_that_is_named(tmp_path: Path, named: bool) -> None:
    path = tmp_path / ("other.yaml" if named else "flowbatch.yaml")
    path.write_text(FILE, encoding="utf-8")
    settings = read_settings(tmp_path / "state", str(path) if named else None)
    places = {place.name: place for place in settings.environments}
    assert places["big"].capacity == Resources(12_000, 48 * 1024)
    assert places["light"].capacity.vcpus_milli == 500
    queues = {queue.name: queue for queue in settings.queues}
    assert (queues["bulk"].priority, queues["bulk"].environments) == (1, ("big",))
    assert (queues["fast"].environments, queues["fast"].max_running) == (("light", "big"), 3)
    assert settings.log_cap_bytes == 8 * 1024 * 1024
    assert settings.disk_free_mib == 500
    assert settings.retention_ms == 30 * 24 * 3600 * 1000
    assert settings.child_events is ChildEvents.ENDS
    assert settings.file == str(path)


def test_variables_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowbatch.yaml").write_text(FILE, encoding="utf-8")
    monkeypatch.setenv("FLOWBATCH_LOG_CAP", "2")
    monkeypatch.setenv("FLOWBATCH_CHILD_EVENTS", "all")
    settings = read_settings(tmp_path / "state", None)
    assert settings.log_cap_bytes == 2 * 1024 * 1024
    assert settings.child_events is ChildEvents.ALL


@pytest.mark.parametrize(("name", "value"), [("LOG_CAP", "0"), ("LOG_CAP", "many"), ("CHILD_EVENTS", "yes")])
def test_wrong_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FLOWBATCH_{name}", value)
    with pytest.raises(InputError, match=f"FLOWBATCH_{name}"):
        read_settings(tmp_path / "state", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("environments: {big: {vcpus: -1}}", "vcpus"),
        ("enviroments: {}", "environments"),
        ("queues: {bulk: {environments: [none]}}", "none"),
        (
            "environments: {f: {type: unmanaged, nodes: {n: {vcpus: 1, memory: 1GiB, endpoint: 'ssh://h'}}}}",
            "must have `backend: docker`",
        ),
        (
            "environments: {f: {backend: docker, type: unmanaged, nodes: {n: {vcpus: 1, endpoint: 'ssh://h'}}}}",
            "'memory' is needed",
        ),
        ("retention: 1h", "24h"),
        ("jobs: {a: {script: x}}", "jobs"),
        ("notify: [{to: nowhere}]", "is no URL"),
        ("notify: [{to: {secret: s}}]", "unknown secret"),
        (
            "notify: [{to: 'https://a.example/'}, {to: 'https://b.example/'}]",
            "give each a `name` (they go on where they are as `name: eventbridge` and `name: eventbridge-2`)",
        ),
        ("webhooks: {allow_networks: [ten]}", "does not appear to be"),
        ("- a", "mapping"),
        ("a: ]", ""),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "flowbatch.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(WorkflowInvalid) as raised:
        read_settings(tmp_path / "state", None)
    assert message in str(raised.value)
    assert "flowbatch.yaml:1:" in str(raised.value)


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such settings file"):
        read_settings(tmp_path / "state", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "state", str(tmp_path))


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "flowbatch.yaml").write_text("# nothing yet\n", encoding="utf-8")
    settings = read_settings(tmp_path / "state", None)
    assert [(place.name, place.capacity) for place in settings.environments] == [("default", machine())]

"""`doctor` prints each default of a server that the settings weaken, and whom its secrets are open to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.cli.weakened import weakened, weakened_policy
from flowbatch.settings import Settings, defaults, parse_settings
from flowbatch.spec.policy import Policy
from flowbatch.spec.serving import Folder, Serve

WEAK = {
    "serve: {listen: ['0.0.0.0:7070', '[::]:7070', '127.0.0.1:7071']}": [
        "listens on 0.0.0.0:7070",
        "listens on [::]:7070",
    ],
    "serve: {behind_proxy: true}": ["unencrypted"],
    "serve: {strict: false}": ["AWS's limits are lifted"],
    "serve: {folders: [{path: /srv/a}]}": ["files in /srv/a may everything"],
    "serve: {folders: [{path: /srv/a, policies: [x], owners: [ada, 17]}]}": ["files of ada, 17 are taken from /srv/a"],
    "allow_workflow_environments: true": ["may bring environments and queues of any size"],
    "allow_paths: [/data]": ["may read below /data"],
    "webhooks: {allow_networks: [10.0.0.0/8]}": ["webhooks may reach 10.0.0.0/8"],
    "audit: {retention: 90d}": ["forgotten after 90 days"],
    "policy: {rules: [{queues: [gpu], principals: [ada], privileged: true, mounts: [/d], network: host, devices: [/dev/fuse], logs: [gelf]}]}": [
        "in gpu, of ada: containers may read and write /d",
        "root here",
        "the host network",
        "/dev/fuse",
        "by gelf",
    ],
    "policy: {rules: [{processes: true, images: ['*']}]}": [
        "in every queue, of everybody: jobs may be processes",
        "images may be *",
    ],
}


@pytest.mark.parametrize("text", WEAK)
def test_what_is_weakened_is_told_and_nothing_else(text: str) -> None:
    told = list(weakened(parse_settings(text.encode(), "s.yaml")))
    assert len(told) == len(WEAK[text])
    for expected, found in zip(WEAK[text], told, strict=True):
        assert expected in found


def test_nothing_is_weakened_by_default() -> None:
    assert list(weakened(defaults())) == []
    assert list(weakened_policy(Policy(processes=False))) == []


def test_a_setting_that_is_new_must_say_whether_it_weakens_anything() -> None:
    """Add it to one of the two, and what it weakens to `weakened`."""
    harmless = {
        "environments", "queues", "log_cap_bytes", "retention_ms", "child_events", "file", "tokens", "host", "disk_free_mib", "notify",
        "notify_wait_ms", "notify_warnings", "secrets", "audit_mirror",
    }  # fmt: skip
    looked_at = {"policy", "serve", "allow_environments", "allow_paths", "allow_networks", "audit_retention_ms"}
    known = set(Settings.__struct_fields__)
    assert {name for name in known - harmless - looked_at if not name.startswith("_")} == set()
    assert set(Serve.__struct_fields__) == {
        "listen", "host_names", "tls", "behind_proxy", "account", "region", "strict", "rate", "folders",
    }  # fmt: skip
    assert set(Folder.__struct_fields__) == {
        "path", "principal", "policies", "owners", "runs_per_minute",
    }  # fmt: skip
    assert set(Policy.__struct_fields__) == {
        "mounts", "privileged", "networks", "devices", "logs", "images", "protected", "processes", "rules",
    }  # fmt: skip


def test_doctor_says_who_may_read_what_is_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, flows = tmp_path / "state", tmp_path / "flows"
    state.mkdir(mode=0o700)
    flows.mkdir()
    flows.chmod(0o777)
    for path, mode in ((state / "master.key", 0o640), (tmp_path / "db", 0o604), (tmp_path / "key", 0o600)):
        path.write_text("x")
        path.chmod(mode)
    settings = "secrets: {db: {file: db}}\nserve: {tls: {cert: c, key: key}, folders: [{path: flows, policies: []}]}\n"
    (tmp_path / "s.yaml").write_text(settings)
    assert run(["--state", str(state), "--config", str(tmp_path / "s.yaml"), "doctor", "--json"]) == 1
    told = [
        (each["level"], each["text"]) for each in json.loads(capsys.readouterr().out) if each["subject"] == "server"
    ]
    assert [level for level, _ in told] == ["note", "warning", "warning", "error"]
    assert "policy: {processes: false}" in told.pop(0)[1]
    assert "master.key: others may read the key that all others are made from: `chmod go-rwx" in told[0][1]
    assert "db: others may read the secret 'db'" in told[1][1]
    assert "others may write here" in told[2][1]

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from flowbatch.cli import machine
from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.jobspec import Environment
from flowbatch.model.resources import Resources
from flowbatch.settings import defaults
from tests.cli.filled import History
from tests.core.builders import job

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw - nfs4 server:/home rw
31 22 0:27 / /home/me/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:28 / /mnt/host rw - fuse.sshfs me@host:/ rw
33 22 0:29 / /over rw - ext4 /dev/sdc1 rw
34 33 0:30 / /over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me/.flowbatch", "nfs4"),
        ("/home/me/local disk/.flowbatch", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/host/x", "fuse.sshfs"),
        ("/over/x", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert machine.file_system_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(("path", "level"), [("/srv", "ok"), ("/home/x", "error"), ("/mnt/host/x", "warning")])
def test_network_file_systems_are_not_for_stores(path: str, level: str, tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    assert machine.look_at_file_system(Path(path), mountinfo).level == level


def test_a_folder_that_others_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    finding = machine.look_at_rights(tmp_path)
    assert finding.level == "warning"
    assert f"chmod 700 {tmp_path}" in finding.text
    tmp_path.chmod(0o700)
    assert machine.look_at_rights(tmp_path).level == "ok"


def test_every_weakened_default_is_told(tmp_path: Path) -> None:
    file = tmp_path / "flowbatch.yaml"
    file.touch()
    file.chmod(0o666)
    greedy = Environment("greedy", "local", Resources(10**9, 10**9))
    settings = replace(defaults(), environments=(greedy,), log_cap_bytes=1 << 40, file=str(file))
    told = [finding.text for finding in machine.look_at_settings(settings) if finding.level == "warning"]
    assert any("more than this machine has" in text for text in told)
    assert any("1048576 MiB" in text for text in told)
    assert any("others may write it" in text for text in told)


def test_without_a_folder_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(tmp_path / "none"), "doctor"]) == 0
    printed = capsys.readouterr().out
    assert "there is no state folder yet" in printed
    assert "process: memory" in printed
    assert list(tmp_path.iterdir()) == []


def findings_of(folder: StateFolder, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, str]]:
    run(["--state", str(folder.path), "doctor", "--json", *options])
    found = json.loads(capsys.readouterr().out)
    assert all(list(finding) == ["level", "subject", "text"] for finding in found)
    assert {finding["level"] for finding in found} <= {"ok", "note", "warning", "error"}
    return [finding for finding in found if isinstance(finding, dict)]


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    history = History()
    history.begin("run", job("a"), job("b", size=3, needs=["a"]))
    history.done("a", "b:0")
    return history.store(tmp_path / "state")


def text_of(findings: list[dict[str, str]], subject: str) -> str:
    return "\n".join(finding["text"] for finding in findings if finding["subject"] == subject)


def test_the_store_is_looked_at(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings_of(folder, capsys)
    assert "journal wal" in text_of(found, "store")
    assert "no engine holds the folder" in text_of(found, "engine")
    assert f"1 run is interrupted: `flowbatch --state {folder.path} resume` continues it" in text_of(found, "engine")


def test_the_holder_is_named(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with folder.hold():
        found = findings_of(folder, capsys)
    assert f"process {os.getpid()} holds the folder" in text_of(found, "engine")
    assert "interrupted" not in text_of(found, "engine")


def test_the_laws_hold_for_what_is_stored(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings_of(folder, capsys, "--integrity", "--invariants")
    assert "whole: every page was read" in text_of(found, "store")
    assert "laws of the store hold" in text_of(found, "invariants")
    assert not [finding for finding in found if finding["level"] == "error"]


def test_a_damaged_store_is_an_error(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = b"not a database, but long enough to be taken for one " * 200
    folder.database.write_bytes(before)
    assert run(["--state", str(folder.path), "doctor"]) == 1
    assert "error    store" in capsys.readouterr().out
    assert folder.database.read_bytes() == before


def test_wrong_settings_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("enviroments: {}")
    arguments = ["--state", str(tmp_path / "none"), "--config", str(config), "doctor"]
    assert run(arguments) == 1
    assert "did you mean 'environments'" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may write wherever the file system lets anybody
    finding = machine.look_at_rights(tmp_path)
    assert (finding.level, finding.text) == (
        "error",
        f"{tmp_path}: nothing can be written here: no engine can run on it",
    )

"""The systemd unit that `serve --print-unit` prints: whole by systemd's own checker, and without what would end tasks."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.cli.unit import quoted


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run([*words, "--print-unit"]) == 0
    return capsys.readouterr().out


def service(text: str) -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    parsed.optionxform = str  # type: ignore[method-assign,assignment]
    parsed.read_string(text)
    return parsed["Service"]


def test_the_unit_serves_as_the_command_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = printed(
        capsys, "--state", "s", "--config", "my settings.yaml", "serve", "flows", "--listen", "0.0.0.0:70", "--behind-proxy",
        "--region", "eu-west-1", "--rate", "5",
    )  # fmt: skip
    found = service(text)
    assert shlex.split(found["ExecStart"])[1:] == [
        "-m", "flowbatch", "--state", f"{tmp_path}/s", "--config", f"{tmp_path}/my settings.yaml", "serve", f"{tmp_path}/flows",
        "--listen", "0.0.0.0:70", "--behind-proxy", "--region", "eu-west-1", "--rate", "5",
    ]  # fmt: skip
    assert found["WorkingDirectory"] == str(tmp_path)
    assert not (tmp_path / "s").exists()


def test_the_unit_ends_no_task_and_hides_nothing_from_docker(capsys: pytest.CaptureFixture[str]) -> None:
    found = service(printed(capsys, "serve"))
    assert (found["KillMode"], found["OOMPolicy"], found["Delegate"]) == ("process", "continue", "yes")
    assert "HUP $MAINPID" in found["ExecReload"]
    assert int(found["TimeoutStopSec"]) > 10  # within which `serve` ends by itself
    assert not {"PrivateTmp", "ProtectHome", "PrivateDevices", "PrivateNetwork", "MemoryDenyWriteExecute"} & set(found)
    assert "AF_UNIX" in found["RestrictAddressFamilies"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("listen", ["127.0.0.1:7070"])
def test_systemd_understands_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str) -> None:
    path = tmp_path / "flowbatch.service"
    path.write_text(printed(capsys, "serve", "--listen", listen))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "flowbatch.service" in line]) == (0, [])
    path.write_text(path.read_text().replace("KillMode=process", "KillMode=nothing"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert "kill mode" in done.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [("a", "a"), ("a b", '"a b"'), ("100%", '"100%%"'), ("$HOME", '"$$HOME"'), ('"', '"\\""'), ("", '""')],
)
def test_a_word_reaches_the_command_as_it_is(word: str, said: str) -> None:
    assert quoted(word) == said

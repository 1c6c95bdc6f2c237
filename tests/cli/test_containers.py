"""What the verbs say of containers, and what the machine's own paths allow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from flowbatch.cli import machine
from flowbatch.cli.containers import words_of
from flowbatch.cli.main import run
from flowbatch.model.container import Container, Cpu, Device, Log, Mount, Pull, Tmpfs, Ulimit
from flowbatch.settings import defaults
from flowbatch.spec.policy import parse_allow

FILM = """\
environments: {farm: {backend: docker, vcpus: 4, memory: 8GiB, cpu: quota}}
volumes: {frames: {keep: true}}
jobs:
  render:
    array: 3
    image: blender:4.2
    memory: 3GiB
    volumes: ['./in:/in:ro', 'frames:/frames', 'scratch:/scratch']
    attempts: 2
  encode: {needs: render, image: ffmpeg, memory: 1GiB, volumes: ['frames:/frames']}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    Path("in").mkdir()
    return tmp_path


def check(text: str, *arguments: str) -> int:
    Path("film.yaml").write_text(text, encoding="utf-8")
    return run(["check", "film.yaml", *arguments])


def box(body: str) -> str:
    return f"jobs: {{a: {{image: 'busybox:1', memory: 64, {body}}}}}"


def test_the_plan_for_people(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    assert printed.splitlines()[6:] == [
        f"render: image blender:4.2; {here}/in at /in (read-only); volume frames at /frames (kept); "
        "volume scratch at /scratch",
        "encode: image ffmpeg; volume frames at /frames (kept)",
        "",
        "Environment farm (docker): 4 vCPU, 8 GiB",
        "Note: encode: `latest` is whatever was pulled last; a tag or a digest says which image runs.",
        "Note: volume scratch goes with the run; `volumes: {NAME: {keep: true}}` keeps one.",
    ]


def test_the_plan_for_programs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    render = plan["jobs"][0]
    assert render["image"] == "blender:4.2"
    assert render["command"] == []
    assert render["workdir"] == ""
    assert render["container"]["mounts"][0] == {
        "source": f"{here}/in", "target": "/in", "readonly": True, "volume": False, "keep": False,
    }  # fmt: skip
    assert plan["environments"][0]["cpu"] == "quota"


def test_every_fact_in_a_few_words() -> None:
    container = Container(
        "a", Pull.ALWAYS, "/srv", "me", (Mount("v", "/v", volume=True),), (Tmpfs("/t", 64),), (Ulimit("core", 0, -1),),
        (Device("/dev/a", "/dev/b", "r"),), True, True, False, 64, 1024, 5, "host", Log("gelf"), Cpu.QUOTA, (("a", "b"),),
    )  # fmt: skip
    assert words_of(container) == [
        "image a (pull: always)", "volume v at /v", "tmpfs /t of 64 MiB", "device /dev/a (r)", "privileged", "network host",
        "its root read-only", "as me", "in /srv", "/dev/shm of 64 MiB", "1 GiB swap", "ulimit core 0:-1", "vCPUs as a cap",
        "no init", "log driver gelf", "tags as labels",
    ]  # fmt: skip
    assert words_of(Container("a")) == ["image a"]


def test_a_graph_names_images_and_asks_no_policy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("film.yaml").write_text(FILM.replace("ffmpeg,", "ffmpeg, privileged: true,"), encoding="utf-8")
    assert run(["graph", "film.yaml"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "in " in line] == [
        "●    render  ×3            in blender:4.2",
        "╰─●  encode      ← render  in ffmpeg",
    ]
    assert run(["graph", "film.yaml", "--format", "dot"]) == 0
    assert 'label="encode in ffmpeg"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "allow"),
    [
        ("privileged: true", "privileged"),
        ("network: host", "network=host"),
        ("devices: [/dev/null]", "device=/dev/null"),
        ("log: {driver: syslog}", "log=syslog"),
        ("volumes: ['/usr/lib:/x:ro']", "mount=/usr/lib:ro"),
    ],
)
def test_refused_with_what_would_allow_it(body: str, allow: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(box(body)) == 2
    assert f"not allowed unless you say so: --allow {allow}," in capsys.readouterr().err
    assert run(["run", "--dry-run", "film.yaml"]) == 2
    assert check(box(body), "--allow", allow) == 0


def test_the_settings_allow_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("flowbatch.yaml").write_text("policy: {privileged: true, images: ['docker.io/library/*']}", encoding="utf-8")
    assert check(box("privileged: true")) == 0
    assert "a: privileged, so that what runs there is root on this machine." in capsys.readouterr().out
    assert check("jobs: {a: {image: 'evil.example/x'}}") == 2
    assert "evil.example/x:latest is none of the images that the settings allow" in capsys.readouterr().err


def test_a_wrong_word_to_allow(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM, "--allow", "everything") == 2
    assert "--allow: 'everything' cannot be allowed; what can: mount=/path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("./evil", "/etc belongs to the system and is never mounted"),
        ("./out", "out leads through a symbolic link to "),
        ("./loop", "loop leads through a symbolic link to "),
        (".", ", data of flowbatch or Docker, and is never mounted; mount a folder in it"),
        ("./.flowbatch", ".flowbatch is data of flowbatch or Docker and is never mounted"),
        ("./flowbatch.yaml", "flowbatch.yaml is data of flowbatch or Docker and is never mounted"),
        ("./sock", "is the socket of a container engine"),
        ("./own.sock", "own.sock is data of flowbatch or Docker and is never mounted"),
    ],
)
def test_real_paths(
    source: str,
    said: str,
    here: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{here}/own.sock")
    Path("flowbatch.yaml").write_text("{}", encoding="utf-8")
    Path("evil").symlink_to("/etc")
    Path("out").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    Path("loop").symlink_to("in")
    Path("sock").symlink_to("/var/run/docker.sock")
    assert check(box(f"volumes: ['{source}:/x']"), "--allow", "mount=/") == 2
    assert said in capsys.readouterr().err


def test_a_folder_reached_by_a_link_is_the_workflows_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, link = here / "real", here / "link"
    (real / "in").mkdir(parents=True)
    (real / "film.yaml").write_text(box("volumes: ['./in:/x']"), encoding="utf-8")
    link.symlink_to(real)
    assert run(["check", str(link / "film.yaml"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["jobs"][0]["container"]["mounts"][0]["source"] == str(real / "in")


def test_a_source_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written to is made; what is read must be there."""
    assert check(box("volumes: ['./later:/x', 'v:/v']")) == 0
    assert capsys.readouterr().err == ""
    assert check(box("volumes: ['./later:/x:ro', 'v:/v']")) == 0
    err = capsys.readouterr().err
    assert err.startswith("film.yaml:1:")
    assert err.endswith(
        f"jobs.a.volumes: {here}/later, to be read, is not there; no container starts until it is (warning)\n"
    )


@pytest.mark.parametrize("source", ["/proc/1/root", "/proc/1/cwd/x"])
def test_a_source_below_a_link_that_is_not_ours_to_follow(
    here: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """With everything else that is wrong in the file."""
    assert check(box(f"volumes: ['{source}:/x', '/etc:/y']")) == 2
    err = capsys.readouterr().err
    assert f"{source} belongs to the system and is never mounted" in err
    assert "/etc belongs to the system" in err


def test_doctor_tells_what_the_settings_allow() -> None:
    allowed = ["mount=/data,privileged,network=host,device=/dev/kvm,log=gelf", "mount=/ro:ro"]
    settings = replace(defaults(), policy=parse_allow(allowed))
    told = [finding.text for finding in machine.look_at_settings(settings) if "(policy: " in finding.text]
    assert told == [
        "containers may read and write /data (policy: mounts)",
        "containers may read /ro (policy: mounts)",
        "containers may be privileged: they are root here (policy: privileged)",
        "containers may use the host network (policy: network)",
        "containers may use /dev/kvm (policy: devices)",
        "containers may send their logs away by gelf (policy: logs)",
    ]

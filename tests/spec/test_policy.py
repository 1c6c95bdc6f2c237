"""What a container may ask for: the table, and that no route through a file leads around it (F42)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbatch.errors import WorkflowInvalid
from flowbatch.model.container import Container, Device, Log, Mount, Tmpfs
from flowbatch.model.jobspec import JobSpec
from flowbatch.settings import parse_settings
from flowbatch.spec.images import full_name
from flowbatch.spec.policy import Guard, Policy, Root, judge, matches, moved, parse_allow, plain, resolved
from tests.spec.building import GUARD, compiled, problems

OWN = Policy(mounts=(Root("/lab"),), protected=("/lab/.flowbatch", "/home/me/state"))
LINKS = {
    "/lab/link": "/data/x",
    "/lab/inner": "/lab/real",
    "/lab/evil": "/etc",
    "/dev/disk/by-id/x": "/dev/sda",
    "/srv": "/mnt/srv",
    "/var/run": "/run",
}


def resolve(path: str) -> str:
    """As realpath would with these links."""
    for link, to in LINKS.items():
        if path == link or path.startswith(link + "/"):
            return plain(to + path[len(link) :])
    return plain(path)


def bind(source: str, *, readonly: bool = False) -> Container:
    return Container("busybox", mounts=(Mount(source, "/x", readonly),))


OTHER = "not allowed unless you say so: --allow"


@pytest.mark.parametrize(
    ("container", "policy", "said"),
    [
        (Container("busybox"), Policy(), None),
        (Container("busybox", mounts=(Mount("frames", "/f", volume=True),)), Policy(), None),
        (Container("busybox", mounts=(Mount("../../etc", "/f", volume=True),)), Policy(), None),  # a name, not a path
        (Container("busybox", tmpfs=(Tmpfs("/etc", 1),), network="none", log=Log("awslogs")), Policy(), None),
        (bind("/lab/in"), OWN, None),
        (bind("/lab/in"), Policy(), f"/lab/in is outside the workflow's folder; {OTHER} mount=/lab/in"),
        (bind("/lab"), Policy(mounts=(Root("/lab"),)), None),
        (bind("/lab"), OWN, "/lab holds /lab/.flowbatch, data of flowbatch or Docker, and is never mounted"),
        (bind("/lab/.flowbatch/logs"), OWN, "/lab/.flowbatch/logs is data of flowbatch or Docker and is never"),
        (bind("/workshop"), OWN, f"/workshop is outside the workflow's folder; {OTHER} mount=/workshop"),
        (bind("/data", readonly=True), OWN, f"/data is outside the workflow's folder; {OTHER} mount=/data:ro"),
        (bind("/data/a"), OWN.plus(parse_allow(["mount=/data"])), None),
        (bind("/data/a"), OWN.plus(parse_allow(["mount=/data:ro"])), "/data/a may be mounted for reading alone; add"),
        (bind("/data/a", readonly=True), OWN.plus(parse_allow(["mount=/data:ro"])), None),
        (bind("/home"), OWN.plus(parse_allow(["mount=/home"])), "/home holds /home/me/state, data of flowbatch"),
        # links
        (bind("/lab/link"), OWN, "/lab/link leads through a symbolic link to /data/x; write that path"),
        (bind("/lab/inner"), OWN, "/lab/inner leads through a symbolic link to /lab/real; write that path"),
        (bind("/lab/inner/deep"), OWN, "/lab/inner/deep leads through a symbolic link to /lab/real/deep"),
        (bind("/lab/evil"), OWN, "/etc belongs to the system and is never mounted"),
        (bind("/lab/link"), OWN.plus(parse_allow(["mount=/data"])), "/lab/link leads through a symbolic link to"),
        (bind("/lab/link"), OWN.plus(parse_allow(["mount=/lab/link"])), None),  # its owner means the link
        (bind("/srv/a"), Policy(mounts=(Root("/srv"),)), None),  # a link above the root is the owner's own
        (bind("/mnt/srv/a"), Policy(mounts=(Root("/srv"),)), None),
        # never, whoever allows it
        *[
            (bind(path), Policy(mounts=(Root("/"),), protected=("/var/docker",)), said)
            for path, said in (
                ("/", "/ belongs to the system and is never mounted"),
                ("/etc", "/etc belongs to the system"),
                ("/etc/passwd", "/etc/passwd belongs to the system"),
                ("//etc", "/etc belongs to the system"),
                ("/lab/../etc/./passwd", "/etc/passwd belongs to the system"),
                ("/proc/1/root", "/proc/1/root belongs to the system"),
                ("/sys", "/sys belongs to the system"),
                ("/dev/sda", "/dev/sda belongs to the system"),
                ("/var", "/var holds /var/docker, data of flowbatch or Docker"),
                ("/var/run/x", "/var/run/x belongs to the system"),
                ("/var/lib/docker/volumes", "/var/lib/docker/volumes belongs to the system"),
                ("/var/lib", "/var/lib holds /var/lib/docker, which is never mounted"),
                ("/run/docker.sock", "/run/docker.sock is the socket of a container engine"),
                ("/srv/docker.sock", "/srv/docker.sock is the socket of a container engine"),
                ("/var/docker/x", "/var/docker/x is data of flowbatch or Docker"),
            )
        ],
        # what is not a mount
        (Container("a", privileged=True), OWN, f"a privileged container is root on this machine; {OTHER} privileged"),
        (Container("a", privileged=True), parse_allow(["privileged"]), None),
        (Container("a", network="host"), OWN, "the host network reaches everything that this machine does; not"),
        (Container("a", network="host"), parse_allow(["network=host"]), None),
        (Container("a", network="container:b"), parse_allow(["network=host"]), "the container:b network reaches"),
        (Container("a", devices=(Device("/dev/kvm", "/x"),)), OWN, "/dev/kvm is a device of this machine; not allowed"),
        (Container("a", devices=(Device("/dev/kvm", "/x"),)), parse_allow(["device=/dev/kvm"]), None),
        (Container("a", devices=(Device("/dev/dri/card0", "/x"),)), parse_allow(["device=/dev/dri"]), None),
        (Container("a", devices=(Device("/dev/kvm2", "/x"),)), parse_allow(["device=/dev/kvm"]), "/dev/kvm2 is a device"),
        (Container("a", devices=(Device("/dev/disk/by-id/x", "/x"),)), parse_allow(["device=/dev/disk"]), "/dev/disk/by-id/x"),
        (Container("a", log=Log("gelf")), OWN, "gelf sends the log elsewhere and leaves none here; not allowed unless"),
        (Container("a", log=Log("gelf")), parse_allow(["log=gelf"]), None),
        # images
        (Container("busybox:1"), Policy(images=("docker.io/library/*",)), None),
        (Container("registry.local/a/b:1"), Policy(images=("docker.io/*", "registry.local/*:1")), None),
        (Container("busybox.evil/x"), Policy(images=("docker.io/library/busybox*",)), "busybox.evil/x:latest is none of"),
        (Container("busybox"), Policy(images=("*@sha256:*",)), "docker.io/library/busybox:latest is none of the images"),
    ],
)  # fmt: skip
def test_the_table(container: Container, policy: Policy, said: str | None) -> None:
    found = judge(container, policy, resolve)
    assert [text[: len(said or "")] for text in found] == ([] if said is None else [said])


def test_all_objections_at_once() -> None:
    container = Container("a", privileged=True, network="host", mounts=(Mount("/a", "/a"), Mount("/b", "/b")))
    assert len(judge(container, Policy())) == 4


def test_a_source_swapped_after_submission_is_told() -> None:
    container = resolved(Container("a", mounts=(Mount("/srv/a", "/a"), Mount("v", "/v", volume=True))), resolve)
    assert container.mounts == (Mount("/mnt/srv/a", "/a"), Mount("v", "/v", volume=True))
    assert moved(container, resolve) == []
    told = moved(container, lambda path: "/etc")
    assert told == ["/mnt/srv/a leads to /etc by now, which was not what was submitted"]


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        (["mount=/data,privileged", "network=host"], Policy((Root("/data"),), privileged=True, networks=("host",))),
        (["mount=/a/../b:ro"], Policy((Root("/b", readonly=True),))),
        (["device=/dev/fuse,log=syslog"], Policy(devices=("/dev/fuse",), logs=("syslog",))),
        ([], Policy()),
    ],
)
def test_allow(words: list[str], policy: Policy) -> None:
    assert parse_allow(words) == policy


@pytest.mark.parametrize(
    "word", ["", "all", "mount", "mount=", "mount=data", "mount=/a:rw", "network=x", "device=/etc", "privileged=1", "image=x"]
)  # fmt: skip
def test_what_cannot_be_allowed(word: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be allowed|no folder to allow"):
        parse_allow([word])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/tool", "docker.io/team/tool:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("registry:5000/a/b__c", "registry:5000/a/b__c:latest"),
        ("public.ecr.aws/a/b:v1@sha256:" + "0" * 64, "public.ecr.aws/a/b:v1@sha256:" + "0" * 64),
        ("a@sha256:" + "0" * 64, "docker.io/library/a@sha256:" + "0" * 64),
    ],
)
def test_full_names_of_images(image: str, name: str) -> None:
    assert full_name(image) == name


@pytest.mark.parametrize(
    "image", ["a//b", "/a", "a/", ":x", "a:b:c", "-a", "a..b", "a/B", "a#b", "@sha256:" + "0" * 64]
)
def test_what_is_no_image(image: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        full_name(image)


def slowly(pattern: str, text: str) -> bool:
    """The definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return slowly(pattern[1:], text) or (bool(text) and slowly(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and slowly(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=7), st.text("ab", max_size=7))
@settings(max_examples=300)
def test_patterns_match_as_defined(pattern: str, text: str) -> None:
    assert matches(pattern, text) == slowly(pattern, text)


def test_a_pattern_of_stars_takes_no_time() -> None:
    assert not matches("*a" * 100 + "b", "a" * 255)


def test_the_settings() -> None:
    text = b"""
    policy:
      mounts: [{source: /data, readonly: true}, /scratch]
      privileged: true
      network: host
      devices: [/dev/dri]
      logs: [gelf]
      images: ['registry.local/*']
    """
    assert parse_settings(text, "s.yaml").policy == Policy(
        (Root("/data", readonly=True), Root("/scratch")), True, ("host",), ("/dev/dri",), ("gelf",), ("registry.local/*",)
    )  # fmt: skip
    assert parse_settings(b"{}", "s.yaml").policy == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: {mounts: [data]}", "1:19: policy.mounts[0]: 'data' is no folder to allow; write an absolute path"),
        ("policy: {mounts: [{source: data}]}", "1:19: policy.mounts[0]: `source` is an absolute path"),
        ("policy: {mounts: [{readonly: true}]}", "1:19: policy.mounts[0]: a folder that may be mounted is {source"),
        ("policy: {network: bridge}", "1:19: policy.network: must be 'host', found 'bridge'"),
        ("policy: {cap_add: [ALL]}", "1:10: policy.cap_add: unknown key 'cap_add'"),
        ("policy: {devices: [/etc]}", "1:20: policy.devices[0]: '/etc' is no device"),
    ],
)
def test_wrong_settings(text: str, message: str) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        parse_settings(text.encode(), "s.yaml")
    (problem,) = caught.value.problems
    assert (
        str(problem).removeprefix("s.yaml:").startswith(message.replace("1:20: policy.mounts", "1:19: policy.mounts"))
    )


# F42: what HostConfig has and nobody may ask for, through every route that a file offers.

FORBIDDEN = [
    "cap_add", "capAdd", "CapAdd", "security_opt", "securityOpt", "pid", "pidMode", "ipc", "ipcMode", "uts", "userns_mode",
    "usernsMode", "sysctls", "volumes_from", "volumesFrom", "cgroup_parent", "cgroupParent", "runtime", "extra_hosts",
    "extraHosts", "group_add", "groupAdd", "oom_kill_disable", "restart", "auto_remove", "device_cgroup_rules", "HostConfig",
    "entrypoint", "links", "dns", "hostname", "labels",
]  # fmt: skip


@pytest.mark.parametrize("key", FORBIDDEN)
def test_keys_that_no_mapping_has(key: str) -> None:
    for body in (
        f"jobs: {{a: {{image: busybox, {key}: x}}}}",
        f"jobs: {{a: {{containerProperties: {{image: busybox, {key}: x}}}}}}",
        f"jobs: {{a: {{containerProperties: {{image: busybox, linuxParameters: {{{key}: x}}}}}}}}",
        f"jobs: {{a: {{image: busybox, containerOverrides: {{{key}: x}}}}}}",
        f"definitions: {{d: {{image: busybox, {key}: x}}}}\njobs: {{a: {{uses: d}}}}",
        f"defaults: {{{key}: x}}\njobs: {{a: {{image: busybox}}}}",
    ):
        assert any(f"unknown key '{key}'" in problem for problem in problems(body)), body


def test_a_container_is_a_whitelist() -> None:
    """A field that is new here has to be judged, or be harmless; say which in policy.py, then add it."""
    assert set(Container.__struct_fields__) == {
        "image", "pull", "workdir", "user", "mounts", "tmpfs", "ulimits", "devices", "privileged", "readonly", "init",
        "shm_mib", "swap_mib", "swappiness", "network", "log", "cpu", "labels",
    }  # fmt: skip


PATHS = st.sampled_from(
    [
        "/", "/etc", "//etc", "/lab/../etc", "./../etc", "/proc", "/sys/fs", "/dev/sda", "/run/docker.sock", "~/.ssh", "./in",
        "/var/run/docker.sock", "./link", "./evil", "../lab/x", "/lab/./.flowbatch", ".", "~", "/data", "./a/../../etc/x",
        "/var/lib/docker",
    ]
)  # fmt: skip
SHORT = st.one_of(
    PATHS.map(lambda path: f"volumes: ['{path}:/m']"),
    PATHS.map(lambda path: f"volumes: ['{path}:/m:ro', 'v:/v']"),
    st.sampled_from(
        [
            "privileged: true", "network: host", "network: 'container:x'", "devices: [/dev/kvm]", "devices: [/etc]",
            "devices: ['/dev/../etc/passwd:/p']", "log: {driver: syslog}", "tmpfs: ['/t:size=1MiB,rbind']",
            "privileged: '${{ params.yes }}'", "network: '${{ params.net }}'", "volumes: ['${{ params.path }}:/m']",
            "image: '${{ params.net }}'", "propagateTags: true, tags: {flowbatch.instance: x}",
        ]
    ),
)  # fmt: skip
LONG = st.one_of(
    PATHS.map(
        lambda path: (
            f"volumes: [{{name: x, host: {{sourcePath: '{path}'}}}}], mountPoints: [{{sourceVolume: x, containerPath: /m}}]"
        )
    ),
    st.sampled_from(
        [
            "privileged: true",
            "linuxParameters: {devices: [{hostPath: /dev/kvm}]}",
            "linuxParameters: {devices: [{hostPath: /dev/../etc}]}",
            "linuxParameters: {tmpfs: [{containerPath: /t, size: 1, mountOptions: [rbind]}]}",
            "logConfiguration: {logDriver: gelf}",
        ]
    ),
)


@st.composite
def files(draw: st.DrawFn) -> str:
    body = ", ".join(dict.fromkeys(draw(st.lists(SHORT, max_size=2))))
    nested = draw(st.lists(LONG, max_size=1))
    container = f"containerProperties: {{{', '.join(['image: busybox', *nested])}}}"
    base = draw(st.sampled_from(["image: busybox", container]))
    rest = f", {body}" if body else ""
    params = "params: {yes: {type: boolean, default: true}, net: {default: host}, path: {default: /etc}}\n"
    place = draw(st.integers(0, 3))
    if place == 0:
        return f"{params}jobs: {{a: {{{base}{rest}}}}}"
    if place == 1:
        return f"{params}definitions: {{d: {{{base}{rest}}}}}\njobs: {{a: {{uses: d}}}}"
    if place == 2:
        return f"{params}definitions: {{d: {{{base}}}}}\njobs: {{a: {{uses: d{rest}}}}}"
    return f"{params}defaults: {{{body}}}\njobs: {{a: {{{base}}}}}\nfinally: {{z: {{{base}}}}}"


def harmless(spec: JobSpec) -> None:
    box = spec.container
    assert box is not None
    assert not box.privileged
    assert box.network in ("bridge", "none")
    assert box.devices == ()
    assert box.log is None or box.log.driver in ("awslogs", "json-file", "local", "journald")
    for mount in box.mounts:
        assert mount.volume or mount.source == "/lab/in" or mount.source == "/lab/x"
    assert all("bind" not in option for tmpfs in box.tmpfs for option in tmpfs.options)
    assert not any(name.startswith("flowbatch.") for name, _ in box.labels)


@given(files())
@settings(max_examples=150)
def test_nothing_forbidden_comes_out_of_a_file(text: str) -> None:
    try:
        run = compiled(text, guard=Guard(OWN, resolve)).run
    except WorkflowInvalid:
        return
    for job in run.jobs:
        harmless(job.spec)


def test_a_file_says_nothing_of_policy() -> None:
    assert problems("policy: {privileged: true}\njobs: {a: {image: busybox}}", guard=GUARD)[0].startswith(
        "1:1: policy: unk"
    )


def test_a_link_that_is_not_ours_to_follow_is_an_objection() -> None:
    def closed(path: str) -> str:
        if path.startswith("/lab/theirs"):
            raise PermissionError(13, "Permission denied", path)
        return plain(path)

    [said] = judge(bind("/lab/theirs/x"), OWN, closed)
    assert said.endswith(
        "/lab/theirs/x cannot be followed to where it leads (Permission denied): mount a folder of your own"
    )

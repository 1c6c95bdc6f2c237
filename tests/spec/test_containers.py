"""Each field of a container, in the short spelling and in AWS's: literal in, literal out."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from flowbatch.model.container import Container, Cpu, Device, Log, Mount, Pull, Tmpfs, Ulimit
from flowbatch.model.jobspec import Action, Environment, Rule, SecretSource
from flowbatch.model.resources import Resources
from flowbatch.spec.policy import Guard, Policy, Root, plain
from tests.spec.building import MACHINE, compiled, problems, spec, specs, wrong

ROOT = Path(__file__).parents[2]
ALL = Guard(
    Policy((Root("/lab"), Root("/data")), privileged=True, networks=("host",), devices=("/dev",), logs=("gelf",)),
    plain,
)
BOX = Container("busybox")


def box(body: str) -> Container:
    made = specs(f"jobs: {{a: {{image: busybox, {body}}}}}", guard=ALL)["a"].container
    assert made is not None
    return made


def aws(body: str) -> Container:
    made = specs(f"jobs: {{a: {{containerProperties: {{image: busybox, {body}}}}}}}", guard=ALL)["a"].container
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("", BOX),
        ("pull: always", replace(BOX, pull=Pull.ALWAYS)),
        ("pull: never", replace(BOX, pull=Pull.NEVER)),
        ("user: nobody", replace(BOX, user="nobody")),
        ("user: 1000", replace(BOX, user="1000")),
        ("user: '1000:100'", replace(BOX, user="1000:100")),
        ("workdir: /srv/app", replace(BOX, workdir="/srv/app")),
        ("volumes: ['./in:/in']", replace(BOX, mounts=(Mount("/lab/in", "/in"),))),
        ("volumes: ['.:/w/:rw']", replace(BOX, mounts=(Mount("/lab", "/w"),))),
        ("volumes: ['/data/x/../y:/in:ro']", replace(BOX, mounts=(Mount("/data/y", "/in", readonly=True),))),
        ("volumes: ['frames:/f']", replace(BOX, mounts=(Mount("frames", "/f", volume=True),))),
        ("volumes: ['frames:/f:ro']", replace(BOX, mounts=(Mount("frames", "/f", readonly=True, volume=True),))),
        ("tmpfs: '/t:size=64MiB'", replace(BOX, tmpfs=(Tmpfs("/t", 64),))),
        ("tmpfs: ['/t:size=64m,noexec,mode=1777']", replace(BOX, tmpfs=(Tmpfs("/t", 64, ("noexec", "mode=1777")),))),
        ("tmpfs: ['/t:noexec,size=1GiB', '/u/:size=1k']", replace(BOX, tmpfs=(Tmpfs("/t", 1024, ("noexec",)), Tmpfs("/u", 1)))),
        ("ulimits: {nofile: 1024}", replace(BOX, ulimits=(Ulimit("nofile", 1024, 1024),))),
        ("ulimits: {core: '0:-1', nproc: {soft: 5, hard: 6}}", replace(BOX, ulimits=(Ulimit("core", 0, -1), Ulimit("nproc", 5, 6)))),
        ("ulimits: {memlock: -1}", replace(BOX, ulimits=(Ulimit("memlock", -1, -1),))),
        ("devices: [/dev/fuse]", replace(BOX, devices=(Device("/dev/fuse", "/dev/fuse"),))),
        ("devices: ['/dev/sdb:/dev/disk:wr']", replace(BOX, devices=(Device("/dev/sdb", "/dev/disk", "rw"),))),
        ("privileged: true", replace(BOX, privileged=True)),
        ("readonly: true", replace(BOX, readonly=True)),
        ("init: false", replace(BOX, init=False)),
        ("shm: 1GiB", replace(BOX, shm_mib=1024)),
        ("swap: 64, memory: 64", replace(BOX, swap_mib=64)),
        ("swap: 0", BOX),
        ("network: none", replace(BOX, network="none")),
        ("network: host", replace(BOX, network="host")),
        ("log: {driver: json-file, options: {compress: true}}", replace(BOX, log=Log("json-file", (("compress", "true"),)))),
        ("log: {driver: gelf}", replace(BOX, log=Log("gelf"))),
        ("cpu: quota", replace(BOX, cpu=Cpu.QUOTA)),
        ("cpu: shares", replace(BOX, cpu=Cpu.SHARES)),
        ("platformCapabilities: [FARGATE]", replace(BOX, cpu=Cpu.QUOTA)),
        ("platformCapabilities: [EC2]", BOX),
        ("tags: {team: x}", BOX),
        ("tags: {team: x}, propagateTags: true", replace(BOX, labels=(("team", "x"),))),
    ],
)  # fmt: skip
def test_the_short_spelling(body: str, made: Container) -> None:
    assert box(body) == made


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("user: '1000'", replace(BOX, user="1000")),
        (
            "volumes: [{name: a, host: {sourcePath: ./in}}], mountPoints: [{sourceVolume: a, containerPath: /in, readOnly: true}]",
            replace(BOX, mounts=(Mount("/lab/in", "/in", readonly=True),)),
        ),
        (
            "volumes: [{name: 'a b:c', host: {sourcePath: '/data/x:y'}}, {name: s, host: {}}], "
            "mountPoints: [{sourceVolume: 'a b:c', containerPath: /x}, {sourceVolume: s, containerPath: /s}]",
            replace(BOX, mounts=(Mount("/data/x:y", "/x"), Mount("s", "/s", volume=True))),
        ),
        (
            "linuxParameters: {tmpfs: [{containerPath: /t, size: 64, mountOptions: [noexec, uid=5]}, {containerPath: /u, size: 1}]}",
            replace(BOX, tmpfs=(Tmpfs("/t", 64, ("noexec", "uid=5")), Tmpfs("/u", 1))),
        ),
        ("ulimits: [{name: nofile, softLimit: 1, hardLimit: 2}]", replace(BOX, ulimits=(Ulimit("nofile", 1, 2),))),
        ("linuxParameters: {devices: [{hostPath: /dev/fuse}]}", replace(BOX, devices=(Device("/dev/fuse", "/dev/fuse"),))),
        (
            "linuxParameters: {devices: [{hostPath: /dev/a, containerPath: /dev/b, permissions: [WRITE, READ]}]}",
            replace(BOX, devices=(Device("/dev/a", "/dev/b", "rw"),)),
        ),
        ("privileged: true", replace(BOX, privileged=True)),
        ("readonlyRootFilesystem: true", replace(BOX, readonly=True)),
        ("linuxParameters: {initProcessEnabled: false}", replace(BOX, init=False)),
        ("linuxParameters: {sharedMemorySize: 64}", replace(BOX, shm_mib=64)),
        ("memory: 64, linuxParameters: {maxSwap: 32, swappiness: 10}", replace(BOX, swap_mib=32, swappiness=10)),
        (
            "logConfiguration: {logDriver: awslogs, options: {awslogs-group: g}}",
            replace(BOX, log=Log("awslogs", (("awslogs-group", "g"),))),
        ),
        # What describe_job_definitions adds where nothing was said.
        (
            "command: [], environment: [], mountPoints: [], resourceRequirements: [], secrets: [], ulimits: [], volumes: [], "
            "linuxParameters: {devices: [], tmpfs: []}",
            BOX,
        ),
    ],
)  # fmt: skip
def test_the_spelling_of_aws(body: str, made: Container) -> None:
    assert aws(body) == made


def test_a_whole_definition_of_aws() -> None:
    text = """
    secrets: {token: {env: TOKEN}}
    definitions:
      render:
        type: container
        platformCapabilities: [EC2]
        propagateTags: true
        tags: {team: film}
        parameters: {frame: '1'}
        containerProperties:
          image: registry.local:5000/blender:4.2
          command: [blender, -f, 'Ref::frame']
          jobRoleArn: arn:aws:iam::1:role/x
          environment: [{name: A, value: b}]
          resourceRequirements: [{type: VCPU, value: '2'}, {type: MEMORY, value: '2048'}, {type: GPU, value: '1'}]
          secrets: [{name: TOKEN, valueFrom: token}]
          readonlyRootFilesystem: true
    environments: {gpu: {gpus: 1, backend: docker}}
    jobs:
      a:
        jobDefinition: render
        containerOverrides:
          command: []
          environment: [{name: C, value: d}]
          resourceRequirements: [{type: MEMORY, value: '4096'}]
    """
    plan = compiled(text)
    made = plan.run.jobs[0].spec
    assert made.container == Container("registry.local:5000/blender:4.2", readonly=True, labels=(("team", "film"),))
    assert made.kind == "docker"
    assert made.command == ("blender", "-f", "Ref::frame")
    assert made.parameters == (("frame", "1"),)
    assert made.resources == Resources(2000, 4096, 1)
    assert made.env == (("A", "b"), ("C", "d"))
    assert made.secrets == (("TOKEN", SecretSource(env="TOKEN")),)
    assert (made.user, made.workdir) == (None, "")
    assert [str(warning) for warning in plan.warnings] == [
        "f.yaml:13:23: definitions.render.containerProperties.jobRoleArn: means nothing on this machine and is ignored"
    ]


def test_a_container_needs_no_command() -> None:
    assert specs("jobs: {a: {image: busybox}}")["a"].command == ()
    assert spec("image: busybox").command == ("/bin/sh", "-ec", "x")


def test_a_job_without_an_image_is_a_process_with_the_folder_of_the_file() -> None:
    made = spec("user: me, workdir: sub", root=True)
    assert (made.container, made.kind, made.user, made.workdir) == (None, "process", "me", "/lab/sub")


def test_layers_merge_by_what_they_are_about() -> None:
    text = """
    volumes: {cache: {keep: true}, frames: }
    defaults: {volumes: ['cache:/cache', './d:/x'], ulimits: {core: 0, nofile: 5}, network: none, init: false}
    definitions:
      base: {image: busybox, volumes: ['./u:/x'], tmpfs: '/t:size=1MiB', privileged: true}
    jobs:
      a: {uses: base, volumes: ['frames:/f'], ulimits: {nofile: 9}, tmpfs: '/t:size=2MiB', privileged: false, init: true}
      b: {script: x}
    """
    found = specs(text)
    assert found["a"].container == Container(
        "busybox",
        mounts=(
            Mount("cache", "/cache", volume=True, keep=True),
            Mount("/lab/u", "/x"),
            Mount("frames", "/f", volume=True),
        ),
        tmpfs=(Tmpfs("/t", 2),),
        ulimits=(Ulimit("core", 0, 0), Ulimit("nofile", 9, 9)),
        network="none",
    )
    assert found["b"].container is None  # what `defaults` say of containers is for containers


def test_an_environment_says_how_vcpus_reach_containers() -> None:
    text = "environments: {a: {backend: docker, cpu: quota, vcpus: 1, memory: 9}, b: {}}\njobs: {j: {image: busybox}}"
    assert compiled(text).run.environments == (
        Environment("a", "docker", Resources(1000, 9, 0), title="a", cpu=Cpu.QUOTA),
        Environment("b", "local", MACHINE[0].capacity, title="b", cpu=Cpu.SHARES),
    )


def test_an_image_may_be_a_parameter() -> None:
    text = (
        "params: {image: {default: busybox}}\njobs: {a: {image: '${{ params.image }}', volumes: ['${{ run.id }}:/r']}}"
    )
    assert specs(text)["a"].container == Container("busybox", mounts=(Mount("RUN", "/r", volume=True),))
    changed = specs(text, params={"image": "alpine:3"})["a"].container
    assert changed is not None
    assert changed.image == "alpine:3"
    assert problems(text, params={"image": "no such"}) == [
        "2:19: jobs.a.image: 'no such' is no image; its name has letters, digits and - _ : . / # @ only"
    ]


def test_where_containers_cannot_run() -> None:
    text = "environments: {e: {backend: process}}\njobs: {a: {image: busybox}}"
    assert problems(text) == ["2:8: jobs.a: no environment of queue default runs containers"]
    text = "environments: {e: {backend: docker}}\njobs: {a: {script: x}}"
    assert problems(text) == ["2:8: jobs.a: no environment of queue default runs processes"]
    assert wrong("image: busybox, vcpus: 9") == [
        "jobs.a.vcpus: needs 9 vCPU, the largest environment of queue default has 8 vCPU"
    ]


def test_a_volume_that_no_job_mounts() -> None:
    plan = compiled("volumes: {frmaes: {keep: true}}\njobs: {a: {image: busybox, volumes: ['frames:/f']}}")
    assert [str(warning) for warning in plan.warnings] == ["f.yaml:1:19: volumes.frmaes: no job mounts this volume"]


BAD = [
    ("image: ''", "image: the name of an image has 1 to 255 characters, found 0"),
    ("image: " + "a" * 256, "image: the name of an image has 1 to 255 characters, found 256"),
    ("image: 'a b'", "image: 'a b' is no image; its name has letters"),
    ("image: Busybox", "image: 'Busybox' is no image; write name, name:tag or registry/name:tag; repositories are"),
    ("image: 'a:'", "image: 'a:': '' is no tag of an image"),
    ("image: 'a@sha256:12'", "image: 'a@sha256:12': after the @ of an image stands its digest"),
    ("image: 5", "image: the name of an image is needed, found 5"),
    ("volumes: ['/a']", "volumes[0]: '/a' is not a volume; write ./folder:/path"),
    ("volumes: ['./a:/b:/c:ro']", "volumes[0]: './a:/b:/c:ro' is not a volume; write ./folder:/path, /folder:/path:ro or name:/path; a path with a colon"),
    ("volumes: ['./a:/b:z']", "volumes[0]: the third part of a volume is ro or rw, found 'z'"),
    ("volumes: ['a/b:/c']", "volumes[0]: 'a/b' is neither a name nor a path; write ./a/b for one from this folder"),
    ("volumes: ['a b:/c']", "volumes[0]: 'a b' is not the name of a volume"),
    ("volumes: ['a:b']", "volumes[0]: an absolute path in the container is needed, such as /data; found 'b'"),
    ("volumes: ['a:/']", "volumes[0]: nothing can be mounted over the container's root"),
    ("volumes: ['a:/b/../..']", "volumes[0]: '/b/../..' must not go up (..)"),
    ("volumes: ['a:/flowbatch/run']", "volumes[0]: /flowbatch in a container is flowbatch's; write another path"),
    ("volumes: ['a:/b', './c:/b/']", "volumes[1]: /b is given twice"),
    ("volumes: [\"./a\\x01:/b\"]", "volumes[0]: './a\\x01' holds a control character"),
    ("volumes: {a: /b}", "volumes: a list is needed, found a mapping"),
    ("volumes: [{type: bind}]", "volumes[0]: text is needed, found a mapping; write ./folder:/path, /folder:/path:ro or name:/path; AWS's"),
    ("tmpfs: /t", "tmpfs: '/t' needs one size; write /scratch:size=64MiB"),
    ("tmpfs: '/t:size=64'", "tmpfs: the size 64 has no unit"),
    ("tmpfs: ['/t:size=1MiB,rbind']", "tmpfs[0]: rbind would make another mount of it"),
    ("tmpfs: ['/t:size=1MiB,nosuch']", "tmpfs[0]: 'nosuch' is no option of a tmpfs"),
    ("tmpfs: ['/t:size=1MiB,noexec=1']", "tmpfs[0]: 'noexec=1' is no option of a tmpfs"),
    ("tmpfs: ['/t:size=1MiB'], volumes: ['a:/t']", "tmpfs[0]: /t is in `volumes` too"),
    ("ulimits: {files: 5}", "ulimits.files: 'files' is no ulimit; known: core, cpu, data"),
    ("ulimits: {nofile: 5:4}", "ulimits.nofile: the soft limit 5 is above the hard one, 4"),
    ("ulimits: {nofile: '-1:4'}", "ulimits.nofile: the soft limit -1 is above the hard one, 4"),
    ("ulimits: {nofile: many}", "ulimits.nofile: 'many' is not a limit; write 1024, 1024:4096"),
    ("ulimits: {nofile: -2}", "ulimits.nofile: a limit is a whole number, -1 for none; found -2"),
    ("ulimits: {nofile: {soft: 5}}", "ulimits.nofile: a limit is a number (1024), or both of"),
    ("devices: [/etc/passwd]", "devices[0]: '/etc/passwd' is no device; these lie below /dev"),
    ("devices: [/dev/../etc/passwd]", "devices[0]: '/dev/../etc/passwd' is no device"),
    ("devices: ['/dev/a:/dev/b:rx']", "devices[0]: a device's permissions are some of r, w, m; found 'rx'"),
    ("network: my-net", "network: must be 'bridge', 'none' or 'host', found 'my-net'"),
    ("network: 'container:x'", "network: must be 'bridge', 'none' or 'host', found 'container:x'"),
    ("pull: sometimes", "pull: must be 'missing', 'always' or 'never', found 'sometimes'"),
    ("cpu: 2", "cpu: must be 'shares' or 'quota', found 2"),
    ("log: {driver: none}", "log.driver: must be 'awslogs', 'json-file'"),
    ("log: syslog", "log: a mapping (key: value) is needed, found 'syslog'"),
    ("privileged: 1", "privileged: true or false is needed, found 1"),
    ("shm: 0", "shm: a size between 1 MiB and 2 PiB is needed, found 0"),
    ("swap: 5", "swap: swap lies beyond a memory limit, and the job has none"),
    ("memory: 5", "memory: a container needs at least 6 MiB, found 5"),
    ("resourceRequirements: [{type: MEMORY, value: '4'}]", "resourceRequirements: a container needs at least 6 MiB, found 4"),
    ("user: $(id)", "user: '$(id)' is not a user of a container"),
    ("user: a:b:c", "user: 'a:b:c' is not a user of a container"),
    ("workdir: sub", "workdir: a container's folder is an absolute path in it, found 'sub'"),
    ("propagateTags: true, tags: {flowbatch.job: x}", "tags.flowbatch.job: 'flowbatch.job' is reserved"),
    ("propagateTags: true, tags: {a: " + "x" * 257 + "}", "tags.a: a propagated tag has at most 128 characters"),
    ("containerOverrides: {image: x}", "containerOverrides.image: cannot be overridden, as in AWS"),
    ("containerOverrides: {privileged: true}", "containerOverrides.privileged: cannot be overridden"),
    ("containerProperties: {image: x}", "containerProperties.image: says the same as 'image'; give one of them"),
    ("containerProperties: {instanceType: x}", "containerProperties.instanceType: not yet: it belongs to multi-node"),
    ("containerProperties: {imageId: x}", "containerProperties.imageId: unknown key 'imageId' (did you mean 'image'?)"),
    ("containerProperties: {mountPoints: [{sourceVolume: a, containerPath: /a}]}", "containerProperties.mountPoints[0].sourceVolume: unknown volume 'a'"),
    ("containerProperties: {volumes: [{name: a}, {name: a}]}", "containerProperties.volumes[1].name: 'a' is given twice"),
    ("containerProperties: {volumes: [{name: 'a b'}]}", "containerProperties.volumes[0].name: 'a b' is not the name of a volume"),
    ("containerProperties: {volumes: [{name: a, host: {sourcePath: b}}]}", "containerProperties.volumes[0].host.sourcePath: 'b' is no path; write ./b"),
    ("containerProperties: {volumes: [{name: a, efsVolumeConfiguration: {}}]}", "containerProperties.volumes[0].efsVolumeConfiguration: not yet: file systems of AWS"),
    ("containerProperties: {ulimits: [{name: core, softLimit: 2, hardLimit: 1}]}", "containerProperties.ulimits[0]: the soft limit 2 is above"),
    ("containerProperties: {ulimits: [{name: core, softLimit: 2}]}", "containerProperties.ulimits[0]: 'hardLimit' is missing"),
    ("containerProperties: {linuxParameters: {swappiness: 101}}", "containerProperties.linuxParameters.swappiness: must be at most 100"),
    ("shm: 5, containerProperties: {linuxParameters: {sharedMemorySize: 6}}", "containerProperties.linuxParameters.sharedMemorySize: says the same as 'shm'"),
    ("containerProperties: {linuxParameters: {tmpfs: [{containerPath: /a, size: 1, mountOptions: [bind]}]}}", "containerProperties.linuxParameters.tmpfs[0].mountOptions: bind would make"),
    ("containerProperties: {logConfiguration: {logDriver: awsfirelens}}", "containerProperties.logConfiguration.logDriver: must be 'awslogs'"),
    ("containerProperties: {logConfiguration: {logDriver: local, secretOptions: []}}", "containerProperties.logConfiguration.secretOptions: not yet"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), BAD)
def test_one_mistake_one_message(body: str, message: str) -> None:
    image = "" if body.startswith("image") else "image: busybox, "
    found = wrong(image + body)
    assert len(found) == 1
    assert found[0].startswith("jobs.a." + message)


@pytest.mark.parametrize(
    "body",
    [
        "pull: never", "volumes: ['a:/a']", "tmpfs: '/t:size=1MiB'", "shm: 5", "swap: 0", "ulimits: {core: 0}",
        "devices: [/dev/fuse]", "readonly: false", "network: none", "privileged: false", "init: true", "cpu: quota",
        "log: {driver: local}", "propagateTags: true", "platformCapabilities: [EC2]",
    ],
)  # fmt: skip
def test_what_needs_an_image(body: str) -> None:
    said = "belongs to a container, and the job has no `image`; give it one, or leave this out"
    assert wrong(body) == [f"jobs.a.{body.partition(':')[0]}: {said}"]


def test_what_needs_an_image_in_the_words_of_aws() -> None:
    found = wrong("containerProperties: {linuxParameters: {sharedMemorySize: 5}, readonlyRootFilesystem: true}")
    assert [problem.partition(": belongs")[0] for problem in found] == [
        "jobs.a.containerProperties.linuxParameters.sharedMemorySize",
        "jobs.a.containerProperties.readonlyRootFilesystem",
    ]


def test_mistakes_have_their_places() -> None:
    text = """\
definitions:
  d:
    image: busybox
    volumes: ['./a:/a', '/etc:/b']
jobs:
  a: {uses: d, network: host}
  b:
    containerProperties:
      image: busybox
      volumes: [{name: x, host: {sourcePath: /root}}]
      mountPoints:
        - {sourceVolume: x, containerPath: /x}
      linuxParameters:
        devices: [{hostPath: /dev/kvm}]
"""
    allow = "not allowed unless you say so: --allow"
    assert problems(text) == [
        "4:25: definitions.d.volumes[1]: /etc belongs to the system and is never mounted; mount a folder of your own",
        f"6:25: jobs.a.network: the host network reaches everything that this machine does; {allow} network=host, "
        "or `policy` in the settings",
        f"12:11: jobs.b.containerProperties.mountPoints[0]: /root is outside the workflow's folder; {allow} mount=/root, "
        "or `policy` in the settings",
        "14:19: jobs.b.containerProperties.linuxParameters.devices[0]: /dev/kvm is a device of this machine; "
        f"{allow} device=/dev/kvm, or `policy` in the settings",
    ]


def test_the_examples_are_right() -> None:
    primes = specs((ROOT / "workflows" / "containers.yaml").read_text(encoding="utf-8"))
    box = Container("flowbatch-busybox", readonly=True, network="none")
    volume = Mount("primes", "/primes", volume=True)
    assert [job.container for job in primes.values()] == [
        replace(box, mounts=(volume,)),
        replace(box, mounts=(volume,)),
        replace(box, mounts=(replace(volume, readonly=True),)),
    ]
    assert [job.size for job in primes.values()] == [8, 8, None]
    hungry = specs((ROOT / "workflows" / "oom.yaml").read_text(encoding="utf-8"), params={"image": "busybox:1"})[
        "hungry"
    ]
    assert hungry.container == Container("busybox:1")
    assert hungry.retry.rules[0] == Rule(Action.RETRY, reason="OutOfMemory*", memory_factor=2.0)

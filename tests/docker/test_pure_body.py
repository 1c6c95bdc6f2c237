"""What is asked of the Engine: keys from a whitelist alone, whatever a job says; no Engine is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.backends.docker import names
from flowbatch.backends.docker.body import RUN_DIR, Unfit, create_body
from flowbatch.model.container import Container, Cpu, Device, Log, Mount, Tmpfs, Ulimit
from flowbatch.model.ids import AttemptKey, JobId
from flowbatch.model.resources import Resources
from flowbatch.ports import LaunchOrder

INSTANCE = "0123456789abcdef"
HOST_KEYS = {
    "Init", "NetworkMode", "AutoRemove", "RestartPolicy", "PidsLimit", "LogConfig", "Ulimits", "Mounts", "Privileged",
    "SecurityOpt", "CapDrop", "ReadonlyRootfs", "ShmSize", "Tmpfs", "Devices", "NanoCpus", "CpuShares", "Memory",
    "MemorySwap", "MemorySwappiness", "DeviceRequests",
}  # fmt: skip
BODY_KEYS = {"Image", "Env", "Tty", "OpenStdin", "Healthcheck", "HostConfig", "Cmd", "User", "WorkingDir", "Labels"}

texts = st.text(max_size=12)
containers = st.builds(
    Container,
    image=texts,
    workdir=st.none() | texts,
    user=st.none() | texts,
    mounts=st.tuples(st.builds(Mount, texts, texts, st.booleans(), st.booleans(), st.booleans())),
    tmpfs=st.tuples(st.builds(Tmpfs, texts, st.integers(1, 9), st.tuples(texts))),
    ulimits=st.tuples(st.builds(Ulimit, texts, st.integers(), st.integers())),
    devices=st.tuples(st.builds(Device, texts, texts, texts)),
    privileged=st.booleans(),
    readonly=st.booleans(),
    shm_mib=st.none() | st.integers(1, 9),
    swap_mib=st.integers(0, 9),
    swappiness=st.none() | st.integers(0, 100),
    network=st.sampled_from(["bridge", "none", "host"]),
    log=st.none() | st.builds(Log, texts, st.tuples(st.tuples(texts, texts))),
    cpu=st.none() | st.sampled_from(Cpu),
    labels=st.tuples(st.tuples(texts, texts)),
)


def order(container: Container, env: dict[str, str] | None = None, **changes: Any) -> LaunchOrder:
    given = {"resources": Resources(1500, 64, 1), "command": ("true",)} | changes
    return LaunchOrder(
        key=AttemptKey(JobId("j"), 3, 2), env=env or {}, workdir="/w", log="", log_cap_bytes=1 << 20, timeout_ms=None,
        stop_grace_ms=0, container=container, **given,
    )  # fmt: skip


@given(containers)
def test_only_known_keys_are_asked_for(container: Container) -> None:
    body = create_body(order(container, {"FLOWBATCH_RUN_ID": "r"}), container, INSTANCE, "boot")
    host = body["HostConfig"]
    assert set(body) <= BODY_KEYS
    assert set(host) <= HOST_KEYS
    assert host["AutoRemove"] is False
    assert host["RestartPolicy"] == {"Name": "no"}
    assert bool(host.get("Privileged")) == container.privileged
    assert ("CapDrop" in host) != container.privileged
    assert body["Labels"][names.INSTANCE] == INSTANCE
    assert body["Labels"][names.ATTEMPT] == "j.3.2"


def test_nobodys_label_stands_for_ours() -> None:
    container = Container("i", labels=((names.INSTANCE, "other"), ("team", "x" * 999)))
    labels = create_body(order(container), container, INSTANCE, "boot")["Labels"]
    assert labels[names.INSTANCE] == INSTANCE
    assert labels["team"] == "x" * 256


def test_vcpus_are_a_weight_or_a_cap() -> None:
    for container, cpu, expected in (
        (Container("i"), Cpu.SHARES, {"CpuShares": 1536}),
        (Container("i"), Cpu.QUOTA, {"NanoCpus": 1_500_000_000}),
        (Container("i", cpu=Cpu.SHARES), Cpu.QUOTA, {"CpuShares": 1536}),
        (Container("i", cpu=Cpu.QUOTA), Cpu.SHARES, {"NanoCpus": 1_500_000_000}),
    ):
        host = create_body(order(container, cpu=cpu), container, INSTANCE, "b")["HostConfig"]
        assert {key: host[key] for key in ("CpuShares", "NanoCpus") if key in host} == expected


def test_memory_swap_and_gpus() -> None:
    container = Container("i", swap_mib=32, swappiness=10)
    host = create_body(order(container), container, INSTANCE, "b")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["MemorySwappiness"]) == (64 << 20, 96 << 20, 10)
    assert host["DeviceRequests"] == [{"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu"]]}]
    unlimited = create_body(order(container, resources=Resources()), container, INSTANCE, "b")["HostConfig"]
    assert not {"Memory", "MemorySwap", "CpuShares", "DeviceRequests"} & set(unlimited)


def test_the_runs_folder_has_its_own_place() -> None:
    container = Container("i")
    env = {"FLOWBATCH_RUN_DIR": "/s/runs/r", "FLOWBATCH_ITEMS_FILE": "/s/runs/r/items/a/0.txt", "A": "/s/runs/r"}
    body = create_body(order(container, env), container, INSTANCE, "b")
    assert body["Env"] == [
        f"FLOWBATCH_RUN_DIR={RUN_DIR}", f"FLOWBATCH_ITEMS_FILE={RUN_DIR}/items/a/0.txt", "A=/s/runs/r",
    ]  # fmt: skip
    assert body["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/s/runs/r", "Target": RUN_DIR, "ReadOnly": False}
    ]
    elsewhere = create_body(order(container, {"FLOWBATCH_RUN_DIR": "/s"}), container, INSTANCE, "b", local=False)
    assert elsewhere["HostConfig"]["Mounts"] == []
    assert elsewhere["Env"] == []


def test_what_the_engine_would_do_wrong_is_refused() -> None:
    volume = Container("i", mounts=(Mount("frames", "/f", volume=True),))
    for container, env in (
        (Container("i", network="container:abc"), {}),
        (Container("i"), {"A=B": "x"}),
        (Container("i"), {"A": "\0"}),
        (volume, {}),
    ):
        with pytest.raises(Unfit):
            create_body(order(container, env), container, INSTANCE, "b")


def test_the_hash_knows_names_of_variables_and_not_their_values() -> None:
    container = Container("i")
    hashes = [
        create_body(order(container, env), container, INSTANCE, "b")["Labels"][names.SPEC]
        for env in ({"A": "secret"}, {"A": "other"}, {"B": "secret"})
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_labels_without_the_name_are_not_ours() -> None:
    key = AttemptKey(JobId("j"), 3, 2)
    ours = names.labels(INSTANCE, key, "b", None)
    name = names.container_name(INSTANCE, key)
    assert names.attempt_of(INSTANCE, f"/{name}", ours) == key
    assert names.attempt_of(INSTANCE, "/copied", ours) is None
    assert names.attempt_of("another", f"/{name}", ours) is None
    assert names.attempt_of(INSTANCE, f"/{name}", ours | {names.ATTEMPT: "no attempt"}) is None

"""Several nodes and several containers: both spellings, nested ranges, and what is wrong with them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.members import layout_of
from flowbatch.model.container import HOLDER_IMAGE
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import After, Condition, Environment, JobSpec, NodeGroup
from flowbatch.model.places import EnvironmentType, Node
from flowbatch.model.resources import Resources
from flowbatch.model.tokens import Token
from tests.spec.building import compiled, problems, spec, specs, wrong


def commands(made: JobSpec) -> list[str]:
    """What each member runs, in order."""
    layout = layout_of(made)
    assert layout is not None
    return [part.spec.command[-1] for part in layout.parts if not part.holder]


def test_nodes_in_the_short_spelling() -> None:
    made = specs("""
jobs:
  train:
    vcpus: 1
    env: {A: job, B: job}
    nodes:
      count: 4
      main: 1
      groups:
        - {range: 0, script: zero, vcpus: 2, env: {B: zero}}
        - {range: '1:', script: rest, memory: 512MiB}
""")["train"]
    assert made.members is not None
    assert (made.nodes, made.members.main) == (4, 1)
    assert [(group.first, group.last) for group in made.members.groups] == [(0, 0), (1, 3)]
    zero, rest = (group.parts[0].spec for group in made.members.groups)
    assert zero.env == (("A", "job"), ("B", "zero"))
    assert rest.env == (("A", "job"), ("B", "job"))
    assert made.resources == Resources(2000 + 3 * 1000, 3 * 512)
    assert commands(made) == ["zero", "rest", "rest", "rest"]
    assert made.command == rest.command  # the main node's, for those who show one
    assert made.kind == "process"


def test_a_number_of_nodes_is_enough() -> None:
    made = spec("nodes: 3, vcpus: 0.5")
    assert commands(made) == ["x", "x", "x"]
    assert made.resources == Resources(1500)


def test_of_nested_ranges_the_inner_one_wins() -> None:
    made = specs("""
jobs:
  a:
    nodeProperties:
      numNodes: 8
      mainNode: 0
      nodeRangeProperties:
        - {targetNodes: ':', container: {command: [all], image: busybox, vcpus: 1, memory: 64}}
        - {targetNodes: '2:5', container: {command: [some], image: busybox, vcpus: 1, memory: 64}}
        - {targetNodes: '4:4', container: {command: [one], image: busybox, vcpus: 1, memory: 64}, instanceTypes: [c5.large]}
""")["a"]
    assert commands(made) == ["all", "all", "some", "some", "one", "some", "all", "all"]
    assert made.kind == "docker"
    assert made.resources == Resources(8000, 8 * 64)


def test_containers_in_the_short_spelling() -> None:
    made = specs("""
jobs:
  web:
    image: busybox
    shared_ipc: true
    containers:
      - {name: app, script: app, needs: [db, {container: migrate, when: success}], start_timeout: 30s}
      - {name: db, script: db, essential: false, vcpus: 0.5}
      - {name: migrate, script: migrate, essential: false, needs: db}
""")["web"]
    assert made.members is not None
    [group] = made.members.groups
    app, db, migrate, holder = group.parts
    assert app.after == (After(3), After(1), After(2, Condition.SUCCESS))
    assert app.start_timeout_ms == 30_000
    assert migrate.after == (After(3), After(1))
    assert (app.essential, db.essential) == (True, False)
    assert (group.share_ipc, group.share_pid) == (True, False)
    assert holder.holder
    assert holder.spec.container is not None
    assert holder.spec.container.image == HOLDER_IMAGE
    assert made.resources == Resources(2500)


def test_containers_as_aws_has_them() -> None:
    made = specs("""
jobs:
  web:
    ecsProperties:
      taskProperties:
        - pidMode: task
          volumes: [{name: data}]
          executionRoleArn: arn:aws:iam::000000000000:role/x
          containers:
            - name: app
              image: busybox
              command: [app]
              dependsOn: [{containerName: init, condition: COMPLETE}]
              mountPoints: [{sourceVolume: data, containerPath: /data}]
              resourceRequirements: [{type: VCPU, value: '1'}, {type: MEMORY, value: '128'}]
              environment: [{name: A, value: b}]
              startTimeout: 5
              stopTimeout: 7
            - name: init
              image: busybox
              essential: false
              command: [init]
              mountPoints: [{sourceVolume: data, containerPath: /data}]
""")["web"]
    assert made.members is not None
    [group] = made.members.groups
    app, init, _holder = group.parts
    assert (app.name, app.spec.env, app.spec.stop_grace_ms, app.start_timeout_ms) == ("app", (("A", "b"),), 7000, 5000)
    assert app.after == (After(2), After(1, Condition.COMPLETE))
    assert app.spec.container is not None
    assert init.spec.container is not None
    assert (
        [mount.source for mount in app.spec.container.mounts]
        == ["data"]
        == [m.source for m in init.spec.container.mounts]
    )
    assert group.share_pid


def test_one_network_needs_no_holder_where_it_is_this_machines_or_there_are_no_containers() -> None:
    two = "containers: [{name: b, script: x}, {name: c, script: y, essential: false}]"
    [group] = spec(two).members.groups  # type: ignore[union-attr]
    assert [part.holder for part in group.parts] == [False, False]
    [group] = specs(f"jobs: {{a: {{image: busybox, network: none, {two}}}}}")["a"].members.groups  # type: ignore[union-attr]
    assert [part.holder for part in group.parts] == [False, False, True]
    assert group.parts[2].spec.container.network == "none"  # type: ignore[union-attr]


def test_an_array_of_several_containers() -> None:
    made = spec("array: 3, containers: [{name: b, script: x}]")
    assert (made.size, made.resources) == (3, Resources(1000))


def test_node_overrides() -> None:
    text = """
definitions:
  mpi:
    nodes:
      count: 2
      groups: [{range: 0, script: main}, {range: '1:', script: rest, env: {A: b}}]
jobs:
  a:
    uses: mpi
    nodeOverrides:
      numNodes: 4
      nodePropertyOverrides: [{targetNodes: '1:', containerOverrides: {command: [other], environment: [{name: C, value: d}]}}]
"""
    made = specs(text)["a"]
    assert commands(made) == ["main", "other", "other", "other"]
    assert made.members is not None
    assert made.members.groups[1].parts[0].spec.env == (("A", "b"), ("C", "d"))
    [said] = problems(text.replace("targetNodes: '1:'", "targetNodes: '0:0'"))
    assert said.endswith("NodeOverride targets should match job definition. Non matching targets - 0:0")
    [said] = problems(text.replace("range: '1:'", "range: '1:1'").replace("targetNodes: '1:'", "targetNodes: '1:1'"))
    assert "can change only where a range is open" in said


def test_ecs_properties_override_finds_containers_by_name() -> None:
    text = """
definitions:
  two:
    containers:
      - {name: main, command: [serve], env: {A: b}, vcpus: 1}
      - {name: side, command: [watch], essential: false}
jobs:
  a:
    uses: two
    ecsPropertiesOverride:
      taskProperties:
        - containers:
            - name: main
              command: [other]
              environment: [{name: C, value: d}]
              resourceRequirements: [{type: VCPU, value: '2'}]
  b: {uses: two}
"""
    made, plain = specs(text)["a"], specs(text)["b"]
    assert made.members is not None
    main, side = made.members.groups[0].parts[:2]
    assert (main.spec.command, main.spec.env, main.spec.resources.vcpus_milli) == (
        ("other",),
        (("A", "b"), ("C", "d")),
        2000,
    )
    assert side.spec.command == ("watch",)
    assert plain.members is not None
    assert plain.members.groups[0].parts[0].spec.command == ("serve",), "the definition stays as it is"
    [said] = problems(text.replace("- name: main", "- name: mainn"))
    assert said.endswith("containers[0].name: unknown container 'mainn' (did you mean 'main'?)")


def test_ecs_properties_override_of_a_node_group() -> None:
    text = """
definitions:
  mpi:
    nodes: {count: 2, groups: [{range: '0:1', containers: [{name: main, command: [serve]}]}]}
jobs:
  a:
    uses: mpi
    nodeOverrides:
      nodePropertyOverrides:
        - {targetNodes: '0:1', ecsPropertiesOverride: {taskProperties: [{containers: [{name: main, command: [other]}]}]}}
"""
    made = specs(text)["a"]
    assert made.members is not None
    assert made.members.groups[0].parts[0].spec.command == ("other",)


ENVIRONMENTS = (
    Environment("spot", "local", Resources(8000), spot=True),
    Environment("rack", "local", Resources(), type=EnvironmentType.UNMANAGED, nodes=(Node("n1", Resources(8000)),)),
)


@pytest.mark.parametrize(("place", "why"), [(0, "Spot capacity"), (1, "UNMANAGED")])
def test_where_no_multi_node_job_runs(place: int, why: str) -> None:
    here = (ENVIRONMENTS[place],)
    [said] = wrong("nodes: 2", available=here)
    assert why in said


def test_several_containers_run_on_spot_capacity() -> None:
    assert spec("containers: [{name: b, script: x}]", available=ENVIRONMENTS[:1]).members is not None


BAD = [
    ("nodes: {count: 0}", "nodes.count: must be at least 1, found 0"),
    ("nodes: 1001", "nodes: must be at most 1000, found 1001"),
    ("nodes: {count: 2, main: 2}", "nodes.main: the main node is one of 0 to 1, found 2"),
    ("nodes: {count: 3, groups: [{range: '0:1'}]}", "nodes: no group is about node 2; together they cover 0 to 2"),
    ("nodes: {count: 3, groups: [{range: ':'}, {range: '3:'}]}", "nodes.groups[1]: the range '3:' goes beyond the last node"),
    ("nodes: {count: 4, groups: [{range: '0:2'}, {range: '1:3'}]}", "nodes.groups[1]: the ranges '0:2' and '1:3' overlap"),
    ("nodes: {count: 2, groups: [{range: '0:1'}, {range: ':'}]}", "nodes.groups[1]: the range ':' is that of '0:1' again"),
    ("nodes: {count: 2, groups: [{range: 'x'}]}", "nodes.groups[0].range: 'x' is no range of nodes"),
    ("nodes: {count: 2, groups: [{range: '3:1'}]}", "nodes.groups[0].range: the range '3:1' is empty; did you mean '1:3'?"),
    ("nodes: {count: 2, groups: [{script: y}]}", "nodes.groups[0]: needs a `range`"),
    ("nodes: {count: 2, groups: [" + "{range: 0}, " * 6 + "]}", "nodes.groups: has at most 5 entries"),
    ("nodes: 2, array: 3", "nodes: a multi-node job is one job and cannot be an array"),
    ("nodes: 2, command: [x], containers: [{name: b, command: [y]}]", "containers: of a job of several nodes, give the containers in its groups"),
    ("nodes: 2, nodeProperties: {numNodes: 2, mainNode: 0, nodeRangeProperties: [{targetNodes: ':'}]}",
     "nodeProperties: says the same as 'nodes'"),
    ("nodes: 2, memory: 64, retry: {attempts: 2, rules: [{exit: 1, action: retry, memory: x2}]}",
     "retry.rules[0].memory: job 'a' has several nodes or containers"),
    ("image: busybox, nodes: 2, network: none", "nodes: nodes reach each other over a network of their own"),
    ("nodes: 9", "needs 9 vCPU, the largest environment"),
    ("nodeOverrides: {numNodes: 2}", "nodeOverrides: the job is no multi-node job"),
    ("command: [x], ecsPropertiesOverride: {taskProperties: [{containers: [{name: b, command: [c]}]}]}",
     "ecsPropertiesOverride: there are no containers of its own to override"),
    ("containers: []", "containers: cannot be empty"),
    ("containers: [{script: y}]", "containers[0]: 'name' is missing"),
    ("containers: [{name: b, script: y}, {name: b, script: z}]", "containers[1]: two containers have the name 'b'"),
    ("containers: [{name: b, script: y, essential: false}]", "containers: no container is essential"),
    ("containers: [{name: b, script: y, needs: c}]", "containers[0].needs: unknown container 'c'"),
    ("containers: [{name: b, script: y, needs: [{container: c, when: complete}]}, {name: c, script: z}]",
     "containers[0].needs[0]: c is essential: its end is that of the task"),
    ("containers: [{name: b, script: y, needs: c}, {name: c, script: z, needs: b}]",
     "containers[0]: containers wait for each other: b → c → b"),
    ("containers: [{name: b, script: y, needs: [{container: c, when: later}]}, {name: c, script: z}]",
     "containers[0].needs[0].when: must be start, complete or success, found 'later'"),
    ("containers: [{name: b, script: y, image: busybox}, {name: c, script: z}]", "containers: some have an `image` and some have none"),
    ("shared_ipc: true", "shared_ipc: is what several `containers` share"),
    ("ecsProperties: {taskProperties: [{containers: [{image: b, command: [c]}], ipcMode: host}]}",
     "ecsProperties.taskProperties[0].ipcMode: would share this machine's"),
    ("ecsProperties: {taskProperties: []}", "ecsProperties.taskProperties: cannot be empty"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), BAD)
def test_one_mistake_one_message(body: str, message: str) -> None:
    found = wrong(body)
    assert len(found) == 1, found
    path, _, said = found[0].partition(": ")
    assert f"{path}: {said}".startswith((f"jobs.a.{message}", f"jobs.a: {message}"))


def test_a_group_says_what_is_wrong_with_its_program() -> None:
    [said] = problems("jobs: {a: {nodes: {count: 2, groups: [{range: 0, script: x}, {range: 1}]}}}")
    assert said.endswith("jobs.a.nodes.groups[1]: needs a `command` or a `script`")


def test_what_a_file_registers_is_the_same_job_again() -> None:
    """Nodes and containers too: read from the registry, they are what the file had."""
    body = """
    env: {A: b}
    workdir: /srv
    nodes:
      count: 3
      main: 1
      groups:
        - {range: ':', image: busybox, script: x, stop_grace: 3s, vcpus: 0.5}
        - range: 1
          image: busybox
          shared_pid: true
          containers:
            - {name: app, script: app, needs: [{container: init, when: success}], start_timeout: 4s}
            - {name: init, script: init, essential: false}
    """
    made = compiled(f"name: film\njobs:\n  a:{body}", register=True).run
    [registered] = made.definitions
    row = DefinitionRow(registered.name, 1, True, registered.body, registered.digest, registered.tags, Millis(0), None)
    again = compiled("jobs: {a: {uses: film--a}}", registry=lambda name, _: row if name == row.name else None).run
    first, second = made.jobs[0].spec.members, again.jobs[0].spec.members
    assert first is not None
    assert second is not None
    assert [shown(group) for group in second.groups] == [shown(group) for group in first.groups]
    assert (second.nodes, second.main) == (3, 1)


def shown(group: NodeGroup) -> NodeGroup:
    """Without what says only of which definition and queue it is."""
    parts = tuple(replace(part, spec=replace(part.spec, workdir="")) for part in group.parts)
    return replace(group, parts=parts)


def test_nodes_add_their_tokens_to_those_of_the_job() -> None:
    short = """
tokens: {licence: 9, link: 9}
jobs:
  a:
    script: x
    tokens: {licence: 1}
    nodes: {count: 4, groups: [{range: 0, tokens: {licence: 2}}, {range: '1:', tokens: {link: 3}}]}
"""
    aws = """
tokens: {licence: 9, link: 9}
jobs:
  a:
    consumableResourceProperties: {consumableResourceList: [{consumableResource: licence, quantity: 1}]}
    nodeProperties:
      numNodes: 4
      mainNode: 0
      nodeRangeProperties:
        - targetNodes: '0'
          container: {command: [x]}
          consumableResourceProperties: {consumableResourceList: [{consumableResource: licence, quantity: 2}]}
        - targetNodes: '1:'
          container: {command: [x]}
          consumableResourceProperties: {consumableResourceList: [{consumableResource: link, quantity: 3}]}
"""
    assert specs(short)["a"].tokens == specs(aws)["a"].tokens == (("licence", 3), ("link", 9))
    over = """
    nodeOverrides:
      nodePropertyOverrides:
        - targetNodes: '1:'
          consumableResourcePropertiesOverride: {consumableResourceList: [{consumableResource: link, quantity: 1}]}
"""
    assert specs(aws.rstrip() + over)["a"].tokens == (("licence", 3), ("link", 3))


def test_more_tokens_than_there_are_for_all_nodes_are_refused() -> None:
    [said] = problems(
        "tokens: {link: 3}\njobs: {a: {script: x, nodes: {count: 4, groups: [{range: ':', tokens: {link: 1}}]}}}"
    )
    assert "needs 4 of tokens link, of which there are 3" in said
    [said] = problems(
        "tokens: {link: 9}\njobs: {a: {script: x, nodes: {count: 2, groups: [{range: ':', tokens: {link: 1}, "
        "consumableResourceProperties: {consumableResourceList: []}}]}}}"
    )
    assert "says the same as 'tokens'" in said


def test_tokens_that_all_runs_share_are_asked_for_where_a_node_group_alone_needs_some() -> None:
    text = "jobs: {a: {script: x, nodes: {count: 2, groups: [{range: ':', tokens: {licence: 2}}]}}}"
    assert specs(text, tokens=(Token("licence", 9),))["a"].tokens == (("licence", 4),)
    assert "unknown tokens 'licence'" in problems(text)[0]

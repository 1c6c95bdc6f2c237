"""What reaches a task: variables, items, parameters and secrets, and where secrets do not go (I10, F44)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.app.commands import Commands, environment_of

pytestmark = pytest.mark.slow

SHOW = 'env > "$OUT/$FLOWBATCH_JOB.${AWS_BATCH_JOB_ARRAY_INDEX:-}"'


def seen(folder: Path, name: str) -> dict[str, str]:
    """The environment that a task wrote down, less what flowbatch did not give it."""
    pairs = (line.partition("=") for line in (folder / name).read_text(encoding="utf-8").splitlines())
    return {key: value for key, _, value in pairs}


def ours(folder: Path, name: str) -> dict[str, str]:
    found = seen(folder, name)
    return {key: value for key, value in found.items() if key.startswith(("AWS_BATCH_", "FLOWBATCH_"))}


def out(flowbatch: Commands) -> Path:
    path = flowbatch.folder / "out"
    path.mkdir()
    flowbatch.env["OUT"] = str(path)
    return path


def ran(flowbatch: Commands, text: str, *words: str) -> Any:
    return flowbatch.ok("run", flowbatch.write("flow.yaml", text), "--json", *words).json


def test_variables_of_singles_and_children(flowbatch: Commands) -> None:
    folder = out(flowbatch)
    flowbatch.env["AWS_BATCH_JOB_ID"] = "of-another-batch"
    flowbatch.env["FLOWBATCH_RUN_ID"] = "of-another-run"
    text = f"""
        name: variables
        environments: {{place: {{backend: process, vcpus: 2}}}}
        queues: {{fast: {{environments: [place]}}}}
        defaults: {{queue: fast, script: '{SHOW}', env: {{MINE: 'two words', PATH: '/usr/bin:/bin'}}}}
        jobs: {{single: {{}}, wide: {{array: 2}}}}
    """
    run = ran(flowbatch, text)
    ids = {name: job["id"] for name, job in run["jobs"].items()}
    common = {
        "AWS_BATCH_CE_NAME": "place",
        "AWS_BATCH_JQ_NAME": "fast",
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "FLOWBATCH_RUN_ID": run["run"],
        "FLOWBATCH_WORKFLOW": "variables",
        "FLOWBATCH_RUN_DIR": str(flowbatch.state / "runs" / run["run"]),
    }
    assert ours(folder, "single.") == common | {
        "AWS_BATCH_JOB_ID": ids["single"],
        "FLOWBATCH_JOB": "single",
        "FLOWBATCH_ATTEMPT_ID": f"{ids['single']}.0.1",
    }
    assert ours(folder, "wide.1") == common | {
        "AWS_BATCH_JOB_ID": f"{ids['wide']}:1",
        "AWS_BATCH_JOB_ARRAY_INDEX": "1",
        "FLOWBATCH_ARRAY_SIZE": "2",
        "FLOWBATCH_JOB": "wide",
        "FLOWBATCH_ATTEMPT_ID": f"{ids['wide']}.1.1",
    }
    single = seen(folder, "single.")
    assert (single["MINE"], single["PATH"], single["OUT"]) == ("two words", "/usr/bin:/bin", str(folder))


def test_items_reach_their_children(flowbatch: Commands) -> None:
    folder = out(flowbatch)
    flowbatch.write("lines.txt", "first line\n\nthird  line\n")
    (flowbatch.folder / "data").mkdir()
    for name in ("b.csv", "a.csv", "c.txt"):
        (flowbatch.folder / "data" / name).touch()
    text = f"""
        defaults: {{script: '{SHOW}'}}
        jobs:
          items: {{array: {{items: [x, 7, 'a b']}}}}
          maps: {{array: {{items: [{{name: n, lr: 0.5}}]}}}}
          lines: {{array: {{lines: lines.txt}}}}
          files: {{array: {{glob: 'data/*.csv'}}}}
          grid: {{array: {{matrix: {{lr: [1, 2], seed: 3..4}}}}}}
          chunks:
            array: {{items: [a, b, c, d, e]}}
            chunk: 2
            script: 'cp "$FLOWBATCH_ITEMS_FILE" "$OUT/chunk.$AWS_BATCH_JOB_ARRAY_INDEX"'
    """
    ran(flowbatch, text)
    assert [seen(folder, f"items.{index}")["FLOWBATCH_ITEM"] for index in range(3)] == ["x", "7", "a b"]
    maps = seen(folder, "maps.0")
    assert (maps["FLOWBATCH_ITEM_NAME"], maps["FLOWBATCH_ITEM_LR"]) == ("n", "0.5")
    assert seen(folder, "lines.0")["FLOWBATCH_ITEM"] == "first line"
    files = [seen(folder, f"files.{index}")["FLOWBATCH_ITEM"] for index in range(2)]
    assert files == ["data/a.csv", "data/b.csv"]  # from the folder that the task runs in
    grid = [seen(folder, f"grid.{index}") for index in range(4)]
    assert [(each["FLOWBATCH_ITEM_LR"], each["FLOWBATCH_ITEM_SEED"]) for each in grid] == [
        ("1", "3"), ("1", "4"), ("2", "3"), ("2", "4"),
    ]  # fmt: skip
    chunks = [(folder / f"chunk.{index}").read_text(encoding="utf-8") for index in range(3)]
    assert chunks == ["a\nb\n", "c\nd\n", "e\n"]


def test_parameters_and_references(flowbatch: Commands) -> None:
    folder = out(flowbatch)
    text = f"""
        params:
          shot: {{type: string, default: none}}
          count: {{type: integer, max: 5, default: 2}}
          fast: {{type: boolean, default: false}}
        jobs:
          wide: {{array: '${{{{ params.count }}}}', script: '{SHOW}', env: {{SHOT: 'shot ${{{{ params.shot }}}}'}}}}
          refs:
            command: [sh, -c, 'printf "%s|" "$@" > "$OUT/refs"', name, 'Ref::what', 'a-Ref::what.b', 'Ref::none', '$HOME']
            parameters: {{what: 'a  value; $(rm)'}}
    """
    run = ran(flowbatch, text, "-p", "shot=sq 10;$(id)", "-p", "count=3")
    assert run["jobs"]["wide"]["array"] == 3
    last = seen(folder, "wide.2")
    assert last["SHOT"] == "shot sq 10;$(id)"
    parameters = [last[f"FLOWBATCH_PARAM_{name}"] for name in ("SHOT", "COUNT", "FAST")]
    assert parameters == ["sq 10;$(id)", "3", "false"]
    assert (folder / "refs").read_text(encoding="utf-8") == "a  value; $(rm)|a-a  value; $(rm).b|Ref::none|$HOME|"
    for bad in ("count=6", "count=x", "nothing=1"):
        assert flowbatch.call("run", "flow.yaml", "-p", bad).code == 2


def test_finally_knows_how_the_run_ended(flowbatch: Commands) -> None:
    folder = out(flowbatch)
    text = """
        jobs: {one: {script: 'exit CODE'}}
        finally:
          report: {script: 'echo "${{ run.status }} $STATUS" > "$OUT/CODE"', env: {STATUS: 'is ${{ run.status }}'}}
    """
    for code in ("0", "1"):
        assert flowbatch.call("run", flowbatch.write("flow.yaml", text.replace("CODE", code))).code == int(code)
    assert (folder / "0").read_text(encoding="utf-8") == "SUCCEEDED is SUCCEEDED\n"
    assert (folder / "1").read_text(encoding="utf-8") == "FAILED is FAILED\n"


@pytest.mark.parametrize("name", ["AWS_BATCH_JOB_ID", "FLOWBATCH_ATTEMPT_ID", "FLOWBATCH_PARAM_X"])
@pytest.mark.parametrize("key", ["env", "secrets"])
def test_our_own_variables_cannot_be_given(flowbatch: Commands, key: str, name: str) -> None:
    """Refused, or without effect: a task can trust its identity, and so can whoever looks for what it left."""
    folder = out(flowbatch)
    flowbatch.env["KEY"] = "forged"
    text = f"secrets: {{k: {{env: KEY}}}}\njobs: {{one: {{script: '{SHOW}', {key}: {{{name}: k}}}}}}"
    done = flowbatch.call("run", flowbatch.write("flow.yaml", text), "--json")
    assert done.code in (0, 2)
    if done.code == 2:
        assert name in done.err
    else:
        value = ours(folder, "one.").get(name, "")
        assert value not in ("forged", "k")


def test_secrets_reach_the_task_and_nothing_else(flowbatch: Commands) -> None:
    folder = out(flowbatch)
    canaries = [f"canary-{secrets.token_hex(12)}" for _ in range(3)]
    flowbatch.env["OF_THE_USER"] = canaries[0]
    flowbatch.write("key.txt", canaries[1] + "\n")
    flowbatch.write("key.sh", f"echo {canaries[2]}")
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    text = """
        name: hidden
        secrets: {a: {env: OF_THE_USER}, b: {file: ./key.txt}, c: {command: [sh, KEY_SH]}}
        jobs:
          one:
            attempts: 2
            secrets: {A: a, B: b, C: c}
            script: |
              echo "$A $B $C" > "$OUT/told"
              echo x > news; read _ < gate
              test "$AWS_BATCH_JOB_ATTEMPT" = 2
        """.replace("KEY_SH", str(flowbatch.folder / "key.sh"))
    engine = flowbatch.start("run", flowbatch.write("flow.yaml", text))
    news.line()
    assert (folder / "told").read_text(encoding="utf-8").split() == canaries
    during = told_by(flowbatch)
    supervisor = flowbatch.supervisor()
    assert supervisor is not None
    during.append(str(environment_of(supervisor)))
    during += [path.read_text() for path in (Path(f"/proc/{pid}/cmdline") for pid in (engine.pid, supervisor))]
    gate.let(2)
    done = flowbatch.end(engine)
    assert done.code == 0
    spread = "".join([done.out, done.err, *during, *told_by(flowbatch)])
    files = [path for path in flowbatch.state.rglob("*") if path.is_file()]
    assert {"flowbatch.db", "journal"} <= {path.name for path in files}
    for canary in canaries:
        assert canary not in spread
        assert [path for path in files if canary.encode() in path.read_bytes()] == []


def told_by(flowbatch: Commands) -> list[str]:
    words: list[list[str]] = [["jobs", "last", "--all", "--json"], ["show", "last/one", "--json"], ["events", "--json"]]
    words += [["show", "last/one"], ["why", "last/one"], ["doctor"], ["runs", "--json"], ["graph", "last"]]
    done = [flowbatch.call(*each) for each in words]
    done.append(flowbatch.call("logs", "last/one"))
    return [each.out + each.err for each in done]


def test_a_secret_that_is_gone_fails_the_attempt_without_its_value(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    flowbatch.write("key.txt", "canary")
    text = """
        secrets: {file: {file: ./key.txt}, shell: {command: [sh, -c, 'echo canary; echo canary >&2; exit 9']}}
        jobs:
          first: {script: 'echo x > news; read _ < gate'}
          one: {needs: first, secrets: {KEY: file}, command: ['true']}
          two: {needs: first, secrets: {KEY: shell}, command: ['true']}
        """
    engine = flowbatch.start("run", flowbatch.write("flow.yaml", text), "--json")
    news.line()
    (flowbatch.folder / "key.txt").unlink()
    gate.let(1)
    done = flowbatch.end(engine)
    assert done.code == 1
    assert "canary" not in done.out + done.err
    shown = flowbatch.ok("show", "last/one", "--json").out
    assert "secret KEY" in shown
    assert "key.txt" in shown
    shown = flowbatch.ok("show", "last/two", "--json").out
    assert "exited with 9" in shown
    assert "canary" not in shown

"""From a decided launch to an order: variables that nobody can forge, substitutions, files of items."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from flowbatch.engine.orders import OrderDesk
from flowbatch.model.effects import Launch, Place
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, log_name
from flowbatch.model.jobspec import JobSpec, Part, RunFacts
from flowbatch.model.resources import Resources
from flowbatch.ports import LaunchOrder
from flowbatch.spec.references import STATUS

RUN = RunFacts(RunId("run-1"), "flow", Millis(0))
KEY = AttemptKey(JobId("job-1"), 3, 2)


def launch(spec: JobSpec, key: AttemptKey = KEY, run: RunFacts | None = RUN, run_status: str = "") -> Launch:
    return Launch(key, "process", "place", "line", spec, Resources(1000, 64), run, run_status)


def spec(**fields: object) -> JobSpec:
    return replace(JobSpec("wide", "line", ("work",), Resources(1000, 64), size=5), **fields)


def desk(folder: Path) -> OrderDesk:
    return OrderDesk(folder, log_cap_bytes=1000)


def test_a_child_is_told_who_it_is(tmp_path: Path) -> None:
    order = desk(tmp_path).order(
        launch(spec(env=(("MINE", "1"),), timeout_ms=5, stop_grace_ms=6, user="nobody", workdir="/w"))
    )
    assert order.env == {
        "MINE": "1",
        "AWS_BATCH_CE_NAME": "place",
        "AWS_BATCH_JQ_NAME": "line",
        "AWS_BATCH_JOB_ID": "job-1:3",
        "AWS_BATCH_JOB_ATTEMPT": "2",
        "AWS_BATCH_JOB_ARRAY_INDEX": "3",
        "FLOWBATCH_ATTEMPT_ID": "job-1.3.2",
        "FLOWBATCH_ARRAY_SIZE": "5",
        "FLOWBATCH_JOB": "wide",
        "FLOWBATCH_RUN_ID": "run-1",
        "FLOWBATCH_WORKFLOW": "flow",
        "FLOWBATCH_RUN_DIR": str(tmp_path / "runs" / "run-1"),
    }
    assert (tmp_path / "runs" / "run-1").is_dir()
    assert order.log == str(tmp_path / "logs" / log_name(KEY.id))
    assert (order.timeout_ms, order.stop_grace_ms, order.user, order.workdir) == (5, 6, "nobody", "/w")


def test_a_single_has_no_index(tmp_path: Path) -> None:
    order = desk(tmp_path).order(launch(spec(size=None), AttemptKey(JobId("job-1"), 0, 1), run=None))
    assert order.env["AWS_BATCH_JOB_ID"] == "job-1"
    assert not {"AWS_BATCH_JOB_ARRAY_INDEX", "FLOWBATCH_ARRAY_SIZE", "FLOWBATCH_RUN_DIR"} & order.env.keys()


def test_reserved_names_are_not_taken_from_the_file(tmp_path: Path) -> None:
    forged = (
        ("AWS_BATCH_JOB_ID", "x"),
        ("FLOWBATCH_ATTEMPT_ID", "x"),
        ("FLOWBATCH_NEW", "x"),
        ("FLOWBATCH_PARAM_P", "p"),
    )
    env = desk(tmp_path).order(launch(spec(env=forged))).env
    assert "x" not in env.values()
    assert env["FLOWBATCH_PARAM_P"] == "p"


def test_children_differ_by_their_variables_alone(tmp_path: Path) -> None:
    """What an array's tasks have in common is made once, and none of it leaks from one to the next."""
    one_desk, wide = desk(tmp_path), spec(command=("say", "Ref::word"), parameters=(("word", "hello"),))
    first = one_desk.order(launch(wide, AttemptKey(JobId("job-1"), 0, 1)))
    first.env["LEAK"] = "x"
    second = one_desk.order(launch(wide, AttemptKey(JobId("job-1"), 1, 1)))
    assert first.command == second.command == ("say", "hello")
    assert "LEAK" not in second.env
    assert second.env["AWS_BATCH_JOB_ARRAY_INDEX"] == "1"


def test_the_status_of_the_run_is_filled_in_each_time(tmp_path: Path) -> None:
    one_desk, last = desk(tmp_path), spec(size=None, command=("say", STATUS), env=(("HOW", f"it {STATUS}"),))
    for status in ("FAILED", "SUCCEEDED"):  # a retry of the run runs `finally` again
        order = one_desk.order(launch(last, AttemptKey(JobId("job-1"), 0, 1), run_status=status))
        assert order.command == ("say", status)
        assert order.env["HOW"] == f"it {status}"


def test_items(tmp_path: Path) -> None:
    one_desk = desk(tmp_path)
    plain = one_desk.order(launch(spec(items=("a", "b", "c", "d d", "e"))))
    assert plain.env["FLOWBATCH_ITEM"] == "d d"
    mapped = one_desk.order(launch(spec(size=1, items=({"learning-rate": "1"},)), AttemptKey(JobId("job-2"), 0, 1)))
    assert mapped.env["FLOWBATCH_ITEM"] == "learning-rate=1"
    assert mapped.env["FLOWBATCH_ITEM_LEARNING_RATE"] == "1"
    assert "FLOWBATCH_ITEM_LEARNING_RATE" not in plain.env
    chunked = one_desk.order(launch(spec(size=4, items=tuple("abcdefg"), chunk=2)))
    assert Path(chunked.env["FLOWBATCH_ITEMS_FILE"]).read_text(encoding="utf-8") == "g\n"


def test_a_node_is_told_where_it_stands(tmp_path: Path) -> None:
    program = spec(size=None, command=("node",), env=(("B", "2"),), timeout_ms=None)
    whole = spec(size=None, command=("whole",), timeout_ms=9000)

    def node(number: int, **fields: str) -> LaunchOrder:
        key = AttemptKey(JobId("job-1"), 0, 1, number)
        place = Place(Part("", program), str(number), number, 4, 2, **fields)  # type: ignore[arg-type]
        return desk(tmp_path).order(replace(launch(whole, key), place=place))

    order = node(3, address="127.1.0.4", main_address="127.1.0.3")
    assert order.command == ("node",)
    assert {
        name: value for name, value in order.env.items() if "NODE" in name or name in ("AWS_BATCH_JOB_ID", "B")
    } == {
        "AWS_BATCH_JOB_ID": "job-1#3",
        "AWS_BATCH_JOB_NODE_INDEX": "3",
        "AWS_BATCH_JOB_NUM_NODES": "4",
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "2",
        "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "127.1.0.3",
        "FLOWBATCH_NODE_ADDRESS": "127.1.0.4",
        "B": "2",
    }
    assert order.env["FLOWBATCH_ATTEMPT_ID"] == "job-1.0.1.3"
    assert order.timeout_ms is None
    main = node(2)
    assert "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" not in main.env  # as in AWS
    assert main.env["FLOWBATCH_NODE_ADDRESS"] == "node-2.job-1"  # a backend with a network of its own has names
    assert main.timeout_ms == 9000

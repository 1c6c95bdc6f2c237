from __future__ import annotations

import pytest

from flowbatch.spec.arrays import SourceRequest
from tests.spec.building import compiled, problems, spec, specs, wrong


@pytest.mark.parametrize(("written", "size"), [("0", 0), ("1", 1), ("10000", 10_000), ("{size: 3}", 3)])
def test_sizes(written: str, size: int) -> None:
    assert spec(f"array: {written}").size == size


def test_options() -> None:
    found = spec("array: {size: 1000, max_running: 6, tolerate: 0.55%, sequential: true}")
    assert (found.max_running, found.tolerate, found.sequential) == (6, 5, True)
    assert spec("array: {size: 10, tolerate: 3}").tolerate == 3
    assert spec("array: {size: 3, tolerate: 100%}").tolerate == 3


def test_items_become_text() -> None:
    found = spec("array: {items: [a, 1, 1.50, true, {k: v, n: 0022}]}")
    assert found.size == 5
    assert found.items == ("a", "1", "1.50", "true", {"k": "v", "n": "0022"})


def test_a_matrix_is_every_combination_the_last_key_fastest() -> None:
    found = spec("array: {matrix: {lr: [0.1, 2], seed: 0..1, fixed: x}}")
    assert found.size == 4
    assert found.items == (
        {"lr": "0.1", "seed": "0", "fixed": "x"},
        {"lr": "0.1", "seed": "1", "fixed": "x"},
        {"lr": "2", "seed": "0", "fixed": "x"},
        {"lr": "2", "seed": "1", "fixed": "x"},
    )


def test_sources_are_asked_for_by_absolute_path() -> None:
    asked: list[SourceRequest] = []

    def read(request: SourceRequest) -> list[str]:
        asked.append(request)
        return ["one\n", "", "  ", "two \r\n", "three"] if request.kind == "lines" else ["/lab/d/a.csv", "/other/b"]

    text = """
    params: {dir: {default: d}}
    jobs:
      a: {array: {lines: '~/${{ params.dir }}/list.txt'}, script: x}
      b: {array: {glob: '${{ params.dir }}/*.csv'}, script: x}
      c: {array: {glob: 'd/*.csv'}, script: x, workdir: elsewhere}
    """
    found = specs(text, read_source=read)
    assert [(request.job, request.kind, request.path) for request in asked] == [
        ("a", "lines", "/home/me/d/list.txt"),
        ("b", "glob", "/lab/d/*.csv"),
        ("c", "glob", "/lab/d/*.csv"),
    ]
    assert (asked[0].position.line, asked[0].position.column) == (4, 26)
    assert found["a"].items == ("one", "two ", "three")
    assert found["b"].items == ("d/a.csv", "/other/b")
    assert found["c"].items == ("/lab/d/a.csv", "/other/b")


def test_a_source_without_children_is_warned_of() -> None:
    made = compiled("jobs: {a: {array: {glob: '*'}, script: x}}", read_source=lambda request: [])
    assert made.run.jobs[0].spec.size == 0
    assert "gives no children" in made.warnings[0].message


def test_chunks_take_several_items_a_child() -> None:
    found = spec("array: {items: [a, b, c, d, e], chunk: 2}")
    assert (found.size, found.chunk, len(found.items)) == (3, 2, 5)
    assert spec("array: {size: 25000}, chunk: 10").size == 2500
    many = spec("array: {lines: f, chunk: 3}", read_source=lambda request: [str(n) for n in range(30_000)])
    assert (many.size, len(many.items)) == (10_000, 30_000)


def test_each_takes_over_size_and_tolerance() -> None:
    text = """
    jobs:
      d: {script: x, needs: [{each: c}]}
      c: {script: x, needs: [{each: a}], array: {max_running: 2}}
      a: {script: x, array: {size: 10, tolerate: 20%}}
      e: {script: x, needs: [{each: a}], array: {tolerate: 0}}
      zero: {script: x, array: 0}
      after: {script: x, needs: [{each: zero}]}
    """
    found = specs(text)
    assert {key: (item.size, item.tolerate) for key, item in found.items()} == {
        "d": (10, 2),
        "c": (10, 2),
        "a": (10, 2),
        "e": (10, 0),
        "zero": (0, 0),
        "after": (0, 0),
    }
    assert found["c"].max_running == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("array: -1", "jobs.a.array: must be at least 0, found -1"),
        (
            "array: 10001",
            "jobs.a.array: 10,001 children; an array has at most 10,000 (with `chunk: 2` each child takes 2 of them)",
        ),
        (
            "array: {matrix: {a: 0..999, b: 0..999}}",
            "jobs.a.array.matrix: 1,000,000 children; an array has at most 10,000 "
            "(with `chunk: 100` each child takes 100 of them)",
        ),
        (
            "array: {matrix: {a: 0..99999999999999}}",
            "jobs.a.array.matrix.a: 0..99999999999999 has 100,000,000,000,000 values; at most 1,000,000 are taken",
        ),
        ("array: {size: 2000000, chunk: 1000}", "jobs.a.array.size: 2,000,000 items; at most 1,000,000 are taken"),
        ("array: {}", "jobs.a.array: gives no children: a size, lines, glob, items or matrix is needed"),
        ("array: {tolerate: 3}", "jobs.a.array: gives no children: a size, lines, glob, items or matrix is needed"),
        ("array: {size: 3, lines: f}", "jobs.a.array.lines: says the same as 'size'; an array has one source"),
        ("array: {size: 3, chunk: 2}, chunk: 2", "jobs.a.chunk: says the same as 'array.chunk'; give one of them"),
        ("array: {size: true}", "jobs.a.array.size: a whole number is needed, found true"),
        (
            "array: '5'",
            "jobs.a.array: a size (1000) or a mapping ({lines: FILE}, {size: 10, max_running: 2}) is needed",
        ),
        ("array: {size: 3, max_running: 0}", "jobs.a.array.max_running: must be at least 1, found 0"),
        ("array: {size: 3, tolerate: 5.5}", "jobs.a.array.tolerate: 5.5 is neither a count (3) nor a share (0.5%)"),
        ("array: {items: [[a]]}", "jobs.a.array.items[0]: one value is needed, found a list"),
        ("array: {items: [{a: {}}]}", "jobs.a.array.items[0].a: one value is needed, found a mapping"),
        ("array: {items: [{a b: 1}]}", "jobs.a.array.items[0].a b: 'a b' is not a name; names have letters"),
        ("array: {items: [null]}", "jobs.a.array.items[0]: one value is needed, found nothing"),
        ('array: {items: ["a\\nb"], chunk: 2}', "jobs.a.array.items: an item holds a line end; with `chunk` each item"),
        ("array: {matrix: {}}", "jobs.a.array.matrix: is empty; write {key: [values]}"),
        ("array: {matrix: {a-b: 1, A_B: 2}}", "jobs.a.array.matrix.A_B: would share its variable with 'a-b'"),
        ("array: {matrix: {a: {b: c}}}", "jobs.a.array.matrix.a: one value is needed, found a mapping"),
        ("array: {lines: no/such}", "jobs.a.array.lines: /lab/no/such cannot be read: No such file or directory"),
        ("chunk: 3", "jobs.a.chunk: groups the items of an array; this job is none"),
        (
            "dependsOn: [{type: SEQUENTIAL}]",
            "jobs.a.dependsOn: SEQUENTIAL orders the children of an array; this job is none",
        ),
    ],
)
def test_wrong_arrays(body: str, message: str) -> None:
    found = wrong(body)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_what_a_source_may_not_hold() -> None:
    assert "NUL" in wrong("array: {lines: f}", read_source=lambda request: ["a\0b"])[0]
    assert (
        "more than 33,554,432 characters"
        in wrong("array: {lines: f}", read_source=lambda request: ["x" * (1 << 26)])[0]
    )

    def garbled(request: SourceRequest) -> list[str]:
        return b"\xff".decode().splitlines()

    assert wrong("array: {lines: f}", read_source=garbled) == [
        "jobs.a.array.lines: /lab/f cannot be read: it is not UTF-8"
    ]


def test_each_refused() -> None:
    text = """
    jobs:
      one: {script: x}
      ten: {script: x, array: 10}
      two: {script: x, array: 2}
      a: {script: x, needs: [{each: one}]}
      b: {script: x, needs: [{each: ten}], array: 3}
      c: {script: x, needs: [{each: ten}, {each: two}]}
    """
    assert problems(text) == [
        "6:30: jobs.a.needs[0]: each waits index by index, and 'one' is a single job; write one alone",
        "7:30: jobs.b.needs[0]: each waits index by index: 'ten' has 10 children, it has 3; "
        "leave this job's own size out to take it over, or wait for the whole of 'ten'",
        "8:43: jobs.c.needs[1]: each waits index by index: 'two' has 2 children, ten has 10; "
        "leave this job's own size out to take it over, or wait for the whole of 'two'",
    ]


def test_a_folder_with_marks_of_a_pattern_is_taken_literally() -> None:
    asked: list[str] = []

    def read(request: SourceRequest) -> list[str]:
        asked.append(request.path)
        return ["/a[1]*/x"]

    from flowbatch.spec.compile import parse, plan
    from tests.spec.building import MACHINE

    made = plan(
        parse(b"jobs: {a: {array: {glob: '*'}, script: x}}", "f"),
        params={}, run_id="R", new_id=lambda: "j", folder="/a[1]*", home="/h", read_source=read, available=MACHINE,
        queues=(), root=False, guard=None,
    )  # fmt: skip
    assert asked == ["/a[[]1][*]/*"]
    assert made.run.jobs[0].spec.items == ("x",)

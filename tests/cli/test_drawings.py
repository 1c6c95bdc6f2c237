from __future__ import annotations

import re
import time

import click
import pytest

from flowbatch.cli.diagrams import dot, mermaid
from flowbatch.cli.drawings import Edge, Node, draw, in_order


def node(name: str, *needs: str | Edge, size: int | None = None, last: bool = False, status: str | None = None) -> Node:
    return Node(name, size, tuple(Edge(n) if isinstance(n, str) else n for n in needs), last, status)


def picture(*nodes: Node, unicode: bool = True) -> list[str]:
    return [click.unstyle(line) for line in draw(nodes, unicode=unicode)]


def test_a_chain_goes_down_and_to_the_right() -> None:
    assert picture(node("a"), node("b", "a"), node("c", "b")) == [
        "●      a",
        "╰─●    b  ← a",
        "  ╰─●  c  ← b",
    ]


def test_lanes_join_where_a_job_needs_several() -> None:
    assert picture(node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")) == [
        "●        a",
        "├─●      b  ← a",
        "╰─│─●    c  ← a",
        "  ╰─┴─●  d  ← b, c",
    ]


def test_a_lane_that_is_not_needed_passes_through() -> None:
    assert picture(node("a"), node("b", "a"), node("c"), node("d", "a", "c"), node("e", "b", "d")) == [
        "●          a",
        "├─●        b  ← a",
        "│ │ ●      c",
        "╰─│─┴─●    d  ← a, c",
        "  ╰───┴─●  e  ← b, d",
    ]


def test_edges_say_what_they_wait_for() -> None:
    drawn = picture(
        node("render", size=1000),
        node("denoise", Edge("render", each=True), size=1000),
        node("alarm", Edge("render", "failure")),
        node("tidy", Edge("denoise", "done")),
    )
    assert drawn == [
        "●      render   ×1000",
        "╞═●    denoise  ×1000  ← each render",
        "│ ╰┄●  tidy            ← denoise (done)",
        "╰┄●    alarm           ← render (failure)",
        "",
        "══ child by child (each)   ┄┄ after a failure, or any end",
    ]


def test_finally_stands_below() -> None:
    assert picture(node("a"), node("report", last=True)) == [
        "●  a", "", "finally, when all of the above have ended:", "●  report",
    ]  # fmt: skip


def test_statuses_of_a_run_show_without_colour_too() -> None:
    array = Node("b", 10, (Edge("a"),), status="RUNNING", counts={"RUNNABLE": 4, "RUNNING": 3, "SUCCEEDED": 3})
    assert picture(node("a", status="SUCCEEDED"), array, node("c", "b", status="PENDING")) == [
        "✓      a       SUCCEEDED",
        "╰─▶    b  ×10  4 RUNNABLE, 3 RUNNING, 3 SUCCEEDED  ← a",
        "  ╰─○  c       PENDING                             ← b",
    ]


def test_a_plain_terminal_gets_plain_characters() -> None:
    drawn = picture(node("a", size=2), node("b", Edge("a", each=True), size=2), unicode=False)
    assert drawn[:2] == ["*    a  x2", "`=*  b  x2  < each a"]
    assert all(line.isascii() for line in drawn)


def test_every_job_comes_after_what_it_needs() -> None:
    nodes = [node("z", "y"), node("y", "x"), node("x"), node("w", "z", "x")]
    assert [each.name for each in in_order(nodes)] == ["x", "y", "z", "w"]


def test_an_empty_workflow_draws_nothing() -> None:
    assert picture() == []


HOSTILE = 'x"] --> evil["\\n<script>alert(1)</script>\x1b]0;t\x07'


def test_mermaid_labels_hold_nothing_that_it_would_read() -> None:
    lines = mermaid(HOSTILE, [node(HOSTILE), node("b", Edge(HOSTILE, "failure", each=True), size=3)])
    label = re.search(r'j0\["(.*)"\]$', lines[4])
    assert label is not None
    assert re.fullmatch(r"(?:[A-Za-z0-9 _×-]|#\d+;)*", label[1])
    assert lines[1].startswith('title: "x\\"')
    assert "\x1b" not in "\n".join(lines)
    assert lines[-1] == '  j0 ==>|"each, failure"| j1'


def test_mermaid_in_full() -> None:
    nodes = [node("a", status="FAILED"), node("b", Edge("a", "done"), size=2, status="PENDING"), node("c", last=True)]
    assert mermaid("w", nodes) == [
        "---",
        'title: "w"',
        "---",
        "flowchart LR",
        '  j0["a"]',
        '  j1[["b ×2"]]',
        '  subgraph last ["finally"]',
        '    j2["c"]',
        "  end",
        '  j0 -.->|"done"| j1',
        "  classDef FAILED fill:#f5b5b5,color:#000",
        "  class j0 FAILED",
        "  classDef PENDING fill:#e9ecef,color:#000",
        "  class j1 PENDING",
    ]


def test_dot_in_full() -> None:
    nodes = [node("a"), node("b", Edge("a", each=True), size=2, status="RUNNING"), node("c", last=True)]
    assert dot("w", nodes) == [
        'digraph "w" {',
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
        '  j0 [label="a"];',
        '  j1 [label="b ×2", peripheries=2, fillcolor="#b5d3f5"];',
        "  subgraph cluster_last {",
        '    label="finally"; style=dashed;',
        '    j2 [label="c"];',
        "  }",
        '  j0 -> j1 [label="each", color="black:invis:black"];',
        "}",
    ]


@pytest.mark.parametrize("text", ['"', "\\", '\\"', "a\nb", HOSTILE])
def test_dot_strings_end_where_they_should(text: str) -> None:
    label = dot(text, [node(text)])[3].removeprefix("  j0 [label=").removesuffix("];")
    assert re.fullmatch(r'"(?:[^"\\\n]|\\["\\])*"', label)


def test_many_jobs_are_ordered_in_a_moment() -> None:
    wide = [node(f"w{n}") for n in range(5000)]
    chain = [node(f"c{n}", *([f"c{n - 1}", f"w{n}"] if n else [])) for n in range(5000)]
    begun = time.process_time()
    ordered = in_order([*reversed(chain), *wide])
    assert time.process_time() - begun < 1.0
    row = {each.name: number for number, each in enumerate(ordered)}
    assert all(row[edge.source] < row[each.name] for each in ordered for edge in each.needs)
    assert len(row) == 10_000

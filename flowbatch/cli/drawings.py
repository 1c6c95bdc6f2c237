"""The jobs of a workflow, drawn for a terminal: a line a job, each under what it needs.

A job's lane runs down from its mark until the last job that needs it; a job's line runs right from the lanes it needs:

    ●      fetch
    ├─●    render    ×1000  ← fetch
    │ ╰═●  denoise   ×1000  ← each render
    ╰───┴─●  …
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Final

import click
from msgspec import Struct, field

from flowbatch.cli.output import COLOURS, clean
from flowbatch.model.jobspec import JobPlan, JobSpec, Need, Stage, When

MARKS: Final = {
    None: "●", "SUCCEEDED": "✓", "FAILED": "✗", "RUNNING": "▶", "STARTING": "▶", "RUNNABLE": "◌", "PENDING": "○",
    "SUBMITTED": "○",
}  # fmt: skip
WHOLE, EACH, OTHERWISE = "─", "═", "┄"
_JOINS: Final = {  # (first of its line, goes on below) → the mark where a lane meets the line, by the kind of line
    WHOLE: {(True, True): "├", (True, False): "╰", (False, True): "┼", (False, False): "┴"},
    EACH: {(True, True): "╞", (True, False): "╘", (False, True): "╪", (False, False): "╧"},
}
_PLAIN: Final = str.maketrans("●✓✗▶◌○─═┄├╰┼┴╞╘╪╧│×←…", "*+x>o.-=~|`+^|`+^|x<~")


class Edge(Struct, frozen=True):
    source: str
    when: str = When.SUCCESS
    each: bool = False

    @property
    def label(self) -> str:
        """What sets the edge apart from "the whole of it succeeds"; empty where nothing does."""
        words = ["each"] if self.each else []
        words += {When.FAILURE: ["failure"], When.DONE: ["done"]}.get(When(self.when), [])
        return ", ".join(words)


class Node(Struct, frozen=True):
    """A job as it is drawn; `status` is there where it belongs to a run."""

    name: str
    size: int | None = None
    needs: tuple[Edge, ...] = ()
    last: bool = False  # of `finally`
    status: str | None = None
    counts: dict[str, int] = field(default_factory=dict)  # of an array's children
    image: str | None = None  # of a container
    members: str | None = None  # `4 nodes`, `3 containers`
    outside: tuple[Need, ...] = ()  # of jobs that are not in the picture

    @property
    def look(self) -> str | None:
        """The status to draw: the parent of an array stays PENDING while its children run, which no picture should say."""
        if self.status == "PENDING" and (self.counts.get("RUNNING") or self.counts.get("STARTING")):
            return "RUNNING"
        return self.status

    @property
    def size_text(self) -> str:
        if self.members is not None:
            return self.members
        return "" if self.size is None else f"×{self.size}"


def nodes_of(plans: Iterable[JobPlan]) -> list[Node]:
    """In the order of the file. A need that names no job of these is left out."""
    plans = list(plans)
    names = {plan.id: plan.spec.key for plan in plans}
    return [
        Node(
            plan.spec.key,
            plan.spec.size,
            tuple(Edge(names[need.job], need.when, need.each) for need in plan.spec.needs if need.job in names),
            plan.stage is Stage.FINALLY,
            image=None if plan.spec.container is None else plan.spec.container.image,
            members=crew_text(plan.spec),
            outside=tuple(need for need in plan.spec.needs if need.job not in names),
        )
        for plan in plans
    ]


def crew_text(spec: JobSpec) -> str | None:
    if spec.members is None:
        return None
    if spec.members.nodes is not None:
        return f"{spec.members.nodes} nodes"
    return f"{'' if spec.size is None else f'×{spec.size} of '}{len(spec.programs)} containers"


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Each after what it needs, as near below it as may be, else as in the file: lanes stay short."""
    unmet = {at: len(set(sources(node))) for at, node in enumerate(nodes)}
    dependants: dict[str, list[int]] = {}
    for at, node in enumerate(nodes):
        for source in sources(node):
            dependants.setdefault(source, []).append(at)
    ready = [(0, at) for at, count in unmet.items() if not count]  # the row of the lowest need, negated; a heap
    ordered: list[Node] = []
    while ready:
        _, at = heapq.heappop(ready)
        ordered.append(nodes[at])
        for dependant in dependants.get(nodes[at].name, ()):
            unmet[dependant] -= 1
            if not unmet[dependant]:
                heapq.heappush(ready, (-len(ordered), dependant))
    return ordered


class Lanes:
    """Which column is whose, row by row."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.column: dict[str, int] = {}
        self.open: dict[int, str] = {}
        self.left = dict.fromkeys((node.name for node in nodes), 0)  # jobs below that still need it
        for node in nodes:
            for source in sources(node):
                self.left[source] += 1

    def row(self, node: Node) -> list[str]:
        """The cells of the node's row, lanes on even places; the node's own is the last but for open lanes."""
        needed = {self.column[source]: source for source in sources(node)}
        for source in needed.values():
            self.left[source] -= 1
        own = max(needed, default=-1) + 1
        while own in self.open:
            own += 1
        width = max([own, *self.open]) + 1
        cells = [" "] * (2 * width)
        for column in self.open:
            cells[2 * column] = "│"
        if needed:
            self._join(cells, needed, own, line_of(node))
        cells[2 * own] = MARKS.get(node.look, "●")
        self.open = {column: name for column, name in self.open.items() if self.left[name]}
        self.column[node.name] = own
        if self.left[node.name]:
            self.open[own] = node.name
        return cells

    def _join(self, cells: list[str], needed: dict[int, str], own: int, line: str) -> None:
        first = min(needed)
        for place in range(2 * first + 1, 2 * own):
            if place % 2 or place // 2 not in self.open:
                cells[place] = line  # a lane that is not needed passes through
        joins = _JOINS.get(line, _JOINS[WHOLE])
        for column, source in needed.items():
            cells[2 * column] = joins[column == first, self.left[source] > 0]


def sources(node: Node) -> list[str]:
    return list(dict.fromkeys(edge.source for edge in node.needs))


def line_of(node: Node) -> str:
    """Double where all needs are child by child, dotted where none waits for success; words say the rest."""
    if all(edge.each for edge in node.needs):
        return EACH
    if all(edge.when != When.SUCCESS for edge in node.needs):
        return OTHERWISE
    return WHOLE


def draw(nodes: Sequence[Node], *, unicode: bool = True) -> list[str]:
    """Lines for a terminal: `finally` below a rule of its own. With `unicode` off, what any terminal can show."""
    lines: list[str] = []
    main = [node for node in nodes if not node.last]
    last = [node for node in nodes if node.last]
    lines += draw_stage(main)
    if last:
        lines += ["", click.style("finally, when all of the above have ended:", dim=True), *draw_stage(last)]
    lines += legend(nodes)
    return lines if unicode else [line.translate(_PLAIN) for line in lines]


def draw_stage(nodes: Sequence[Node]) -> list[str]:
    ordered = in_order(nodes)
    lanes = Lanes(ordered)
    rows = [lanes.row(node) for node in ordered]
    width = max((len("".join(cells).rstrip()) for cells in rows), default=0)
    names = max((len(node.name) for node in ordered), default=0)
    sizes = max((len(node.size_text) for node in ordered), default=0)
    states = max((len(state_text(node)) for node in ordered), default=0)
    needs = max((len(needs_text(node)) for node in ordered), default=0) if any(n.image for n in ordered) else 0
    lines = []
    for node, cells in zip(ordered, rows, strict=True):
        colour = COLOURS.get(node.look or "")
        mark = MARKS.get(node.look) if colour else None
        own = "".join(click.style(cell, fg=colour) if cell == mark else cell for cell in cells).rstrip()
        own = own + " " * (width - len("".join(cells).rstrip()))
        name = click.style(node.name, fg=colour, bold=node.status is None) + " " * (names - len(node.name))
        words = [own, name]
        if sizes:
            words.append(node.size_text.ljust(sizes))
        if states:
            state = state_text(node)
            words.append(click.style(state, fg=colour) + " " * (states - len(state)))
        words.append(
            click.style(needs_text(node).ljust(needs), dim=True) if node.needs or node.outside or needs else ""
        )
        if node.image is not None:
            words.append(click.style(f"in {clean(node.image)}", dim=True))
        lines.append("  ".join(words).rstrip())
    return lines


def needs_text(node: Node) -> str:
    """`← each render, fetch (done)`."""
    parts = []
    for edge in node.needs:
        when = "" if edge.when == When.SUCCESS else f" ({edge.when})"
        parts.append(f"{'each ' if edge.each else ''}{edge.source}{when}")
    for need in node.outside:
        when = "" if need.when == When.SUCCESS else f" ({need.when})"
        child = "" if need.index is None else f":{need.index}"
        parts.append(f"{'each ' if need.each else ''}job {need.job}{child}{when}")
    return f"← {', '.join(parts)}" if parts else ""


def state_text(node: Node) -> str:
    """An array's children by status, most advanced last; the status itself for a single."""
    if node.status is None:
        return ""
    if node.size is None or node.counts.get(node.status) == node.size:
        return node.status
    return ", ".join(f"{count} {status}" for status, count in node.counts.items() if count) or node.status


def legend(nodes: Sequence[Node]) -> list[str]:
    lines = {line_of(node) for node in nodes if node.needs}
    words = []
    if EACH in lines:
        words.append(f"{EACH * 2} child by child (each)")
    if OTHERWISE in lines:
        words.append(f"{OTHERWISE * 2} after a failure, or any end")
    return ["", click.style("   ".join(words), dim=True)] if words else []

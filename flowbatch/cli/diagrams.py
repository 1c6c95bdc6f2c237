"""The jobs of a workflow for other programs to draw: Mermaid and Graphviz's dot. Nodes are numbered: a name is only a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowbatch.cli.drawings import Node
from flowbatch.cli.output import clean
from flowbatch.model.jobspec import When

FILLS: Final = {
    "SUCCEEDED": "#b7e4c7", "FAILED": "#f5b5b5", "RUNNING": "#b5d3f5", "STARTING": "#c9eef0", "RUNNABLE": "#f8e9a1",
    "PENDING": "#e9ecef", "SUBMITTED": "#e9ecef",
}  # fmt: skip


def mermaid(title: str, nodes: Sequence[Node]) -> list[str]:
    """A flowchart. Text goes in quotes with all that Mermaid reads in them escaped as its own entities."""
    ids = {node.name: f"j{number}" for number, node in enumerate(nodes)}
    lines = ["---", f"title: {mermaid_title(title)}", "---", "flowchart LR"]
    lines += [f"  {mermaid_node(ids[node.name], node)}" for node in nodes if not node.last]
    last = [node for node in nodes if node.last]
    if last:
        lines.append('  subgraph last ["finally"]')
        lines += [f"    {mermaid_node(ids[node.name], node)}" for node in last]
        lines.append("  end")
    for node in nodes:
        for edge in node.needs:
            arrow = "==>" if edge.each else "-->" if edge.when == When.SUCCESS else "-.->"
            label = f'|"{edge.label}"|' if edge.label else ""
            lines.append(f"  {ids[edge.source]} {arrow}{label} {ids[node.name]}")
    for status in sorted({node.look for node in nodes if node.look}):
        members = ",".join(ids[node.name] for node in nodes if node.look == status)
        lines += [f"  classDef {status} fill:{FILLS[status]},color:#000", f"  class {members} {status}"]
    return lines


def mermaid_node(name: str, node: Node) -> str:
    opening, closing = ("[", "]") if node.size is None else ("[[", "]]")
    return f'{name}{opening}"{mermaid_text(label(node))}"{closing}'


def mermaid_text(text: str) -> str:
    return "".join(char if char.isalnum() or char in " _-×" else f"#{ord(char)};" for char in clean(text))


def mermaid_title(text: str) -> str:
    """A YAML scalar in double quotes."""
    escaped = clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def dot(title: str, nodes: Sequence[Node]) -> list[str]:
    """A digraph. A string of dot ends at its next quote, and knows escapes only after a backslash."""
    ids = {node.name: f"j{number}" for number, node in enumerate(nodes)}
    lines = [
        f"digraph {dot_text(title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
    ]
    lines += [f"  {dot_node(ids[node.name], node)}" for node in nodes if not node.last]
    last = [node for node in nodes if node.last]
    if last:
        lines += ["  subgraph cluster_last {", '    label="finally"; style=dashed;']
        lines += [f"    {dot_node(ids[node.name], node)}" for node in last]
        lines.append("  }")
    for node in nodes:
        for edge in node.needs:
            marks = [f"label={dot_text(edge.label)}"] if edge.label else []
            marks += (
                ['color="black:invis:black"'] if edge.each else ["style=dashed"] if edge.when != When.SUCCESS else []
            )
            options = f" [{', '.join(marks)}]" if marks else ""
            lines.append(f"  {ids[edge.source]} -> {ids[node.name]}{options};")
    return [*lines, "}"]


def dot_node(name: str, node: Node) -> str:
    options = [f"label={dot_text(label(node))}"]
    if node.size is not None:
        options.append("peripheries=2")
    if node.look:
        options.append(f'fillcolor="{FILLS[node.look]}"')
    return f"{name} [{', '.join(options)}];"


def dot_text(text: str) -> str:
    escaped = clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def label(node: Node) -> str:
    return " ".join(filter(None, [node.name, node.size_text, f"in {node.image}" if node.image is not None else ""]))

"""Where each key and value of a file stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct, field

from flowbatch.errors import Problem

Path = tuple[str | int, ...]
Spot = int  # a line and a column in one number: a file has tens of thousands of them
NOWHERE: Final[Spot] = -1  # the file as a whole
_COLUMNS: Final = 1 << 21  # more than the longest file has


def nowhere(file: str, root: object) -> Positions:
    """Of a value that came without positions, a request's: paths are told, lines are not."""
    found = Positions(file, root)
    left = [root]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            found.keys[id(node)] = found.values[id(node)] = dict.fromkeys(node, NOWHERE)
            left += node.values()
        elif isinstance(node, list):
            found.values[id(node)] = [NOWHERE] * len(node)
            left += node
    return found


class Mark(Protocol):
    """0-based, as libyaml counts."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


def spot(line: int, column: int) -> Spot:
    """Of a 0-based line and column."""
    return line * _COLUMNS + column


def line_of(where: Spot) -> int:
    """1-based; 0 for NOWHERE."""
    return where // _COLUMNS + 1


def column_of(where: Spot) -> int:
    return where % _COLUMNS + 1 if where >= 0 else 0


class Positions(Struct):
    """Found by walking the values themselves, so that nothing is paid for until something is wrong.

    `keys` and `values` are keyed by the identity of a container, which `root` keeps alive.
    """

    file: str
    root: object = None
    start: Spot = NOWHERE
    keys: dict[int, dict[str, Spot]] = field(default_factory=dict)
    values: dict[int, dict[str, Spot] | list[Spot]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)  # of keys and values that could not be read as they stand

    def has(self, path: Path) -> bool:
        return len(self._walk(path)[2]) == len(path)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """The path may go deeper than the file does: what exists of it is shown."""
        key, value, found = self._walk(path)
        where = key if at_key and len(found) == len(path) else value
        return Problem(self.file, line_of(where), column_of(where), dotted(found), message)

    def written(self, path: Path) -> object:
        """The value as the file has it, at as much of the path as exists."""
        node = self.root
        for step in self._walk(path)[2]:
            node = child(node, step)
        return node

    def first(self, paths: Iterable[Path]) -> Path:
        """The first that the file has, else the longest part of the first that it has."""
        candidates = list(paths)
        for path in candidates:
            if self.has(path):
                return path
        return self._walk(candidates[0])[2]

    def _walk(self, path: Path) -> tuple[Spot, Spot, Path]:
        node, key, value = self.root, self.start, self.start
        for depth, step in enumerate(path):
            spots = self.values.get(id(node))
            if isinstance(node, dict) and isinstance(spots, dict) and isinstance(step, str) and step in node:
                key, value = self.keys[id(node)][step], spots[step]
                node = node[step]
            elif isinstance(node, list) and isinstance(spots, list) and isinstance(step, int) and step < len(node):
                key = value = spots[step]
                node = node[step]
            else:
                return key, value, path[:depth]
        return key, value, path


def child(node: object, step: str | int) -> object:
    """None where there is none."""
    if isinstance(node, list):
        return node[step] if isinstance(step, int) and step < len(node) else None
    return node.get(step) if isinstance(node, dict) else None


def dotted(path: Path) -> str:
    """`jobs.encode.needs[1]`"""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each once, as the file has them."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.line, problem.column))

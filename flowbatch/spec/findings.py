"""What is collected while a file is judged."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from flowbatch.errors import Problem, WorkflowInvalid
from flowbatch.spec.positions import Path, Positions, in_order
from flowbatch.spec.validation import EXPRESSION, did_you_mean
from flowbatch.spec.yaml import PROBLEMS_MAX


class Findings(Struct):
    positions: Positions
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    pending: bool = False  # a value that still holds an expression is not judged

    @property
    def full(self) -> bool:
        """More would not be read by anyone."""
        return len(self.problems) >= PROBLEMS_MAX

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> None:
        if self.pending and isinstance(written := self.positions.written(path), str) and EXPRESSION in written:
            return
        if not self.full:
            self.problems.append(self.positions.problem(path, message, at_key=at_key))

    def unknown(self, path: Path, kind: str, word: str, known: Iterable[str]) -> None:
        """`unknown job 'denoize' (did you mean 'denoise'?)`"""
        if not self.full:
            names = list(known)
            few = f"; known: {', '.join(names)}" if 0 < len(names) <= 6 else ""
            self.problem(path, f"unknown {kind} {word!r}{did_you_mean(word, names) or few}")

    def warn(self, path: Path, message: str) -> None:
        self.warnings.append(self.positions.problem(path, message))

    def all(self) -> list[Problem]:
        """In the order of the file, with what could not be read; of that nothing else is said."""
        unread = self.positions.problems
        places = {(each.line, each.column) for each in unread}
        return in_order([*unread, *(each for each in self.problems if (each.line, each.column) not in places)])

    def raise_any(self) -> None:
        if self.problems or self.positions.problems:
            raise WorkflowInvalid(self.all())

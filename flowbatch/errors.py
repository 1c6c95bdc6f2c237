"""What can go wrong with flowbatch itself; the failure of a task is data, never an exception.

FlowbatchError                 exit code
├── InputError                 2   the user's words are wrong: file, flag, address
│   └── WorkflowInvalid        2   a workflow or settings file, with every problem found in it
├── FolderHeld                 3   another engine holds the state folder
├── StoreError                 4   the store cannot be trusted
│   ├── StoreDamaged           4
│   ├── StoreTooNew            4
│   └── StoreTooOld            4   an engine brings it up to date, a reader cannot
├── StoreFull                  4   no room on the disk to begin with; later on the engine stops the line and tries again
├── BackendUnavailable         5   the supervisor, the Docker Engine or a server cannot be reached
└── InternalError              70  a bug in flowbatch
    └── InvalidTransition      70  a status followed one that it may not follow
"""

from __future__ import annotations

from typing import NamedTuple


class FlowbatchError(Exception):
    """Says what is wrong, where, and what to do about it."""

    exit_code = 70


class InputError(FlowbatchError):
    exit_code = 2


class Problem(NamedTuple):
    """One thing wrong in a file: `render.yaml:12:14: jobs.encode.needs: unknown job 'denoize' (did you mean …?)`."""

    file: str
    line: int  # 1-based; 0 where the file as a whole is meant
    column: int  # 1-based; 0 likewise
    path: str  # dotted, empty for the document
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class WorkflowInvalid(InputError):
    """Carries every problem of the file, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class FolderHeld(FlowbatchError):
    exit_code = 3

    def __init__(self, folder: str, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{folder}: another engine ({holder}) holds this state folder; wait for it, stop it, or choose another "
            f"folder with --state"
        )


class StoreError(FlowbatchError):
    exit_code = 4


class StoreDamaged(StoreError):
    pass


class StoreTooNew(StoreError):
    pass


class StoreTooOld(StoreError):
    pass


class StoreFull(FlowbatchError):
    exit_code = 4


class BackendUnavailable(FlowbatchError):
    exit_code = 5


class InternalError(FlowbatchError):
    exit_code = 70


class InvalidTransition(InternalError):
    pass

"""flowbatch's own log: facts as keys and values, on standard error or in a file; never the tasks' output.

structlog is imported with the first line that is logged: most runs have nothing to say, and it takes as long to import as
the rest of the engine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO, Final, TextIO

FILE_BYTES_MAX: Final = (
    4 * 1024 * 1024
)  # of an engine's log; what was before lies beside it as `.1`, and goes with the next

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Settings:
    level = "warning"
    stream: TextIO | None = None
    json = False
    applied = False


def configure(*, level: str = "warning", stream: TextIO | None = None, json: bool = False) -> None:
    """`stream` None: standard error, as it is when something is logged."""
    _Settings.level, _Settings.stream, _Settings.json, _Settings.applied = level, stream, json, False


class Logger:
    """A named logger; costs nothing until it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **facts: object) -> None:
        self._log("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        self._log("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        self._log("error", event, facts)

    def _log(self, level: str, event: str, facts: dict[str, object]) -> None:
        if _LEVELS[level] < _LEVELS[_Settings.level]:
            return
        import structlog

        out = _Settings.stream if _Settings.stream is not None else sys.stderr
        if out is None:
            return  # closed: there is nobody to tell
        try:
            if not _Settings.applied:
                _apply(out)
            structlog.get_logger().bind(logger=self._name).log(_LEVELS[level], event, **facts)
        except (OSError, ValueError):
            return  # a full disk is often what there is to tell: it must not end the engine that waits for room


def _apply(out: TextIO) -> None:
    import structlog

    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if _Settings.json else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[_Settings.level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _Settings.applied = True


def opened(path: Path, most_bytes: int = FILE_BYTES_MAX) -> BinaryIO:
    """The log of an engine in the background, to be appended to; its owner alone reads it. One that is full begins anew."""
    if path.exists() and path.stat().st_size > most_bytes:
        os.replace(path, old_of(path))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # of one that is older than this rule
    return os.fdopen(descriptor, "ab")


def rotate(path: Path, most_bytes: int = FILE_BYTES_MAX) -> bool:
    """Where standard output or error of this process is that log and it is full, they go on in a new one."""
    try:
        log = path.stat()
    except OSError:
        return False
    ours = [number for number in (1, 2) if is_open(number, log)]
    if not ours or log.st_size <= most_bytes:
        return False
    with opened(path, most_bytes) as new:
        for number in ours:
            os.dup2(new.fileno(), number)
    return True


def is_open(descriptor: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file)
    except OSError:
        return False  # closed


def old_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")

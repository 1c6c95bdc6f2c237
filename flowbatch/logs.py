"""flowbatch's own log: facts as keys and values, on standard error or in a file; never the tasks' output.

structlog is imported with the first line that is logged: most runs have nothing to say, and it takes as long to import as
the rest of the engine.
"""

from __future__ import annotations

import sys
from typing import Final, TextIO

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

        if not _Settings.applied:
            _apply()
        structlog.get_logger().bind(logger=self._name).log(_LEVELS[level], event, **facts)


def _apply() -> None:
    import structlog

    out = _Settings.stream if _Settings.stream is not None else sys.stderr
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

"""What `doctor` asks of the store: its figures, whether its pages are whole, whether its laws hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flowbatch.errors import StoreDamaged
from flowbatch.store import laws, queries
from flowbatch.store.results import Totals, Violation
from flowbatch.store.session import Session

PATIENCE_S: Final = 600.0  # these read all there is


class Health(Session):
    """Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, deadline_s=PATIENCE_S)

    def totals(self) -> Totals:
        [row] = self.rows(queries.FILE)
        pages, page_size, free, version, instance, lives, runs, open_runs, jobs, events = row
        log = self.path.with_name(self.path.name + "-wal")
        wal_bytes = log.stat().st_size if log.exists() else 0
        return Totals(
            pages * page_size, free * page_size, wal_bytes, version, instance, lives, runs, open_runs, jobs, events
        )

    def damage(self) -> list[str]:
        """What SQLite finds wrong with its pages and rows; empty where all is well."""
        try:
            return [text for (text,) in self.rows(queries.QUICK_CHECK) if text != "ok"]
        except StoreDamaged as error:
            return [str(error)]

    def violations(self) -> list[Violation]:
        """The laws that do not hold, with some examples each; all of them looked at in one state of the store."""
        with self.snapshot():
            return [Violation(law, example) for law, sql in laws.LAWS.items() for (example,) in self.rows(sql)]

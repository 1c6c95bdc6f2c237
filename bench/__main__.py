"""Runs every measurement and compares it with its limit: `python -m bench [NAME …]`."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import cases
from bench.report import Report


def main(names: list[str]) -> int:
    report = Report()
    for name, case in cases.ALL.items():
        if not names or name in names:
            case(report)
    report.write(Path("bench.json"))
    missed = [row.what for row in report.rows if not row.held]
    print(f"\n{len(report.rows) - len(missed)} of {len(report.rows)} within their limits; written to bench.json")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

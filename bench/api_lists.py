"""Pages of ListJobs from a store with a million jobs: `python -m bench.api_lists [JOBS]`.

One job runs to its end; then its rows are copied in SQLite, each with a number, an id, a name and a time of its own, and the
server starts again on that. Prints a JSON object: milliseconds, the median of each kind of page and what it costs the server of a core; and how long
the start took.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.api_calls import Server, drive, prepare

JOBS = 1_000_000
TIMES = 40
COPIES = """
WITH RECURSIVE copy(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?)
"""


def fill(database: Path, jobs: int) -> None:
    """Half of the copies have failed."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        [(first,)] = db.execute("SELECT max(no) FROM job").fetchall()
        columns = {
            table: [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            for table in ("job", "job_plan", "task")
        }
        changed = {
            "no": "source.no + copy.n", "job": "source.job + copy.n", "id": "printf('%08x-0000-4000-8000-000000000000', copy.n)",
            "status": "5 + copy.n % 2", "created_at": "source.created_at + copy.n", "stopped_at": "source.stopped_at + copy.n",
            "name": "printf('copy%d', copy.n % 1000)",
        }  # fmt: skip
        db.execute("BEGIN")
        for table, names in columns.items():
            key = "no" if table == "job" else "job"
            values = ", ".join(changed.get(name, f"source.{name}") for name in names)
            sql = f"{COPIES} INSERT INTO {table} SELECT {values} FROM copy, {table} AS source WHERE source.{key} = ?"
            db.execute(sql, (jobs - 1, first))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def measured(server: Server, jobs: int) -> dict[str, float]:
    at = int(time.time() * 1000) + jobs // 2
    kinds = {
        "status_100": {"jobStatus": "SUCCEEDED", "maxResults": 100},
        "status_1000": {"jobStatus": "FAILED"},
        "name": {"filters": [{"name": "JOB_NAME", "values": ["COPY7"]}]},
        "prefix": {"filters": [{"name": "JOB_NAME", "values": ["copy*"]}]},
        "definition": {"filters": [{"name": "JOB_DEFINITION", "values": ["noop"]}]},
        "before": {"filters": [{"name": "BEFORE_CREATED_AT", "values": [str(at)]}]},
        "after": {"filters": [{"name": "AFTER_CREATED_AT", "values": [str(at)]}]},
    }
    found = {}
    for kind, given in kinds.items():
        token: dict[str, str] = {}
        before_s = server.cpu_s()
        pages = []
        for _ in range(TIMES):  # each page goes on where the one before ended
            request = server.request("ListJobs", jobQueue="busy", **given, **token)
            _, [took_ms], [body] = asyncio.run(drive(server, [request], 1))
            answer = json.loads(body)
            pages.append(took_ms)
            if "nextToken" not in answer:
                break
            size = 1000 if kind == "status_1000" else 100
            assert len(answer["jobSummaryList"]) == size, (kind, len(answer["jobSummaryList"]))
            token = {"nextToken": answer["nextToken"]}
        assert len(pages) > 5, kind
        found[f"{kind}_ms"] = statistics.median(pages)
        found[f"{kind}_cpu_ms"] = (server.cpu_s() - before_s) * 1000 / len(pages)
    return found


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        server = Server(Path(folder))
        batch = server.boto()
        prepare(batch)
        job = batch.submit_job(jobName="first", jobQueue="busy", jobDefinition="noop")["jobId"]
        while batch.describe_jobs(jobs=[job])["jobs"][0]["status"] != "SUCCEEDED":
            time.sleep(0.01)
        server.close()
        fill(server.state / "flowbatch.db", jobs)
        begun = time.perf_counter()
        server = Server(Path(folder))
        try:
            result = {"start_s": time.perf_counter() - begun, **measured(server, jobs), "rss_mb": server.rss_mb()}
        finally:
            server.close()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

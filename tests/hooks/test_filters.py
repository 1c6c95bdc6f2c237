from __future__ import annotations

import pytest

from flowbatch.hooks.filters import Sieve, stream_of
from flowbatch.model.events import LoggedEvent
from flowbatch.model.notify import Arrays, Filter
from flowbatch.model.status import RunStatus, Status
from tests.hooks import told

TAGGED = told.job(of=told.spec(tags=(("team", "render"),)))
AGAIN = told.job(Status.RUNNABLE, attempt=1, exit_code=1, status_reason="x")
PARENT = told.job(of=told.spec(size=10))


@pytest.mark.parametrize(
    ("filter_", "event", "passes"),
    [
        (Filter(), told.job(), True),
        (Filter(), told.child(), False),
        (Filter(("run.failed",)), told.run(), True),
        (Filter(("run.failed",)), told.run(RunStatus.SUCCEEDED), False),
        (Filter(("job.*",)), told.run(), False),
        (Filter(("job.failed",)), AGAIN, False),
        (Filter(("job.failed",), final=False), AGAIN, True),
        (Filter(("job.failed",), final=False), told.job(Status.RUNNABLE), False),
        (Filter(("child.failed",)), told.child(), True),
        (Filter(("*",)), told.child(), False),
        (Filter(("job.failed",), arrays=Arrays.CHILDREN), told.child(), True),
        (Filter(("job.failed",), arrays=Arrays.CHILDREN), PARENT, False),
        (Filter(("job.failed",), arrays=Arrays.CHILDREN), told.job(), True),
        (Filter(("job.failed",), arrays=Arrays.BOTH), PARENT, True),
        (Filter(workflows=("film-*",)), told.job(), True),
        (Filter(workflows=("other",)), told.job(), False),
        (Filter(queues=("def*",)), told.job(), True),
        (Filter(queues=("fast",)), told.job(), False),
        (Filter(queues=("default",)), told.run(), False),
        (Filter(tags=(("team", "r*"),)), TAGGED, True),
        (Filter(tags=(("team", "x"),)), TAGGED, False),
        (Filter(tags=(("team", "*"),)), told.job(), False),
        (Filter(), told.dead("slack"), False),
        (Filter(), told.dead("other"), True),
        (Filter(("delivery.dead",)), told.dead("other"), True),
    ],
)
def test_what_passes(filter_: Filter, event: LoggedEvent, passes: bool) -> None:
    assert Sieve(filter_, "slack").wants(event) is passes


def test_streams() -> None:
    streams = [stream_of(each.row) for each in (told.run(), told.job(), told.child(1), told.child(2), told.dead())]
    assert len(set(streams[:4])) == 4
    assert stream_of(told.job(Status.RUNNING).row) == streams[1]

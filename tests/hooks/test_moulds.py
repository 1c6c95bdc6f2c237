"""What comes out of a mould is what encoding gives, to the byte, whatever the job's own texts are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbatch.hooks import moulds
from flowbatch.hooks.detail import BODY_BYTES
from flowbatch.hooks.forms import Forms
from flowbatch.hooks.moulds import AT, IDX, SEQ, STARTED_AT
from flowbatch.model.events import EventKind, JobFacts, LoggedEvent
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.notify import Form
from flowbatch.model.status import Status
from tests.hooks import told

INSTANCE = "0123456789abcdef"
BODIES = (Form.EVENTBRIDGE, Form.CLOUDEVENTS)
TEXTS = st.sampled_from(
    [
        "",
        "%s",
        "%",
        "%(x)s",
        f"{SEQ}",
        f"{AT}",
        f"{IDX:09d}",
        f"x{STARTED_AT}",
        '"detail":null',
        "é\u2028",
        "b" * BODY_BYTES,
    ]
)


def child(idx: int, *, seq: int, at: int, started: int | None, text: str, status: Status) -> LoggedEvent:
    spec = told.spec(size=10_000, env=(("A", text),), tags=((text, text),))
    detail = None if started is None else f'{{"started_at": {started}}}'
    return told.event(
        EventKind.CHILD, status, seq=seq, job=spec, idx=idx, at=Millis(at), detail=detail, attempt=1, exit_code=0,
        status_reason=text or None,
    )  # fmt: skip


@given(
    form=st.sampled_from(BODIES),
    text=TEXTS,
    seen=st.lists(
        st.tuples(
            st.integers(0, 9999), st.integers(1, 2**48 - 1), st.integers(0, 4 * 10**12),
            st.none() | st.integers(0, 4 * 10**12), st.sampled_from([Status.RUNNING, Status.SUCCEEDED, Status.FAILED]),
        ),
        min_size=3,
        max_size=12,
    ),
)  # fmt: skip
@settings(max_examples=40)
def test_a_body_from_a_mould_is_the_body(
    form: Form, text: str, seen: list[tuple[int, int, int, int | None, Status]]
) -> None:
    forms = Forms(INSTANCE, form)
    for idx, seq, at, started, status in seen:
        event = child(idx, seq=seq, at=at, started=started, text=text, status=status)
        assert forms.encoded(event) == Forms(INSTANCE, form).encoded(event)  # whose first event it is


@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("started", [None, 1_700_000_000_000])
def test_the_third_of_a_kind_is_not_encoded_again(form: Form, started: int | None) -> None:
    found: list[int] = []
    forms = Forms(INSTANCE, form)
    plain = forms._moulds._encode

    def encode(event: LoggedEvent) -> bytes:
        found.append(event.seq)
        return plain(event)

    forms._moulds._encode = encode
    for seq in range(1, 6):
        forms.encoded(child(seq, seq=seq, at=told.T0 + seq, started=started, text="a", status=Status.SUCCEEDED))
    assert found == [1, 2, SEQ]


@pytest.mark.parametrize("text", [f"{SEQ}", f"{AT}", f"{IDX}", "b" * BODY_BYTES])
def test_a_mould_that_does_not_fit_is_not_cast_again(text: str) -> None:
    forms = Forms(INSTANCE, Form.EVENTBRIDGE)
    for seq in range(1, 6):
        forms.encoded(child(seq, seq=seq, at=told.T0 + seq, started=None, text=text, status=Status.SUCCEEDED))
    [mould] = forms._moulds._moulds.values()
    assert mould is not None
    assert mould.fits is (len(text) == BODY_BYTES)  # what is left out is left out of the mould


def test_there_is_an_end_to_them() -> None:
    forms = Forms(INSTANCE, Form.EVENTBRIDGE)
    for number in range(moulds.KEPT + 10):
        facts = JobFacts(JobId(f"{number:08}-0000-4000-9000-000000000000"), told.spec(size=3), told.T0, told.RUN)
        for idx in range(3):
            event = told.child(idx, seq=3 * number + idx + 1)
            forms.encoded(LoggedEvent(event.seq, event.row, event.run, facts))
    assert len(forms._moulds._moulds) == moulds.KEPT

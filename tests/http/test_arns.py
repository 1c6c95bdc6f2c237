from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.http.arns import KINDS, Account, Arn, check_name
from flowbatch.http.failures import ClientFailure
from flowbatch.http.pages import Pages, page_size

HERE = Account("123456789012", "eu-west-1")
PAGES = Pages(bytes(32))


@given(st.sampled_from(KINDS), st.from_regex(r"[A-Za-z0-9_#:-]{1,40}", fullmatch=True))
def test_an_arn_is_its_kind_and_name(kind: str, name: str) -> None:
    assert HERE.parse(HERE.arn(kind, name)) == Arn(kind, name)
    assert HERE.name_of(kind, HERE.arn(kind, name)) == name


def test_a_name_is_a_name() -> None:
    assert HERE.name_of("job-queue", "fast") == "fast"


@pytest.mark.parametrize(
    ("arn", "wrong"),
    [
        ("arn:aws:batch", "is no ARN of AWS Batch"),
        ("arn:aws:s3:::bucket", "is no ARN of AWS Batch"),
        ("arn:aws:batch:eu-west-1:999999999999:job-queue/fast", "of account 999999999999"),
        ("arn:aws:batch:us-east-1:123456789012:job-queue/fast", "in us-east-1"),
        ("arn:aws:batch:eu-west-1:123456789012:job-queue/", "known kind"),
        ("arn:aws:batch:eu-west-1:123456789012:bucket/a", "known kind"),
        ("arn:aws:batch:eu-west-1:123456789012:compute-environment/a", "a job-queue is needed"),
    ],
)
def test_another_arn_is_refused(arn: str, wrong: str) -> None:
    with pytest.raises(ClientFailure, match=wrong):
        HERE.name_of("job-queue", arn)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a" * 129, "á", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ClientFailure, match="jobQueueName must be 1 to 128 letters"):
        check_name("jobQueueName", name)


@given(
    st.lists(st.one_of(st.text(max_size=9), st.integers()), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers()),
)
def test_a_token_goes_on_where_it_was_made(cursor: list[str | int], question: dict[str, int]) -> None:
    assert PAGES.cursor(question, PAGES.token(question, cursor)) == cursor


@given(st.integers(0, 200), st.sampled_from("AZaz09-_"))
def test_a_token_of_another_list_or_server_or_with_a_wrong_letter_is_refused(at: int, letter: str) -> None:
    token = PAGES.token({"jobQueue": "a"}, ["x", 1])
    with pytest.raises(ClientFailure, match="nextToken"):
        PAGES.cursor({"jobQueue": "b"}, token)
    with pytest.raises(ClientFailure, match="nextToken"):
        Pages(b"other").cursor({"jobQueue": "a"}, token)
    changed = token[: at % len(token)] + letter + token[at % len(token) + 1 :]
    if changed[:-1] != token[:-1]:  # of the last letter not every bit counts
        with pytest.raises(ClientFailure, match="nextToken"):
            PAGES.cursor({"jobQueue": "a"}, changed)


@given(st.text(max_size=60))
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(ClientFailure, match="nextToken"):
        PAGES.cursor(None, text)


def test_page_sizes() -> None:
    assert page_size(None) == 100
    assert page_size(1) == 1
    for wrong in (0, 101, -1):
        with pytest.raises(ClientFailure, match="maxResults must be 1 to 100"):
            page_size(wrong)

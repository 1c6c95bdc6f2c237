"""Signature Version 4: what botocore signs is taken, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flowbatch.http.signature import SignatureRefused, Signed, signature_in, verify

KEY, SECRET = "fbk_abcdefghijkl", "k3" * 20
NOW = datetime(2026, 11, 22, 16, 0, 0, tzinfo=UTC)
TAGS = "/v1/tags/arn%3Aaws%3Abatch%3Aeu-west-1%3A000000000000%3Ajob-definition%2Fsleep30%3A1"


def signed(
    url: str = "http://localhost:8080/v1/submitjob",
    body: bytes = b'{"jobName": "j"}',
    method: str = "POST",
    secret: str = SECRET,
    service: str = "batch",
) -> Signed:
    request = AWSRequest(method, url, {"Content-Type": "application/json", "User-Agent": "Boto3  two   spaces"}, body)
    with patch("botocore.auth.get_current_datetime", return_value=NOW):
        SigV4Auth(Credentials(KEY, secret), service, "eu-west-1").add_auth(request)
    parts = urlsplit(url)
    headers = {name.lower(): value for name, value in request.headers.items()} | {"host": parts.netloc}
    return Signed(method, parts.path, parts.query, headers, body)


def check(request: Signed, *, at: float = 0.0) -> str:
    return verify(request, {KEY: SECRET}.get, NOW.timestamp() + at).key_id


def refusal(request: Signed, *, at: float = 0.0) -> tuple[str, str]:
    with pytest.raises(SignatureRefused) as raised:
        check(request, at=at)
    return raised.value.code, str(raised.value)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("POST", "http://localhost:8080/v1/describejobs", b"{}"),
        ("POST", "http://127.0.0.1/v1/submitjob", '{"jobName": "žluťoučký"}'.encode()),
        ("GET", f"http://localhost:8080{TAGS}", b""),
        ("DELETE", f"http://localhost:8080{TAGS}?tagKeys=a&tagKeys=b%20c&tagKeys=%2B", b""),
        ("POST", "http://localhost:8080/v1//submitjob/./x/../y/", b"{}"),
        ("POST", "http://[::1]:8080/", b"{}"),
    ],
)
def test_what_botocore_signs_is_taken(method: str, url: str, body: bytes) -> None:
    assert check(signed(url, body, method)) == KEY


def test_logs_are_signed_for_a_service_of_their_own() -> None:
    assert check(signed(service="logs")) == KEY
    assert refusal(signed(service="s3"))[0] == "InvalidSignatureException"


@given(st.text(max_size=20), st.text("abc/ %+~.é", max_size=12))
def test_any_query_and_path_that_botocore_signs_is_taken(value: str, path: str) -> None:
    from urllib.parse import quote

    url = f"http://localhost/v1/tags/{quote(path, safe='')}?tagKeys={quote(value.encode('utf-8', 'replace'), safe='')}"
    assert check(signed(url, b"", "GET")) == KEY


def test_every_changed_part_is_noticed() -> None:
    good = signed()
    for bad in (
        replace(good, body=b'{"jobName": "k"}'),
        replace(good, method="PUT"),
        replace(good, path="/v1/terminatejob"),
        replace(good, query="a=b"),
        replace(good, headers={**good.headers, "host": "elsewhere:8080"}),
        replace(good, headers={**good.headers, "content-type": "text/plain"}),
        signed(secret="another"),
    ):
        code, text = refusal(bad)
        assert code == "InvalidSignatureException", bad
        assert "does not match" in text


def test_an_unknown_key_is_told_apart_only_by_its_code() -> None:
    good = signed()
    header = good.headers["authorization"].replace(KEY, "fbk_nobody")
    bad = replace(good, headers={**good.headers, "authorization": header})
    assert refusal(bad)[0] == "UnrecognizedClientException"


def test_a_clock_may_be_five_minutes_off() -> None:
    assert check(signed(), at=299) == check(signed(), at=-299) == KEY
    assert "Signature expired: 20261122T160000Z" in refusal(signed(), at=301)[1]
    assert "Signature not yet current" in refusal(signed(), at=-301)[1]


def test_what_is_missing_is_named() -> None:
    good = signed()
    no_header = {name: value for name, value in good.headers.items() if name != "authorization"}
    assert refusal(replace(good, headers=no_header))[0] == "MissingAuthenticationTokenException"
    for old, new, wrong in (
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "must be AWS4-HMAC-SHA256"),
        ("host;", "", "header host must be signed"),
        (";x-amz-date", "", "header x-amz-date must be signed"),
        ("host;", "host;x-other;", "signed header x-other is missing"),
        ("Signature=", "Sign=", "needs Credential, SignedHeaders and Signature"),
        ("Credential=", "Credential=/", "does not match|invalid"),
        ("/aws4_request", "", "needs Credential"),
        ("/20261122/", "/20261121/", "not that of x-amz-date"),
    ):
        header = good.headers["authorization"].replace(old, new, 1)
        assert header != good.headers["authorization"], old
        with pytest.raises(SignatureRefused, match=wrong):
            check(replace(good, headers={**good.headers, "authorization": header}))
    with pytest.raises(SignatureRefused, match="YYYYMMDD"):
        check(replace(good, headers={**good.headers, "x-amz-date": "yesterday"}))


def test_the_parts_come_in_any_order_and_each_once() -> None:
    good = signed()
    algorithm, _, rest = good.headers["authorization"].partition(" ")
    credential, names, signature = rest.split(", ")
    for order in (
        (signature, credential, names),
        (names, signature, credential),
        (credential, names, f" {signature} "),
    ):
        header = f"{algorithm} {','.join(order)}"
        said = {**good.headers, "authorization": header}
        assert check(replace(good, headers=said)) == KEY, header
        assert signature_in(said) == signature.removeprefix("Signature="), header
    for twice in (credential, names, signature):
        header = f"{algorithm} {rest}, {twice}"
        assert "each once" in refusal(replace(good, headers={**good.headers, "authorization": header}))[1], header
    assert signature_in({}) is signature_in({"authorization": "Bearer fbk_x"}) is None


@given(st.text(max_size=120))
def test_no_header_does_more_than_be_refused(text: str) -> None:
    good = signed()
    with pytest.raises(SignatureRefused):
        check(replace(good, headers={**good.headers, "authorization": f"AWS4-HMAC-SHA256 {text}"}))

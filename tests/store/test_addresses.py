"""What people type, and what of it is refused in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.errors import InputError
from flowbatch.store.addresses import Address, parse

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("last", Address("last")),
        (" film-render ", Address("film-render")),
        ("0f8fad", Address("0f8fad")),
        (UUID, Address(UUID)),
        (UUID.upper(), Address(UUID)),
        (f"{UUID}/encode", Address(UUID, "encode")),
        ("film/render", Address("film", "render")),
        ("film/render:17", Address("film", "render", ((17, 17),))),
        ("film/render:3-8", Address("film", "render", ((3, 8),))),
        ("film/render:failed", Address("film", "render", None, True)),
        ("film/render:17#2", Address("film", "render", ((17, 17),), attempt=2)),
        ("film/render#2", Address("film", "render", attempt=2)),
        ("film/train@1#2", Address("film", "train", node="1", attempt=2)),
        ("film/train@sidecar", Address("film", "train", node="sidecar")),
        ("film/train:3@1.sidecar", Address("film", "train", ((3, 3),), node="1.sidecar")),
        (f"{UUID}:4", Address(None, UUID, ((4, 4),))),
        (f"{UUID}:4#2", Address(None, UUID, ((4, 4),), attempt=2)),
        (f"{UUID}#0", Address(None, UUID, node="0")),
    ],
)
def test_forms(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an address"),
        ("/render", "not an address"),
        ("film/", "not an address"),
        ("a/b/c", "not an address"),
        ("film:3", "children, nodes and attempts are those of a job"),
        ("film#1", "children, nodes and attempts are those of a job"),
        ("film/render:", "'' is no index"),
        ("film/render:-1", "'-1' is no index"),
        ("film/render:all", "'all' is no index"),
        ("film/render:٣", "is no index"),
        ("film/render:8-3", "did you mean 3-8"),
        ("film/render:1#0", "'0' is no attempt; it is a number from 1"),
        ("film/render:1#x", "'x' is no attempt"),
        (f"{UUID}#x", "'x' is no node"),
        ("film/train@", "after the @ stands"),
        ("film@1", "children, nodes and attempts"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


@given(st.text(st.sampled_from("ab/:#@-1 0\n9ü"), max_size=20) | st.text(max_size=20))
def test_any_text_is_an_address_or_an_input_error(text: str) -> None:
    try:
        parse(text)
    except InputError:
        pass

"""Names of things."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from flowbatch.model.ids import uuid_text


@given(st.binary(min_size=16, max_size=16))
def test_random_bytes_are_a_uuid_as_the_standard_library_writes_it(chance: bytes) -> None:
    assert uuid_text(chance) == str(uuid.UUID(bytes=chance, version=4))

"""Where secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbatch.engine.secrets import SecretMissing, resolve
from flowbatch.model.secret import SecretSource


def test_a_value_that_no_variable_can_hold_names_where_it_came_from(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing, match="printf: has a NUL character"):
        resolve(SecretSource(command=("printf", r"a\0b")))
    file = tmp_path / "token"
    file.write_bytes(b"a\0b\n")
    with pytest.raises(SecretMissing, match="token: has a NUL character"):
        resolve(SecretSource(file=str(file)))

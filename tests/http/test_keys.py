"""Keys: whole or refused, derived and never stored."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.errors import InputError
from flowbatch.http.keys import make_master, new_id, parse_token, read_master, secret_of, token

MASTER = bytes(range(32))


def test_a_token_is_its_id_and_secret() -> None:
    key_id = new_id()
    secret = secret_of(MASTER, key_id, 1)
    parsed = parse_token(token(key_id, secret))
    assert parsed is not None
    assert (parsed.id, parsed.secret) == (key_id, secret)


def test_ids_generations_and_masters_have_secrets_of_their_own() -> None:
    secrets = {
        secret_of(MASTER, "abcdefghijkl", 1),
        secret_of(MASTER, "abcdefghijkl", 2),
        secret_of(MASTER, "abcdefghijkm", 1),
        secret_of(bytes(32), "abcdefghijkl", 1),
    }
    assert len(secrets) == 4
    assert {len(secret) for secret in secrets} == {43}


@given(st.integers(0, 66), st.sampled_from("abcXYZ019-_é"))
def test_one_wrong_letter_is_noticed_without_a_look_at_any_key(at: int, letter: str) -> None:
    whole = token("abcdefghijkl", secret_of(MASTER, "abcdefghijkl", 1))
    wrong = whole[:at] + letter + whole[at + 1 :]
    assert (parse_token(wrong) is None) == (wrong != whole)


@given(st.text(max_size=90))
def test_anything_else_is_no_token(text: str) -> None:
    assert parse_token(text) is None


def test_the_master_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: read_master(path), range(16)))
    assert len(made) == 1
    assert read_master(path) in made
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["master.key"]
    assert make_master(path) in made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_master_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    read_master(path)
    path.chmod(mode)
    with pytest.raises(InputError, match="others may read the master key"):
        read_master(path)


def test_a_master_key_that_is_cut_or_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(InputError, match="5 bytes are no master key"):
        read_master(path)
    link = tmp_path / "link.key"
    link.symlink_to(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_master(link)

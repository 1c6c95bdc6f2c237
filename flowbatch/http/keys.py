"""Keys: who somebody is to the server. The secret of a key is never stored, but derived from the server's master key.

A key reads `fbk_ID_SECRETCRC` as a bearer token; for an AWS client the access key id is `fbk_ID` and the secret `SECRET`. The master
key lies in a file of its own (0600), outside the database: whoever gets hold of that alone holds no secret (security.md §2).
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from msgspec import Struct

from flowbatch.errors import InputError

PREFIX: Final = "fbk_"
ID_CHARACTERS: Final = 12
SECRET_CHARACTERS: Final = 43  # 256 bits, base64url without padding
CRC_CHARACTERS: Final = 8
MASTER_BYTES: Final = 32


class Token(Struct, frozen=True):
    """A bearer token, taken apart; whether its secret is right is another question."""

    id: str
    secret: str


def new_id() -> str:
    return base64.b32encode(secrets.token_bytes(8)).decode().lower().rstrip("=")[:ID_CHARACTERS]


@lru_cache(maxsize=4096)
def secret_of(master: bytes, key_id: str, generation: int) -> str:
    """A rotated key has the next generation, and another secret."""
    digest = hmac.digest(master, b"fbkey|%s|%d" % (key_id.encode(), generation), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def token(key_id: str, secret: str) -> str:
    return f"{PREFIX}{key_id}_{secret}{crc(key_id, secret)}"


def crc(key_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{key_id}_{secret}'.encode()):0{CRC_CHARACTERS}x}"


def parse_token(text: str) -> Token | None:
    """None where it is no key of ours, or was not copied in full."""
    rest = text.removeprefix(PREFIX)
    key_id, _, tail = rest.partition("_")
    secret, check = tail[:SECRET_CHARACTERS], tail[SECRET_CHARACTERS:]
    whole = (
        text.isascii() and text.startswith(PREFIX) and len(key_id) == ID_CHARACTERS and len(secret) == SECRET_CHARACTERS
    )
    if not whole or not hmac.compare_digest(check, crc(key_id, secret)):
        return None
    return Token(key_id, secret)


def read_master(path: Path) -> bytes:
    """The master key of a state folder, made on the first call. Raises InputError where others may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return make_master(path)
    except OSError as error:
        raise InputError(f"{path}: the master key cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if status.st_mode & 0o077:
            raise InputError(f"{path}: others may read the master key; `chmod 600` it, and rotate all keys")
        master = file.read(MASTER_BYTES + 1)
    if len(master) != MASTER_BYTES:
        raise InputError(f"{path}: {len(master)} bytes are no master key; without the right one no key is valid")
    return master


def make_master(path: Path) -> bytes:
    """Whole or not at all, also where two start at once: the first one's stays."""
    master = secrets.token_bytes(MASTER_BYTES)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(master)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return read_master(path)
    finally:
        temporary.unlink()
    return master

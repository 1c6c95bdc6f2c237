"""What the arrays of a served workflow may read: files below its own folder, and below those that the settings name.

A file is opened one folder after the other and through no link, so that nobody who may write there leads us elsewhere
(security.md §5, semantics.md 23).
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flowbatch.spec.arrays import SourceRequest

NAMES_MAX: Final = 1_000_000


def beneath(roots: Sequence[str]) -> Callable[[SourceRequest], list[str]]:
    """Reads as `run` does, but only below these absolute folders. What it returns raises OSError."""
    known = [os.path.normpath(root) for root in roots]

    def read(request: SourceRequest) -> list[str]:
        if request.kind == "glob":
            return matching(request.path, known)
        return lines(request.path, known)

    return read


def root_of(path: str, roots: Sequence[str]) -> str:
    """The one that it lies below. Raises OSError."""
    for root in sorted(roots, key=len, reverse=True):
        if path.startswith(root.rstrip("/") + "/"):
            return root
    raise OSError(
        errno.EPERM,
        "a server reads below the workflow's own folder and `allow_paths` of its settings, and nowhere else",
    )


def matching(pattern: str, roots: Sequence[str]) -> list[str]:
    """Files, in order. One that a link leads out of the folders is left out, as if it were not there."""
    plain = glob.escape  # of the roots, as `arrays` has escaped the folder of the workflow
    if not any(pattern.startswith(each.rstrip("/") + "/") for root in roots for each in (root, plain(root))):
        root_of(pattern, roots)
    real = [os.path.realpath(root).rstrip("/") + "/" for root in roots]
    found = []
    for number, name in enumerate(glob.iglob(pattern, recursive=True)):
        if number >= NAMES_MAX:
            raise OSError(errno.E2BIG, f"matches more than {NAMES_MAX:,} names")
        if os.path.realpath(name).startswith(tuple(real)) and os.path.isfile(name):
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise OSError(errno.EILSEQ, f"matches {os.fsencode(name)!r}, whose name is not UTF-8")
            found.append(name)
    return sorted(found)


def lines(path: str, roots: Sequence[str]) -> list[str]:
    from flowbatch.spec.arrays import lines_of

    return lines_of(whole(path, root_of(path, roots)))


def whole(path: str, root: str) -> bytes:
    """As much as may be read, and a byte. Raises OSError where anything between the root and the file is a link, or the file is none."""
    from flowbatch.spec.arrays import SOURCE_BYTES

    *folders, name = path.removeprefix(root.rstrip("/") + "/").split("/")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(error.errno, "leads through a link, which a server does not follow") from None
        raise
    finally:
        os.close(at)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no ordinary file")
        return file.read(SOURCE_BYTES + 1)

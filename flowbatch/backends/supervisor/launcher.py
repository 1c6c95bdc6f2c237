"""Becomes another user, then the command: `launcher.py USER PATH ARGV…`, run by root alone.

A separate process, for posix_spawn cannot change users. USER is `name`, `uid`, `name:group` or `uid:gid`. Its failures read like
a shell's: 125 where the user cannot be had, 126 where the command cannot be executed.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys


def identity(text: str) -> tuple[int, int, list[int]]:
    """The uid, the gid and the further groups of a user. Raises KeyError where there is no such one."""
    user, _, group = text.partition(":")
    if user.isdigit():
        uid = int(user)
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            entry = None  # a number needs no entry
    else:
        entry = pwd.getpwnam(user)
        uid = entry.pw_uid
    if group:
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    else:
        gid = entry.pw_gid if entry is not None else uid
    return uid, gid, os.getgrouplist(entry.pw_name, gid) if entry is not None else [gid]


def main(arguments: list[str]) -> int:
    user, path, *argv = arguments
    try:
        uid, gid, groups = identity(user)
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    except (KeyError, OSError) as error:
        sys.stderr.write(f"flowbatch: cannot become user {user!r}: {error}\n")
        return 125
    try:
        os.execv(path, argv)
    except OSError as error:
        sys.stderr.write(f"flowbatch: {argv[0]}: {error.strerror}\n")
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

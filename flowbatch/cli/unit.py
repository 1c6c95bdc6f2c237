"""The systemd unit of a server: one that ends no task with it, and keeps from it what it does not need.

What a unit forbids is forbidden to jobs that run as processes too, and what it hides is not where Docker looks for it: so no private
/tmp, no hidden /home, no private devices.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flowbatch.cli.context import Place
    from flowbatch.spec.serving import Serve

TEMPLATE: Final = """\
# flowbatch serve as a service: `flowbatch serve … --print-unit > /etc/systemd/system/flowbatch.service`, then
# `systemctl daemon-reload && systemctl enable --now flowbatch`. `systemctl reload flowbatch` reads the settings again.
[Unit]
Description=flowbatch: batch jobs on this machine
Wants=network-online.target
After=network-online.target docker.service

[Service]
Type=exec
User={user}
WorkingDirectory={folder}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
# Tasks and their supervisor outlive the server: only its own process is told to end. The next start goes on with them.
KillMode=process
TimeoutStopSec=15
Restart=on-failure
RestartSec=2
# Wrong words, a folder that is held, a store that is damaged: a restart changes nothing.
RestartPreventExitStatus=2 3 4
# A task that the kernel kills for its memory is that task's end, not ours.
OOMPolicy=continue
# Memory limits of processes are kept by control groups below our own.
Delegate=yes
TasksMax=infinity
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
ProtectSystem=full
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK

[Install]
WantedBy=multi-user.target
"""


def unit(words: Sequence[str], folder: Path) -> str:
    """`words`: of the command line behind `flowbatch`. `folder`: where it was typed, from which paths are."""
    user = pwd.getpwuid(os.geteuid())
    return TEMPLATE.format(
        user=user.pw_name,
        folder=str(folder).replace("%", "%%"),  # the one word that is read whole, quotes and all
        command=" ".join(map(quoted, (sys.executable, "-m", "flowbatch", *words))),
    )


def words_of(place: Place, given: Serve, *, insecure_folder: bool, insecure_no_auth: bool) -> list[str]:
    """The command line that says the same from anywhere."""
    words = ["--state", str(place.folder.path)]
    if place.config is not None:
        words += ["--config", str(Path(place.config).absolute())]
    words += ["serve", *(each.path for each in given.folders)]
    for flag, values in (("--listen", given.listen), ("--host-name", given.host_names)):
        for value in values:
            words += [flag, value]
    if given.tls is not None:
        words += ["--tls-cert", str(Path(given.tls[0]).absolute()), "--tls-key", str(Path(given.tls[1]).absolute())]
    for flag, said in (
        ("--behind-proxy", given.behind_proxy),
        ("--no-strict", not given.strict),
        ("--insecure-folder", insecure_folder),
        ("--insecure-no-auth", insecure_no_auth),
    ):
        words += [flag] if said else []
    for flag, text in (("--account", given.account), ("--region", given.region)):
        words += [] if text is None else [flag, text]
    return words if given.rate is None else [*words, "--rate", f"{given.rate:g}"]


def quoted(word: str) -> str:
    """As systemd reads a word: `%` and `$` mean something there, and blanks and quotes do too."""
    plain = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"' if plain != word or not plain or any(each in plain for each in " \t'") else word

"""What several containers share: one network for all multi-node jobs of a state folder, and the image of what holds a task's own.

A network of its own for each job would soon find no more addresses (D32). Nodes find each other by names that hold the job's id.
A task of several containers shares the network of one more that does nothing: whichever of them end, or come late, it stays. Its
program is written here, a few instructions, so that it needs no image from anywhere.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
from typing import TYPE_CHECKING, Final

import anyio

from flowbatch.backends.docker import names
from flowbatch.backends.docker.errors import EngineError, Kind

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api

PROGRAM: Final = "hold"
BASE: Final = 0x400000
HEADERS: Final = 64 + 56
MACHINES: Final = {  # pause() again and again; of ELF: the machine, and the code
    "amd64": (0x3E, bytes.fromhex("b8220000000f05ebf7")),
    "arm64": (
        0xB7,  # it has no pause: ppoll() of nothing, for ever
        b"".join(
            word.to_bytes(4, "little")
            for word in (0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800004, 0xD2800928, 0xD4000001, 0x17FFFFF9)
        ),
    ),
}


def holding_program(architecture: str) -> bytes:
    """A static ELF file. Raises LookupError for a machine that we have no code for."""
    machine, code = MACHINES[architecture]
    size = HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return ident + header + segment + code


def holding_tree(architecture: str) -> bytes:
    """The root file system of the image: the program alone. Raises LookupError."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        program = holding_program(architecture)
        entry = tarfile.TarInfo(PROGRAM)
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return out.getvalue()


class Networks:
    """`made`: the network is there, as far as we know."""

    def __init__(self, api: Api, instance: str) -> None:
        self._api = api
        self._instance = instance
        self._lock = anyio.Lock()
        self.name = names.network_name(instance)
        self.made = False

    async def ensure(self) -> None:
        """Raises EngineError."""
        async with self._lock:
            if self.made:
                return
            labels = {names.INSTANCE: self._instance}
            if not await self._ours():
                try:
                    await self._api.create_network(self.name, labels)
                except EngineError as error:
                    if error.kind is not Kind.CONFLICT:
                        raise
                    if not await self._ours():
                        text = (
                            f"the network {self.name}, which is not flowbatch's, is there already: remove or rename it"
                        )
                        raise EngineError(Kind.REFUSED, text) from None
            self.made = True

    async def _ours(self) -> bool:
        found = await self._api.networks([f"{names.INSTANCE}={self._instance}"])
        return any(each["Name"] == self.name for each in found)

    async def drop(self) -> None:
        """Nothing where somebody is still in it: the next engine, or `gc`, sees to it."""
        async with self._lock:
            if self.made and await removed(self._api, self.name):
                self.made = False

    async def make_holder(self, image: str) -> str | None:
        """What went wrong."""
        architecture = str(self._api.version.get("Arch", ""))
        try:
            tree = holding_tree(architecture)
        except LookupError:
            return f"several containers can share a network on amd64 and arm64, and the Engine's machine is {architecture!r}"
        try:
            await self._api.import_image(image, tree, f"CMD {json.dumps([f'/{PROGRAM}'])}")
        except EngineError as error:
            if error.kind is Kind.UNKNOWN:
                raise
            return error.message
        return None


async def removed(api: Api, name: str) -> bool:
    try:
        await api.remove_network(name)
    except EngineError as error:
        return error.kind is Kind.NOT_FOUND
    return True


async def sweep_networks(api: Api, instance: str) -> None:
    """Those that nobody is in."""
    for network in await api.networks([f"{names.INSTANCE}={instance}"]):
        await removed(api, network["Name"])

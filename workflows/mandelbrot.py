"""The tasks of mandelbrot.yaml: `tile` computes a band of rows, `join` makes a PNG of all bands. Standard library only."""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from pathlib import Path

PARAM = "FLOWBATCH_PARAM_"
WIDTH, HEIGHT = int(os.environ[PARAM + "WIDTH"]), int(os.environ[PARAM + "HEIGHT"])
TILES, DEPTH = int(os.environ[PARAM + "TILES"]), int(os.environ[PARAM + "DEPTH"])
FOLDER = Path(os.environ["FLOWBATCH_RUN_DIR"])


def colour(c: complex) -> bytes:
    """Black inside the set; outside, a smooth palette by how soon the orbit escapes."""
    z = 0j
    for step in range(DEPTH):
        z = z * z + c
        if z.real * z.real + z.imag * z.imag > 256.0:
            smooth = step + 1 - math.log2(math.log(abs(z)))
            angle = 0.55 * math.sqrt(max(smooth, 0.0))
            return bytes(int(127.5 - 127.5 * math.cos(angle + shift)) for shift in (3.3, 3.9, 4.6))
    return b"\0\0\0"


def tile(index: int) -> None:
    real, imaginary = (float(part) for part in os.environ[PARAM + "CENTRE"].split(","))
    span = 3.0 / float(os.environ[PARAM + "ZOOM"])
    step = span / WIDTH
    first, last = index * HEIGHT // TILES, (index + 1) * HEIGHT // TILES
    rows = bytearray()
    for y in range(first, last):
        rows.append(0)  # PNG: this row has no filter
        at = imaginary + (HEIGHT / 2 - y) * step
        for x in range(WIDTH):
            rows += colour(complex(real + (x - WIDTH / 2) * step, at))
    path = FOLDER / f"tile-{index:04d}"
    path.with_suffix(".part").write_bytes(rows)
    path.with_suffix(".part").rename(path)  # whole or not at all, should this attempt be stopped
    print(f"rows {first} to {last - 1}")


def join() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join((FOLDER / f"tile-{index:04d}").read_bytes() for index in range(TILES))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    out = Path(os.environ[PARAM + "OUT"])
    out.write_bytes(image)
    print(f"{out.absolute()}: {WIDTH} by {HEIGHT}, {len(image) // 1024} KiB")


if __name__ == "__main__":
    if sys.argv[1] == "tile":
        tile(int(os.environ["AWS_BATCH_JOB_ARRAY_INDEX"]))
    else:
        join()

"""How many children a job has, and what each of them is given."""

from __future__ import annotations

import codecs
import errno
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from flowbatch.errors import Problem
from flowbatch.spec.findings import Findings
from flowbatch.spec.needs import Draft
from flowbatch.spec.places import Surroundings
from flowbatch.spec.positions import Path
from flowbatch.spec.quantities import span
from flowbatch.spec.scalars import shown, text_of
from flowbatch.spec.schema_parts import CHILDREN_MAX, ArrayModel
from flowbatch.spec.yaml import SCALAR_MAX

SOURCE_BYTES: Final = 16 << 20
ITEMS_MAX: Final = 1_000_000
ITEM_TEXT_MAX: Final = 32 << 20  # characters of all items of a job

Item = str | dict[str, str]
_SOURCES: Final = ("size", "lines", "glob", "items", "matrix")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def lines_of(data: bytes) -> list[str]:
    """What a file of items holds, whoever reads it. A line ends with a newline, and with nothing else. Raises OSError where the file is too
    large, is no text, or has a line that no program could be passed."""
    if len(data) > SOURCE_BYTES:
        raise OSError(errno.EFBIG, f"is larger than {SOURCE_BYTES // 1024 // 1024} MiB")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"is not UTF-8 (byte {error.start})") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if len(line) > SCALAR_MAX:
            said = f"has {len(line):,} characters in line {number}; at most {SCALAR_MAX:,} are passed to a program"
            raise OSError(errno.E2BIG, said)
    return lines


class SourceRequest(Struct, frozen=True):
    """Asks the caller to read an array's source: the lines of a file, or the sorted paths that a pattern matches."""

    job: str
    kind: str  # lines | glob
    path: str  # absolute
    position: Problem  # where the file asks for it, with an empty message


ReadSource = Callable[[SourceRequest], list[str]]


class Children(Struct, frozen=True):
    size: int | None = None  # None: a single
    items: tuple[Item, ...] = ()
    chunk: int = 1
    tolerate: int = 0
    max_running: int | None = None
    sequential: bool = False


SINGLE: Final = Children()


class Sizer:
    """Called job by job, each after what it needs."""

    def __init__(self, around: Surroundings, read_source: ReadSource, findings: Findings) -> None:
        self.around = around
        self.read_source = read_source
        self.findings = findings
        self.sizes: dict[str, Children | None] = {}  # None: could not be told, and was reported

    def size(self, draft: Draft) -> Children | None:
        each = [edge for edge in draft.edges if edge.each]
        if draft.layer.array is None and not each and draft.layer.chunk is None and not draft.sequential:
            children: Children | None = SINGLE
        else:
            children = self._array(draft, draft.layer.array or ArrayModel(), inherits=bool(each))
        if draft.broken and children is SINGLE:
            children = None  # it may have been meant as an array
        self.sizes[draft.key] = children
        return children

    def _array(self, draft: Draft, array: ArrayModel, *, inherits: bool) -> Children | None:
        findings, layer = self.findings, draft.layer
        sources = [name for name in _SOURCES if getattr(array, name) is not None]
        path = findings.positions.first(layer.paths("array", "arrayProperties"))
        if len(sources) > 1:
            findings.problem(
                (*path, sources[1]), f"says the same as {sources[0]!r}; an array has one source", at_key=True
            )
            return None
        if array.chunk is not None and layer.chunk is not None:
            findings.problem(layer.paths("chunk")[0], "says the same as 'array.chunk'; give one of them", at_key=True)
        if not sources and not inherits:
            if draft.broken:
                return None
            if layer.array is not None:
                findings.problem(path, "gives no children: a size, lines, glob, items or matrix is needed")
            elif draft.sequential:
                findings.problem(
                    draft.need_path(findings, 0)[:-1], "SEQUENTIAL orders the children of an array; this job is none"
                )
            else:
                findings.problem(layer.paths("chunk")[0], "groups the items of an array; this job is none", at_key=True)
            return None
        chunk = array.chunk or layer.chunk or 1
        items: tuple[Item, ...] = ()
        size: int | None = None
        if sources:
            found = self._source(draft, array, sources[0], (*path, sources[0]), chunk)
            if found is None:
                return None
            size, items = found
        return self._inherited(draft, array, size, items, chunk)

    def _inherited(
        self, draft: Draft, array: ArrayModel, size: int | None, items: tuple[Item, ...], chunk: int
    ) -> Children | None:
        """The size and the tolerance that `each` brings, against its own."""
        tolerate = 0
        giver = "" if size is None else "it"
        for edge in draft.edges:
            if not edge.each:
                continue
            needed = self.sizes.get(edge.key)
            if needed is None:
                return None
            path = draft.need_path(self.findings, edge.index)
            if needed.size is None:
                self.findings.problem(
                    path, f"each waits index by index, and {edge.key!r} is a single job; write {edge.key} alone"
                )
                return None
            if size is None:
                size, giver = needed.size, edge.key
            elif size != needed.size:
                self.findings.problem(
                    path,
                    f"each waits index by index: {edge.key!r} has {needed.size:,} children, {giver} has {size:,}; "
                    f"leave this job's own size out to take it over, or wait for the whole of {edge.key!r}",
                )
                return None
            tolerate = max(tolerate, needed.tolerate)
        assert size is not None
        if array.tolerate is not None:
            tolerate = math.floor(size * array.tolerate) if isinstance(array.tolerate, Fraction) else array.tolerate
        return Children(size, items, chunk, tolerate, array.max_running, draft.sequential or bool(array.sequential))

    # --- sources

    def _source(
        self, draft: Draft, array: ArrayModel, source: str, path: Path, chunk: int
    ) -> tuple[int, tuple[Item, ...]] | None:
        """The number of children, and the items behind them."""
        if source == "size":
            assert array.size is not None
            if chunk == 1:
                return (array.size, ()) if self._bounded(array.size, 1, path) else None
            count: int | None = array.size
        elif source == "matrix":
            assert array.matrix is not None
            axes = _axes(array.matrix, path, self.findings)
            count = None if axes is None else math.prod(len(values) for values in axes.values())
        else:
            axes, count = None, 0
        if count is None or not self._bounded(count, chunk, path):
            return None
        items: list[Item] | None
        if source == "size":
            items = [str(index) for index in range(count)]
        elif source == "matrix":
            assert axes is not None
            items = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        elif source == "items":
            items = _items(array.items or [], path, self.findings)
        else:
            items = self._read(draft, array, source, path)
        if items is None or not self._bounded(len(items), chunk, path):
            return None
        if source != "size" and not self._readable(
            axes.values() if axes is not None else [items], len(items), chunk, path
        ):
            return None
        return math.ceil(len(items) / chunk), tuple(items)

    def _read(self, draft: Draft, array: ArrayModel, source: str, path: Path) -> list[Item] | None:
        written = str(array.lines if source == "lines" else array.glob)
        folder = self.around.folder
        if source == "glob":
            folder = re.sub(r"([*?\[])", r"[\1]", folder)  # only what the file's author wrote is a pattern
        place = replace(self.around, folder=folder).absolute(written)
        try:
            found = self.read_source(SourceRequest(draft.key, source, place, self.findings.positions.problem(path, "")))
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self.findings.problem(path, f"{place} cannot be read: {reason or error}")
            return None
        if source == "lines":
            found = [line.rstrip("\r\n") for line in found if line.strip()]
        elif not written.startswith(("/", "~")) and draft.layer.workdir is None:
            prefix = self.around.folder.rstrip("/") + "/"  # as a shell in the job's folder would have it
            found = [place.removeprefix(prefix) for place in found]
        if not found:
            self.findings.warn(path, "gives no children; the job will succeed without doing anything")
        return [*found]

    def _bounded(self, count: int, chunk: int, path: Path) -> bool:
        children = math.ceil(count / chunk)
        if children > CHILDREN_MAX:
            least = math.ceil(count / CHILDREN_MAX)
            hint = f"with `chunk: {least}` each child takes {least:,} of them"
            self.findings.problem(path, f"{children:,} children; an array has at most {CHILDREN_MAX:,} ({hint})")
        elif chunk > 1 and count > ITEMS_MAX:
            self.findings.problem(path, f"{count:,} items; at most {ITEMS_MAX:,} are taken")
        else:
            return True
        return False

    def _readable(self, columns: Iterable[Sequence[Item]], count: int, chunk: int, path: Path) -> bool:
        """A matrix is judged by its axes, each value of which comes back in many items."""
        characters = 0
        for column in columns:
            text = "".join("".join(item.values()) if isinstance(item, dict) else item for item in column)
            characters += len(text) * count // max(1, len(column))
            if chunk > 1 and "\n" in text:
                self.findings.problem(path, "an item holds a line end; with `chunk` each item is a line of a file")
                return False
            if "\0" in text:
                self.findings.problem(path, "an item holds a NUL character, which cannot be passed to a program")
                return False
        if characters > ITEM_TEXT_MAX:
            self.findings.problem(path, f"the items have more than {ITEM_TEXT_MAX:,} characters together")
            return False
        return True


def _axes(matrix: Mapping[str, object], path: Path, findings: Findings) -> dict[str, list[str]] | None:
    """The values of each key, as text; ranges are bounded before they are written out."""
    axes: dict[str, list[str]] = {}
    before = len(findings.problems)
    if not matrix:
        findings.problem(path, "is empty; write {key: [values]}")
    _distinct(matrix, path, findings)
    for key, written in matrix.items():
        if isinstance(written, list):
            values = [_item_text(value, (*path, key, index), findings) for index, value in enumerate(written)]
        elif isinstance(written, str) and (whole := span(written)) is not None:
            if len(whole) > ITEMS_MAX:
                findings.problem((*path, key), f"{written} has {len(whole):,} values; at most {ITEMS_MAX:,} are taken")
                continue
            values = [str(number) for number in whole]
        else:
            values = [_item_text(written, (*path, key), findings)]
        axes[key] = values
    return axes if len(findings.problems) == before else None


def _items(written: list[object], path: Path, findings: Findings) -> list[Item] | None:
    items: list[Item] = []
    before = len(findings.problems)
    for index, item in enumerate(written):
        at = (*path, index)
        if isinstance(item, dict):
            _distinct(item, at, findings)
            items.append({key: _item_text(value, (*at, key), findings) for key, value in item.items()})
        else:
            items.append(_item_text(item, at, findings))
    return items if len(findings.problems) == before else None


def _item_text(value: object, path: Path, findings: Findings) -> str:
    if isinstance(value, str | int | float):
        return text_of(value)
    findings.problem(path, f"one value is needed, found {shown(value)}")
    return ""


def _distinct(mapping: Mapping[str, object], path: Path, findings: Findings) -> None:
    """Each key becomes FLOWBATCH_ITEM_<KEY>."""
    variables: dict[str, str] = {}
    for key in mapping:
        other = variables.setdefault(key.upper().replace("-", "_"), key)
        if not _NAME.fullmatch(key):
            findings.problem(
                (*path, key), f"{shown(key)} is not a name; names have letters, digits, `_` or `-`", at_key=True
            )
        elif other != key:
            findings.problem((*path, key), f"would share its variable with {other!r}", at_key=True)

"""Our own loader over libyaml's event stream: values, and where each of them stands.

PyYAML's constructors are not used: they recurse on input (100,000 brackets end the interpreter), take duplicate keys
silently, resolve YAML 1.1 (`no` is False) and expand aliases without a bound. Here the stream is read one event at a
time with an explicit stack, and given up *while reading* once a limit is passed: libyaml's scanner is quadratic in the
depth of nesting, so an answer after the last bracket would come too late.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from flowbatch.errors import Problem, WorkflowInvalid
from flowbatch.spec.positions import NOWHERE, Mark, Path, Positions, Spot, column_of, dotted, in_order, line_of, spot
from flowbatch.spec.scalars import PLAIN_FIRST, resolve

BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 32
NODES_MAX: Final = 200_000
ALIASES_MAX: Final = 2_000
SCALAR_MAX: Final = 1 << 16
PROBLEMS_MAX: Final = 100

_SCALAR_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str"})
_CONTAINER_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_MERGE: Final = "<<"
_UNCLOSED: Final = "found unexpected end of stream"
_COMPLAINTS: Final = {
    "found character that cannot start any token": "a value cannot begin with this character; "
    "put the value in quotes, and indent with spaces, not tabs",
    "mapping values are not allowed in this context": "a `:` where no key can stand; "
    "indent as the lines around it, or put a value that contains `: ` in quotes",
    "could not find expected ':'": "a `key: value` was expected here; is a `:` missing?",
    "did not find expected key": "a key was expected here; look at the indentation and at the line before",
    "did not find expected '-' indicator": "a `- ` was expected here; the items of a list are indented alike",
    "did not find expected ',' or ']'": "a `,` or `]` is missing before this",
    "did not find expected ',' or '}'": "a `,` or `}` is missing before this",
    _UNCLOSED: "the quote that opens here is never closed",
    "did not find expected <document start>": "the text before this already ended; "
    "a workflow file is one mapping of keys such as `jobs:`",
    "did not find expected node content": "a value is missing here",
}


class _Frame:
    """A mapping or list that has begun and not ended."""

    __slots__ = ("anchor", "before", "begun", "height", "items", "key", "keys", "mapping", "merged", "places", "spots")

    def __init__(self, is_mapping: bool, anchor: str | None, begun: Spot, before: int) -> None:
        self.mapping: dict[str, object] | None = {} if is_mapping else None
        self.anchor = anchor
        self.begun = begun
        self.before = before  # nodes counted when it began
        self.height = 0  # of what it holds, aliases followed
        self.key: str | None = None  # the one whose value comes next
        self.merged: dict[str, object] | None = None  # the value of `<<`
        if is_mapping:
            self.keys: dict[str, Spot] = {}
            self.spots: dict[str, Spot] = {}
        else:
            self.items: list[object] = []
            self.places: list[Spot] = []


class _Anchored(NamedTuple):
    value: object
    nodes: int
    height: int


class _GivenUp(Exception):
    """Reading on is useless or dangerous; the problem is recorded."""


def load(text: bytes, file: str) -> Positions:
    """The file's one document is `.root`. Raises WorkflowInvalid."""
    positions = read(text, file)
    if positions.problems:
        raise WorkflowInvalid(in_order(positions.problems))
    return positions


def read(text: bytes, file: str) -> Positions:
    """As `load`, but what is wrong with single keys and values is left in `.problems`, for whoever looks for more.

    Raises WorkflowInvalid where there is no sense in reading on.
    """
    loader = _Loader(file)
    try:
        loader.read(loader.decode(text))
    except _GivenUp:
        raise WorkflowInvalid(in_order(loader.problems)) from None
    loader.positions.problems = loader.problems
    return loader.positions


class _Loader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.positions = Positions(file)
        self.stack: list[_Frame] = []
        self.anchors: dict[str, _Anchored | None] = {}  # None: not ended yet
        self.nodes = 0
        self.aliases = 0

    def decode(self, text: bytes) -> str:
        if len(text) > BYTES_MAX:
            self.give_up(NOWHERE, f"the file has more than {BYTES_MAX:,} bytes, the most that are read")
        try:
            return text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            good = text[: error.start]
            column = len(good[good.rfind(b"\n") + 1 :].decode("utf-8", "replace"))
            where = spot(good.count(b"\n"), column)
            self.give_up(where, f"byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8")

    def read(self, text: str) -> None:
        parser = yaml.CSafeLoader(text)
        documents = 0
        try:
            while (event := parser.get_event()) is not None:
                if type(event) is ScalarEvent:
                    self.scalar(event)
                elif type(event) is MappingStartEvent or type(event) is SequenceStartEvent:
                    self.begin(event, type(event) is MappingStartEvent)
                elif type(event) is MappingEndEvent or type(event) is SequenceEndEvent:
                    self.end()
                elif type(event) is AliasEvent:
                    self.alias(event)
                elif type(event) is DocumentStartEvent:
                    documents += 1
                    if documents > 1:
                        self.give_up(_spot(event.start_mark), "a second document begins here; a file holds one")
        except yaml.YAMLError as error:
            self.give_up(*_explained(error, text))
        finally:
            parser.dispose()

    # --- events

    def scalar(self, event: ScalarEvent) -> None:
        text: str = event.value
        mark = event.start_mark
        assert mark is not None
        where = spot(mark.line, mark.column)
        self.nodes += 1
        plain = not event.style and event.tag is None
        if not plain or len(text) > SCALAR_MAX or self.nodes > NODES_MAX:
            self.inspect(event, where)
        value: object = text
        if plain and text[:1] in PLAIN_FIRST:
            try:
                value = resolve(text)
            except ValueError as error:
                self.refuse(where, str(error))
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, 1, 0)
        if not self.stack:
            self.put(value, where, 0)
            return
        frame = self.stack[-1]
        if frame.mapping is None:
            frame.items.append(value)
            frame.places.append(where)
        elif frame.key is None:
            if value is not text:
                self.refuse(where, f"a key must be text; write it in quotes: '{text}'" if text else "a key is missing")
            self.key(frame, text, where)
        elif frame.key != _MERGE:
            frame.mapping[frame.key] = value
            frame.spots[frame.key] = where
            frame.key = None
        else:
            self.put(value, where, 0)

    def inspect(self, event: ScalarEvent, where: Spot) -> None:
        text = event.value
        self.count(0, where)
        if len(text) > SCALAR_MAX:
            self.give_up(where, f"a value of {len(text):,} characters; at most {SCALAR_MAX:,} are taken")
        if event.tag not in _SCALAR_TAGS:
            self.refuse(where, f"the tag {_short(event.tag)} is not supported; leave it out")
        if "\0" in text:
            self.refuse(where, "a NUL character cannot be passed to a program; leave it out")

    def begin(self, event: MappingStartEvent | SequenceStartEvent, is_mapping: bool) -> None:
        where = _spot(event.start_mark)
        self.count(1, where)
        if event.tag not in _CONTAINER_TAGS:
            self.refuse(where, f"the tag {_short(event.tag)} is not supported; leave it out")
        if len(self.stack) >= DEPTH_MAX:
            self.give_up(where, f"nested more than {DEPTH_MAX} deep")
        if self.stack and self.stack[-1].mapping is not None and self.stack[-1].key is None:
            self.give_up(where, "a key must be text, not a list or a mapping; put quotes around `{` or `[`")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Frame(is_mapping, event.anchor, where, self.nodes))

    def end(self) -> None:
        frame = self.stack.pop()
        value: object
        if frame.mapping is None:
            value = frame.items
            self.positions.values[id(value)] = frame.places
        else:
            value = frame.mapping
            if frame.merged is not None:
                self.merge(frame, frame.merged)
            self.positions.keys[id(value)] = frame.keys
            self.positions.values[id(value)] = frame.spots
        if frame.anchor is not None:
            self.anchors[frame.anchor] = _Anchored(value, self.nodes - frame.before + 1, frame.height + 1)
        self.put(value, frame.begun, frame.height + 1)

    def merge(self, frame: _Frame, merged: dict[str, object]) -> None:
        assert frame.mapping is not None
        keys, spots = self.positions.keys[id(merged)], self.positions.values[id(merged)]
        assert isinstance(spots, dict)
        for name, value in merged.items():
            if name not in frame.mapping:
                frame.mapping[name] = value
                frame.keys[name], frame.spots[name] = keys[name], spots[name]

    def alias(self, event: AliasEvent) -> None:
        name, where = event.anchor, _spot(event.start_mark)
        self.aliases += 1
        if self.aliases > ALIASES_MAX:
            self.give_up(where, f"more than {ALIASES_MAX:,} aliases")
        if name not in self.anchors:
            self.give_up(where, f"the alias *{name} has no anchor &{name} before it")
        anchored = self.anchors[name]
        if anchored is None:
            self.give_up(where, f"the alias *{name} stands inside its own anchor: it would never end")
        self.count(anchored.nodes, where)
        if len(self.stack) + anchored.height > DEPTH_MAX:
            self.give_up(where, f"nested more than {DEPTH_MAX} deep, once *{name} is expanded")
        frame = self.stack[-1] if self.stack else None
        if frame is not None and frame.mapping is not None and frame.key is None:
            if not isinstance(anchored.value, str):
                self.give_up(where, "a key must be text; this alias is none")
            self.key(frame, anchored.value, where)
        else:
            self.put(anchored.value, where, anchored.height)

    # --- placing

    def key(self, frame: _Frame, text: str, where: Spot) -> None:
        frame.key = text
        if text in frame.keys:
            self.refuse(
                where, f"the key {_short(text)} is written twice; the first is in line {line_of(frame.keys[text])}"
            )
        frame.keys[text] = where

    def put(self, value: object, where: Spot, height: int) -> None:
        if not self.stack:
            self.positions.root, self.positions.start = value, where
            return
        frame = self.stack[-1]
        frame.height = max(frame.height, height)
        if frame.mapping is None:
            frame.items.append(value)
            frame.places.append(where)
        elif frame.key == _MERGE:
            frame.key = None
            if isinstance(value, dict):
                frame.merged = value
            else:
                self.refuse(where, "`<<` merges one mapping; this is none")
        elif frame.key is not None:
            frame.mapping[frame.key] = value
            frame.spots[frame.key] = where
            frame.key = None

    # --- refusing

    def count(self, nodes: int, where: Spot) -> None:
        self.nodes += nodes
        if self.nodes > NODES_MAX:
            self.give_up(where, f"more than {NODES_MAX:,} values, aliases expanded")

    def refuse(self, where: Spot, message: str) -> None:
        """Recorded; reading goes on, for the sake of what else is wrong."""
        steps = [len(frame.items) if frame.mapping is None else frame.key for frame in self.stack]
        path: Path = tuple(step for step in steps if step is not None)
        self.problems.append(Problem(self.file, line_of(where), column_of(where), dotted(path), message))
        if len(self.problems) >= PROBLEMS_MAX:
            raise _GivenUp

    def give_up(self, where: Spot, message: str) -> NoReturn:
        self.problems.append(Problem(self.file, line_of(where), column_of(where), "", message))
        raise _GivenUp


def _spot(mark: Mark | None) -> Spot:
    return NOWHERE if mark is None else spot(mark.line, mark.column)


def _short(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 60 else text[:57] + "…")


def _explained(error: yaml.YAMLError, text: str) -> tuple[Spot, str]:
    """libyaml's complaint in our words, where it has one that people meet often."""
    if isinstance(error, yaml.reader.ReaderError):
        return _control(text), "a control character; YAML allows only tabs and line ends: remove it"
    if not isinstance(error, yaml.MarkedYAMLError):
        return NOWHERE, f"this is not YAML: {error}"
    where = _spot(error.problem_mark or error.context_mark)
    said = error.problem or error.context or "it cannot be read"
    if _UNCLOSED in said:
        where = _spot(error.context_mark or error.problem_mark)
    for words, message in _COMPLAINTS.items():
        if words in said:
            return where, message
    return where, f"this is not YAML: {said}" + (f" ({error.context})" if error.context and error.problem else "")


def _control(text: str) -> Spot:
    """libyaml counts this position in bytes of its own buffer; found again here."""
    for line, content in enumerate(text.split("\n")):
        for column, character in enumerate(content):
            if not (character in "\t\r\x85" or " " <= character <= "~" or character >= "\xa0"):
                return spot(line, column)
    return NOWHERE

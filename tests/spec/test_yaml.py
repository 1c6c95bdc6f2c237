from __future__ import annotations

import time

import pytest

from flowbatch.errors import WorkflowInvalid
from flowbatch.spec.scalars import text_of
from flowbatch.spec.yaml import ALIASES_MAX, BYTES_MAX, load


def value(text: str) -> object:
    return load(text.encode(), "f").root


def said(text: str | bytes) -> list[str]:
    with pytest.raises(WorkflowInvalid) as caught:
        load(text.encode() if isinstance(text, str) else text, "f")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("2020-01-01", "2020-01-01"),
        ("0777", 777),
        ("+5", 5),
        ("-5", -5),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1.2.3", "1.2.3"),
        ("9223372036854775807", 2**63 - 1),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("=", "="),
        ("[1, [two], {three: 3}]", [1, ["two"], {"three": 3}]),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_the_core_schema(written: str, meant: object) -> None:
    found = value(f"k: {written}")
    assert found == {"k": meant}
    assert isinstance(found, dict)
    assert isinstance(found["k"], bool) == isinstance(meant, bool)


@pytest.mark.parametrize("written", ["1.10", "0022", "+7", "1e3", "3", "0.5"])
def test_a_number_keeps_its_text(written: str) -> None:
    found = value(f"k: {written}")
    assert isinstance(found, dict)
    assert text_of(found["k"]) == written


def test_positions_of_keys_and_values() -> None:
    positions = load(b"a:\n  - x\n  - bc: {d: 1}\n", "f")
    assert str(positions.problem(("a", 1, "bc", "d"), "m")) == "f:3:13: a[1].bc.d: m"
    assert str(positions.problem(("a", 1, "bc", "d"), "m", at_key=True)) == "f:3:10: a[1].bc.d: m"
    assert str(positions.problem(("a", 7, "no"), "m")) == "f:2:3: a: m"
    assert str(positions.problem((), "m")) == "f:1:1: m"


def test_positions_count_characters_not_bytes() -> None:
    assert said("é: [ü, ")[0].startswith("f:2:1:") or said("é: [ü, ")[0].startswith("f:1:")
    assert str(load("é: {ü: 1}".encode(), "f").problem(("é", "ü"), "m")) == "f:1:8: é.ü: m"


def test_a_byte_order_mark_is_no_content() -> None:
    assert value("\ufeffa: 1") == {"a": 1}


def test_merges_put_a_mapping_under_another() -> None:
    text = "base: &b {x: 1, y: 2}\nmine: {y: 3, <<: *b, z: 4}\ninline: {<<: {q: 1}}\nquoted: {'<<': 5}"
    found = value(text.replace("quoted: {'<<': 5}", ""))
    assert found == {"base": {"x": 1, "y": 2}, "mine": {"x": 1, "y": 3, "z": 4}, "inline": {"q": 1}}
    positions = load(b"base: &b {x: 1}\nmine: {<<: *b}", "f")
    assert str(positions.problem(("mine", "x"), "m")) == "f:1:14: mine.x: m"


def test_an_alias_of_a_scalar_may_be_a_key() -> None:
    assert value("a: &k word\nb: {*k : 1}") == {"a": "word", "b": {"word": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1: a: the key 'a' is written twice; the first is in line 1"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "f:1:17: a.<<: the key '<<' is written twice; the first is in line 1"),
        ("3: x", "f:1:1: a key must be text; write it in quotes: '3'"),
        ("true: x", "f:1:1: a key must be text; write it in quotes: 'true'"),
        ("? [a]\n: b", "f:1:3: a key must be text, not a list or a mapping; put quotes around `{` or `[`"),
        ("{a: {{ x }}}", "f:1:6: a key must be text, not a list or a mapping; put quotes around `{` or `[`"),
        (
            "a: !!python/name:os.system x",
            "f:1:4: a: the tag 'tag:yaml.org,2002:python/name:os.system' is not supported",
        ),
        ("a: !mine {b: 1}", "f:1:4: a: the tag '!mine' is not supported; leave it out"),
        ("a: !!binary aGk=", "f:1:4: a: the tag 'tag:yaml.org,2002:binary' is not supported; leave it out"),
        ("a: 1\n---\nb: 2", "f:2:1: a second document begins here; a file holds one"),
        ("&a [*a]", "f:1:5: the alias *a stands inside its own anchor: it would never end"),
        ("a: *b", "f:1:4: the alias *b has no anchor &b before it"),
        ("a: {<<: [{b: 1}]}", "f:1:9: a: `<<` merges one mapping; this is none"),
        (
            "a: 9223372036854775808",
            "f:1:4: a: a whole number must fit 64 bits; put it in quotes if it is meant as text",
        ),
        ("a: " + "9" * 5000, "f:1:4: a: a whole number must fit 64 bits"),
        ("a: 1e999", "f:1:4: a: the number is too large; put it in quotes if it is meant as text"),
        ('a: "x\\0y"', "f:1:4: a: a NUL character cannot be passed to a program; leave it out"),
        ("a:\n\tc: 1", "f:2:1: a value cannot begin with this character; put the value in quotes, and indent with"),
        ("a: b: c", "f:1:5: a `:` where no key can stand; indent as the lines around it"),
        ("a: [1, 2", "f:2:1: a `,` or `]` is missing before this"),
        ("a: 'x", "f:1:4: the quote that opens here is never closed"),
        ("a: \x07", "f:1:4: a control character; YAML allows only tabs and line ends: remove it"),
        (b"ok: 1\nab\xff: 2", "f:2:3: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: b".encode("utf-16"), "f:1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
    ],
)
def test_refused(text: str | bytes, message: str) -> None:
    assert said(text)[0].startswith(message)


def test_reading_goes_on_after_what_can_be_passed_over() -> None:
    assert [line.split(": ")[0] for line in said("a: !x 1\na: 2\n3: 4\nb: 1e999")] == [
        "f:1:4",
        "f:2:1",
        "f:3:1",
        "f:4:4",
    ]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merge_bomb(levels: int) -> str:
    lines = ["m0: &m0 {a: 1, b: 2, c: 3}"]
    for n in range(1, levels):
        inside = ", ".join(f"k{i}: {{<<: *m{n - 1}}}" for i in range(9))
        lines += [f"m{n}: &m{n} {{{inside}}}"]
    return "\n".join(lines)


def tower(height: int) -> str:
    """Each line one level deeper than the one before, by aliases alone."""
    return "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, height))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * BYTES_MAX, "f:1:33: nested more than 32 deep"),
        ("{a: " * (BYTES_MAX // 4), "f:1:129: nested more than 32 deep"),
        ("- " * (BYTES_MAX // 2), "f:1:65: nested more than 32 deep"),
        ("? " * (BYTES_MAX // 2), "f:1:3: a key must be text"),
        ("{" * BYTES_MAX, "f:1:2: a key must be text"),
        ("a: " + "x" * 70_000, "f:1:4: a value of 70,000 characters; at most 65,536 are taken"),
        ("x" * (BYTES_MAX + 1), "f: the file has more than 1,048,576 bytes, the most that are read"),
        (bomb(9), "f:6:15: more than 200,000 values, aliases expanded"),
        (merge_bomb(9), "f:6:34: more than 200,000 values, aliases expanded"),
        (tower(40), "f:32:12: nested more than 32 deep, once *a30 is expanded"),
        ("a: &a x\nb: [" + "*a, " * (ALIASES_MAX + 1) + "]", f"f:2:{5 + 4 * ALIASES_MAX}: more than 2,000 aliases"),
        ("a: 1\n" * 100_000, "f:2:1: a: the key 'a' is written twice; the first is in line 1"),
    ],
    ids=["[", "{a:", "-", "?", "{", "scalar", "file", "laughs", "merges", "tower", "aliases", "duplicates"],
)
def test_what_would_hurt_is_given_up_while_reading(text: str, message: str) -> None:
    begun = time.process_time()
    found = said(text)
    assert time.process_time() - begun < 0.2
    assert found[0].startswith(message)
    assert len(found) <= 100


@pytest.mark.slow
def test_the_worst_that_fits_the_limits_ends() -> None:
    assert said("[" + "[]," * 340_000)[0].endswith("more than 200,000 values, aliases expanded")

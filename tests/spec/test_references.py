from __future__ import annotations

import subprocess
import sys

from flowbatch.spec.references import expand_status, refs_in, substitute_refs


def test_the_longest_name_anywhere_in_an_element() -> None:
    command = ("s3://Ref::bucket/Ref::key.gz", "Ref::key", "plain", "Ref::key-Ref::key_2", "Ref::")
    parameters = {"bucket": "b", "key": "k", "key-Ref": "never", "key_2": "two"}
    assert substitute_refs(command, parameters) == ("s3://b/k.gz", "k", "plain", "never::key_2", "Ref::")


def test_what_has_no_value_stays_and_values_are_not_searched() -> None:
    assert substitute_refs(("Ref::a", "Ref::b"), {"a": "Ref::b"}) == ("Ref::b", "Ref::b")
    assert substitute_refs((), {"a": "1"}) == ()


def test_names_of_placeholders() -> None:
    assert [*refs_in(("Ref::a/Ref::b", "x", "Ref::a"))] == ["a", "b", "a"]


def test_the_status_at_the_end() -> None:
    assert expand_status("it ${{ run.status }}, ${{ run.status }}", "FAILED") == "it FAILED, FAILED"


def test_the_engine_pays_for_neither_pydantic_nor_yaml() -> None:
    code = "import sys, flowbatch.spec.references; print(*[m for m in ('pydantic', 'yaml') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""

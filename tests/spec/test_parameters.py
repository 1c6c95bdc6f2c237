from __future__ import annotations

import pytest

from flowbatch.store.plans import job_json, job_plan, run_json, run_plan
from tests.spec.building import compiled, problems, specs

TYPED = """
params:
  shot: {type: string, pattern: 'sq\\d{3}', default: sq010}
  frames: {type: integer, min: 1, max: 100, default: 10}
  gain: {type: number, default: 1.50}
  fast: {type: boolean, default: false}
  mode: {enum: [draft, final], default: draft}
jobs:
  a:
    array: '${{ params.frames }}'
    command: [x, '${{ params.shot }}/${{params.gain}}', '${{ params.fast }}', '${{ run.id }}', '${{ run.workflow }}']
    env: {MODE: '${{ params.mode }}'}
"""


def test_defaults_keep_their_type_and_reach_every_job() -> None:
    made = compiled(TYPED)
    assert made.run.params == (("shot", "sq010"), ("frames", 10), ("gain", 1.5), ("fast", False), ("mode", "draft"))
    spec = made.run.jobs[0].spec
    assert spec.size == 10
    assert spec.command == ("x", "sq010/1.50", "false", "RUN", "f")
    assert dict(spec.env) == {
        "FLOWBATCH_PARAM_SHOT": "sq010",
        "FLOWBATCH_PARAM_FRAMES": "10",
        "FLOWBATCH_PARAM_GAIN": "1.50",
        "FLOWBATCH_PARAM_FAST": "false",
        "FLOWBATCH_PARAM_MODE": "draft",
        "MODE": "draft",
    }


def test_given_values_are_read_by_type() -> None:
    given = {"shot": "sq999", "frames": "7", "gain": "-2e3", "fast": "true", "mode": "final"}
    run = compiled(TYPED, params=given).run
    assert run.params == (("shot", "sq999"), ("frames", 7), ("gain", -2000.0), ("fast", True), ("mode", "final"))
    assert run.jobs[0].spec.size == 7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shot", "sq1", "3:3: params.shot: -p shot: 'sq1' does not match the pattern sq\\d{3}"),
        ("shot", "xsq100", "3:3: params.shot: -p shot: 'xsq100' does not match the pattern sq\\d{3}"),
        ("shot", "sq100\n", "3:3: params.shot: -p shot: 'sq100\\n' does not match the pattern sq\\d{3}"),
        ("frames", "0", "4:3: params.frames: -p frames: must be at least 1, found 0"),
        ("frames", "101", "4:3: params.frames: -p frames: must be at most 100, found 101"),
        ("frames", "many", "4:3: params.frames: -p frames: a whole number is needed, found 'many'"),
        ("frames", "1.5", "4:3: params.frames: -p frames: a whole number is needed, found '1.5'"),
        ("frames", "", "4:3: params.frames: -p frames: a whole number is needed, found ''"),
        ("gain", "1e999", "5:3: params.gain: -p gain: the number is too large, found '1e999'"),
        ("gain", "nan", "5:3: params.gain: -p gain: a number is needed, found 'nan'"),
        ("gain", "1..2", "5:3: params.gain: -p gain: a number is needed, found '1..2'"),
        ("fast", "yes", "6:3: params.fast: -p fast: true or false is needed, found 'yes'"),
        (
            "mode",
            "finl",
            "7:3: params.mode: -p mode: must be one of draft, final; found 'finl' (did you mean 'final'?)",
        ),
        ("mode", "a\0", "7:3: params.mode: -p mode: holds a NUL character, which cannot be passed to a program"),
        ("frame", "3", "2:1: params: the workflow has no parameter 'frame' (did you mean 'frames'?)"),
    ],
)
def test_wrong_values(name: str, value: str, message: str) -> None:
    found = problems(TYPED, params={name: value})
    assert found == [message]


def test_a_missing_value_is_asked_for_once() -> None:
    text = "params: {a: {type: integer}}\njobs: {j: {script: x, array: '${{ params.a }}', vcpus: '${{ params.a }}'}}"
    assert problems(text) == ["1:10: params.a: needs a value: give it with -p a=…"]
    assert problems("jobs: {j: {script: x}}", params={"b": "1"}) == [
        "1:1: the workflow has no parameter 'b'; it has none"
    ]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("{type: integer, default: 1.5}", "params.p.default: a whole number is needed, found 1.5"),
        ("{type: integer, default: '5'}", "params.p.default: a whole number is needed, found '5'"),
        ("{default: 5}", "params.p.default: text is needed, found 5; put it in quotes"),
        ("{type: boolean, default: 'no'}", "params.p.default: true or false is needed, found 'no'"),
        ("{type: number, default: true}", "params.p.default: a number is needed, found true"),
        ("{type: integer, min: 5, default: 4}", "params.p.default: must be at least 5, found 4"),
        ("{type: integer, min: 5, max: 4, default: 5}", "params.p.max: 4 is below min, 5"),
        ("{min: 5, default: a}", "params.p.min: applies to integer and number, not to string"),
        ("{type: integer, pattern: x, default: 1}", "params.p.pattern: applies to string, not to integer"),
        (
            "{pattern: '(', default: a}",
            "params.p.pattern: not a regular expression: missing ), unterminated subpattern",
        ),
        ("{pattern: '[[a]', default: a}", ""),
        ("{enum: [a, 1], default: a}", "params.p.enum[1]: text is needed, found 1; put it in quotes"),
        ("{enum: [a], default: b}", "params.p.default: must be one of a; found 'b'"),
        ("{enum: [], default: b}", "params.p.enum: cannot be empty"),
        ("{type: text, default: b}", "params.p.type: must be 'string', 'integer', 'number' or 'boolean', found 'text'"),
        ("{default: [a]}", "params.p.default: one value is needed, found a list"),
        ("{default: '${{ run.id }}'}", "params.p.default: nothing is filled in here; write the value itself"),
        ("sq010", "params.p: a mapping (key: value) is needed, found 'sq010'"),
    ],
)
def test_wrong_declarations(declared: str, message: str) -> None:
    found = problems(f"params: {{p: {declared}}}\njobs: {{j: {{script: x}}}}")
    assert any(message in problem for problem in found) if message else not found


def test_variables_that_would_collide() -> None:
    text = "params: {a-b: {default: x}, A_B: {default: y}}\njobs: {j: {script: x}}"
    assert problems(text) == ["1:29: params.A_B: 'a-b' and 'A_B' would share the variable FLOWBATCH_PARAM_A_B"]


def test_a_very_long_value() -> None:
    text = "params: {a: {}}\njobs: {j: {script: x}}"
    assert problems(text, params={"a": "x" * 5000}) == [
        "1:10: params.a: -p a: has 5,000 characters; at most 4,096 are taken"
    ]


def test_expressions_that_are_none() -> None:
    text = "params: {name: {default: x}}\njobs: {j: {script: x, env: {A: '%s'}}}"
    for written, message in (
        ("${{ params.nam }}", "unknown parameter 'nam' (did you mean 'name'?)"),
        ("${{ run.ident }}", "unknown expression 'run.ident'"),
        ("${{ env.HOME }}", "unknown expression 'env.HOME'"),
        ("${{ params.name + 1 }}", "`${{ params.name + 1 }}` is no dotted path"),
        ("${{ }}", "`${{  }}` is no dotted path"),
        ("${{ params.name", "`${{` is never closed; write `${{ params.name }}`"),
        ("${{ run.status }}", "run.status is known at the end alone: it is legal in `finally` jobs"),
    ):
        found = problems(text % written)
        assert len(found) == 1
        assert found[0].startswith(f"2:32: jobs.j.env.A: {message}")


def test_other_braces_reach_the_program_untouched() -> None:
    untouched = "$VAR ${VAR} {{ x }} %s $(y) Ref::z"
    assert specs(f"jobs: {{a: {{command: [echo, '{untouched}']}}}}")["a"].command[1] == untouched


def test_a_value_that_looks_like_an_expression_is_not_filled_in_again() -> None:
    text = "params: {p: {}}\njobs: {j: {command: [x, '${{ params.p }}!']}}"
    assert specs(text, params={"p": "${{ run.id }}"})["j"].command == ("x", "${{ run.id }}!")


def test_what_is_pasted_into_a_script_is_warned_of() -> None:
    text = "params: {a-b: {default: x}}\njobs: {j: {script: 'echo ${{ params.a-b }}'}, k: {command: [x, '${{ params.a-b }}']}}"
    assert [str(warning) for warning in compiled(text).warnings] == [
        "f.yaml:2:20: jobs.j.script: params.a-b is pasted into a script, where the shell reads it as code; "
        'use "$FLOWBATCH_PARAM_A_B" instead'
    ]


def test_a_reference_without_a_value_is_warned_of() -> None:
    made = compiled("jobs: {j: {command: [x, 'Ref::a', 'Ref::b'], parameters: {a: '1'}}}")
    assert [str(warning) for warning in made.warnings] == [
        "f.yaml:1:21: jobs.j.command: Ref::b has no value in `parameters` and will be passed as it stands"
    ]


def test_pasting_cannot_grow_without_bound() -> None:
    many = "${{ params.p }}" * 30
    text = f"params: {{p: {{}}}}\njobs: {{j: {{command: [x, '{many}']}}}}"
    assert problems(text, params={"p": "x" * 4000}) == [
        "2:25: jobs.j.command[1]: grows too large once filled in; at most 65,536 characters are taken"
    ]


@pytest.mark.slow
def test_pasting_in_many_places_cannot_either() -> None:
    many = ", ".join(["'${{ params.p }} " + "${{ params.p }}" * 15 + "'"] * 3000)
    text = f"params: {{p: {{}}}}\njobs: {{j: {{command: [x, {many}]}}}}"
    found = problems(text, params={"p": "x" * 4000})
    assert len(found) <= 100
    assert "grows too large once filled in" in found[0]


def test_free_keys_are_not_filled_in_but_names_that_begin_alike_are() -> None:
    text = """
    x-note: '${{ what.ever }}'
    params: {p: {default: v}}
    jobs: {x-a: {command: [x, '${{ params.p }}'], env: {x-e: '${{ params.p }}'}, x-note: '${{ not.read }}'}}
    """
    found = specs(text)["x-a"]
    assert found.command == ("x", "v")
    assert dict(found.env)["x-e"] == "v"


@pytest.mark.parametrize(
    "text",
    [
        "jobs: {a: {script: x, memory: 064}}",
        "jobs: {a: {script: x, memory: +64}}",
        "jobs: {a: {script: x, array: {size: 2, tolerate: 01}}}",
        "definitions: {d: {memory: 064}}\njobs: {a: {uses: d, script: x}}",
        "params: {x: {type: number, default: 1.50}}\njobs: {a: {script: x}}",
        "params: {x: {type: number, default: 1e1}}\njobs: {a: {script: x}}",
        "params: {i: {type: integer, default: 010}}\njobs: {a: {script: x}}",
        "environments: {e: {vcpus: 02, memory: 01024, min_vcpus: 00}}\njobs: {a: {script: x}}",
    ],
)
def test_what_is_stored_knows_nothing_of_how_numbers_were_written(text: str) -> None:
    run = compiled(text).run
    stored = run_plan(run_json(run))
    assert (stored.params, stored.environments) == (run.params, run.environments)
    for job in run.jobs:
        assert job_plan(job_json(job)) == job


def test_a_given_number_reads_as_it_was_typed() -> None:
    text = "params: {x: {type: number}, i: {type: integer}}\njobs: {a: {script: x}}"
    env = dict(compiled(text, params={"x": "2.00", "i": "007"}).run.jobs[0].spec.env)
    assert env == {"FLOWBATCH_PARAM_X": "2.00", "FLOWBATCH_PARAM_I": "007"}
    assert problems(text, params={"x": "1", "i": "9" * 30}) == [
        f"1:29: params.i: -p i: the number is too large, found '{'9' * 30}'"
    ]

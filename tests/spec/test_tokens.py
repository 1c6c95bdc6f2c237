"""`tokens` in every spelling: what there is, and what a job holds."""

from __future__ import annotations

import pytest

from flowbatch.model.tokens import Token, TokenKind
from flowbatch.settings import parse_settings
from tests.spec.building import compiled, problems, specs, wrong

SHARED = (Token("licence", 3), Token("budget", 2, TokenKind.NON_REPLENISHABLE))
AWS = "{consumableResourceList: [{consumableResource: NAME, quantity: 2}, {consumableResource: budget, quantity: 1}]}"


def test_both_spellings() -> None:
    for body in (
        "tokens: {licence: 2, budget: 1}",
        f"consumableResourceProperties: {AWS.replace('NAME', 'licence')}",
        f"consumableResourcePropertiesOverride: {AWS.replace('NAME', 'licence')}",
        f"consumableResourceProperties: {AWS.replace('NAME', 'arn:aws:batch:x:1:consumable-resource/licence')}",
    ):
        [spec] = specs(f"jobs: {{a: {{script: x, {body}}}}}", tokens=SHARED).values()
        assert spec.tokens == (("budget", 1), ("licence", 2))


def test_a_job_replaces_what_its_definition_asks_for() -> None:
    text = "definitions: {d: {script: x, tokens: {licence: 1, budget: 1}}}\njobs: {a: {uses: d}, b: {uses: d, tokens: {licence: 2}}}"
    found = specs(text, tokens=SHARED)
    assert found["a"].tokens == (("budget", 1), ("licence", 1))
    assert found["b"].tokens == (("licence", 2),)


def test_a_files_own_come_before_shared_ones() -> None:
    made = compiled(
        "tokens: {licence: 9, own: {total: 4, type: NON_REPLENISHABLE}}\njobs: {a: {script: x, tokens: {licence: 9, own: 4}}}",
        tokens=SHARED,
    )
    assert made.run.tokens == (Token("licence", 9), Token("own", 4, TokenKind.NON_REPLENISHABLE))


def test_what_somebody_may_add_to_is_warned_of() -> None:
    made = compiled("jobs: {a: {script: x, tokens: {budget: 3}}}", tokens=SHARED)
    assert [each.message for each in made.warnings] == [
        "needs 3 of tokens budget, of which there are 2 left; it waits until somebody adds some"
    ]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("tokens: {licence: 4}", "jobs.a.tokens.licence: needs 4 of tokens licence, of which there are 3 in all"),
        ("tokens: {license: 1}", "jobs.a.tokens.license: unknown tokens 'license' (did you mean 'licence'?)"),
        ("tokens: {licence: 0}", "jobs.a.tokens.licence: must be at least 1, found 0"),
        ("tokens: {licence: many}", "jobs.a.tokens.licence: a whole number is needed, found 'many'"),
        ("tokens: {licence: 1}, consumableResourceProperties: {consumableResourceList: []}",
         "jobs.a.consumableResourceProperties: says the same as 'tokens'; give one of them"),
        ("consumableResourceProperties: {consumableResourceList: [{consumableResource: a b, quantity: 1}]}",
         "jobs.a.consumableResourceProperties.consumableResourceList[0].consumableResource: 'a b' is no consumable resource"),
        ("consumableResourceProperties: {consumableResourceList: [{consumableResource: licence, quantity: 1}, "
         "{consumableResource: licence, quantity: 1}]}",
         "jobs.a.consumableResourceProperties.consumableResourceList: 'licence' is given twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_job(body: str, told: str) -> None:
    [found] = wrong(body, tokens=SHARED)
    assert found.startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{own: -1}", "1:16: tokens.own: must be at least 0, found -1"),
        ("{own: lots}", "1:16: tokens.own: a total (5) or {total: 100, type: non_replenishable} is needed, found 'lots'"),
        ("{own: {total: 1, type: spent}}", "1:33: tokens.own.type: must be replenishable or non_replenishable, found 'spent'"),
        ("{own: {type: replenishable}}", "1:10: tokens.own: 'total' is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_total(text: str, told: str) -> None:
    """And nothing is said of the jobs that ask for them."""
    [found] = problems(f"tokens: {text}\njobs: {{a: {{script: x, tokens: {{own: 1}}}}}}")
    assert found.startswith(told.split(" ", 1)[0].split(":")[0] + ":")
    assert found.split(" ", 1)[1] == told.split(" ", 1)[1]


def test_in_settings() -> None:
    found = parse_settings(b"tokens: {licence: 3, budget: {total: 2, type: non-replenishable}}", "flowbatch.yaml")
    assert found.tokens == SHARED

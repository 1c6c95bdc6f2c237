"""Consumable resources: taken whole with a start, given back with its end, and kept for who has waited long."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core import invariants
from flowbatch.core.scheduler import RESERVE_AFTER_MS
from flowbatch.core.tokens import UPDATE_KEPT_MS
from flowbatch.core.why import explain
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import JobPlan, RetryPolicy
from flowbatch.model.stimuli import (
    Configure,
    CreateToken,
    DeleteToken,
    Drain,
    Exited,
    Retry,
    SubmitRun,
    Target,
    UpdateToken,
)
from flowbatch.model.tokens import Token, TokenKind, TokenOperation, TokenRow
from tests.core.builders import World, environment, job, parse, plan, queue

SPENT = TokenKind.NON_REPLENISHABLE


def world(*tokens: Token, vcpus: float = 8, priority: int = 1) -> World:
    made = World(environment(vcpus), queues=(queue(), queue("high", 5)))
    made.tell(Configure((environment(vcpus),), (queue(), queue("high", 5)), tokens))
    return made


def holding(
    key: str, size: int | None = None, vcpus: float = 1, attempts: int = 1, on: str = "default", **tokens: int
) -> JobPlan:
    made = job(key, size=size, vcpus=vcpus, queue=on, retry=RetryPolicy(attempts))
    return replace(made, spec=replace(made.spec, tokens=tuple(sorted(tokens.items()))))


def used(world: World, name: str = "licence") -> tuple[int, int]:
    token = world.state.tokens.held[name]
    return token.in_use, token.available


def test_only_as_many_start_as_have_their_tokens() -> None:
    here = world(Token("licence", 5))
    here.submit(holding("a", size=4, licence=2))
    assert here.launched() == ["a:0#1", "a:1#1"]
    assert used(here) == (4, 1)
    here.end("a:0")
    assert here.launched() == ["a:2#1"]
    here.end("a:1", "a:2")
    here.end("a:3")
    assert used(here) == (0, 5)


def test_all_of_them_or_none() -> None:
    here = world(Token("licence", 1), Token("link", 1))
    here.submit(holding("a", link=1), holding("b", licence=1, link=1), holding("c", licence=1))
    assert here.launched() == ["a:0#1", "c:0#1"]
    here.end("a")
    assert here.launched() == []  # b still lacks the licence, and takes no link meanwhile
    assert used(here, "link") == (0, 1)
    here.end("c")
    assert here.launched() == ["b:0#1"]


def test_who_waits_for_tokens_holds_up_nobody() -> None:
    here = world(Token("licence", 1), vcpus=2)
    here.submit(holding("a", licence=1), holding("b", vcpus=2, licence=1), run="first")
    here.submit(job("many", size=3), run="second")
    assert here.launched() == ["a:0#1", "many:0#1"]
    here.tell(at=here.now + 2 * RESERVE_AFTER_MS)
    here.end("many:0")
    assert here.launched() == ["many:1#1"]  # b has waited for a minute, but not for a vCPU


def test_a_retry_takes_them_again() -> None:
    here = world(Token("licence", 1), Token("budget", 5, SPENT))
    here.submit(holding("a", attempts=2, licence=1, budget=2))
    assert used(here, "budget") == (0, 3)
    here.end("a", code=1)
    assert here.launched() == ["a:0#1", "a:0#2"]
    assert used(here) == (1, 0)
    assert used(here, "budget") == (0, 1)


def test_what_is_used_up_is_durable_with_the_start() -> None:
    here = world(Token("budget", 5, SPENT))
    outcome = here.submit(holding("a", size=9, budget=2))
    assert list(outcome.writes.tokens.values()) == [
        TokenRow("budget", SPENT, 1, 5, None, (), here.state.tokens.held["budget"].created_at)
    ]
    assert len(outcome.writes.tasks) == 2
    here.end("a:0", "a:1")
    assert here.launched() == ["a:0#1", "a:1#1"]
    here.tell(UpdateToken(1, "budget", TokenOperation.ADD, 3))
    assert here.launched() == ["a:2#1", "a:3#1"]


def test_a_launch_that_fails_gives_them_back() -> None:
    here = world(Token("licence", 1))
    here.submit(holding("a", licence=1))
    here.refuse("a")
    assert used(here) == (0, 1)


def test_who_has_waited_long_keeps_what_comes_free() -> None:
    here = world(Token("licence", 3))
    here.submit(holding("small", size=9, licence=1))
    here.submit(holding("large", licence=3), run="second")
    assert here.launched() == ["small:0#1", "small:1#1", "small:2#1"]
    here.tell(at=here.now + 1)  # from here on the small ones have waited less
    here.end("small:0")
    assert here.launched() == ["small:3#1"]
    here.tell(at=here.now + RESERVE_AFTER_MS)
    here.end("small:1")
    assert here.launched() == []
    assert explain(here.state, here.job("small"), 4, here.now) == (
        "small:4 is RUNNABLE: it needs 1 of tokens licence, 1 of 3 are free, but kept for large:0, which needs 3 and "
        "has waited 30 s"
    )
    here.end("small:2", "small:3")
    assert here.launched() == ["large:0#1"]
    here.end("large")
    assert here.launched() == ["small:4#1", "small:5#1", "small:6#1"]


def test_a_demand_beyond_the_total_keeps_nothing() -> None:
    here = world(Token("licence", 3))
    here.submit(holding("large", licence=3), holding("small", size=9, licence=1))
    assert here.launched() == ["large:0#1"]
    here.submit(holding("again", licence=3), run="second")
    here.tell(UpdateToken(1, "licence", TokenOperation.SET, 2), at=here.now + RESERVE_AFTER_MS)
    here.end("large")
    assert here.launched() == ["small:0#1", "small:1#1"]
    assert explain(here.state, here.job("again"), None, here.now) == (
        "again is RUNNABLE: it needs 3 of tokens licence, and there are 2 in all"
    )


def test_where_all_environments_are_disabled_nothing_is_kept() -> None:
    here = world(Token("licence", 2))
    off, on = replace(environment(name="off"), enabled=False), environment()
    here.tell(Configure((off, on), (queue(), queue("high", 5, "off")), (Token("licence", 2),)))
    here.submit(holding("stuck", on="high", licence=2), holding("small", size=4, licence=1))
    assert here.launched() == ["small:0#1", "small:1#1"]
    here.tell(at=here.now + 2 * RESERVE_AFTER_MS)
    here.end("small:0")
    assert here.launched() == ["small:2#1"]


def test_first_tokens_then_capacity() -> None:
    """What lacked both comes to hold its tokens first; then its clock for capacity begins."""
    here = world(Token("licence", 1), vcpus=2)
    here.submit(holding("a", licence=1), job("fill", size=9))
    here.submit(holding("big", vcpus=2, licence=1), run="second")
    assert here.launched() == ["a:0#1", "fill:0#1"]
    here.end("a")  # big has its licence in sight, and lacks a vCPU
    assert here.launched() == ["fill:1#1"]
    here.tell(at=here.now + 1)
    here.end("fill:0")
    assert here.launched() == ["fill:2#1"]
    here.tell(at=here.now + RESERVE_AFTER_MS - 1)
    here.end("fill:1")
    assert here.launched() == []
    here.end("fill:2")
    assert here.launched() == ["big:0#1"]


def test_who_comes_to_lack_tokens_keeps_no_capacity_from_the_same_turn_on() -> None:
    """What it held back starts in that turn, not in whichever comes next."""
    here = world(Token("licence", 1), vcpus=4)
    here.submit(job("fill", size=2))
    here.submit(holding("big", vcpus=3, licence=1), run="second")
    here.tell(at=here.now + RESERVE_AFTER_MS)
    assert here.launched() == ["fill:0#1", "fill:1#1"]
    here.submit(job("later"), run="third")
    assert here.launched() == []
    here.tell(UpdateToken(1, "licence", TokenOperation.SET, 0))
    assert here.launched() == ["later:0#1"]


def test_a_total_lowered_below_what_is_in_use() -> None:
    here = world(Token("licence", 3))
    here.submit(holding("a", size=5, licence=1))
    here.launched()
    here.tell(UpdateToken(1, "licence", TokenOperation.REMOVE, 2))
    assert here.answers()[-1].value == {
        "name": "licence", "type": "REPLENISHABLE", "total": 1, "in_use": 3, "available": 0,
    }  # fmt: skip
    here.end("a:0", "a:1")
    assert here.launched() == []
    here.end("a:2")
    assert here.launched() == ["a:3#1"]


def test_settings_declare_and_operators_decide() -> None:
    here = world(Token("licence", 3))
    places = (environment(8),), (queue(),)
    here.tell(UpdateToken(1, "licence", TokenOperation.SET, 7))
    here.tell(Configure(*places, (Token("licence", 3),)))
    assert used(here) == (0, 7)  # the settings say what they said before
    here.tell(Configure(*places, (Token("licence", 4),)))
    assert used(here) == (0, 4)
    here.tell(Configure(*places))
    assert here.state.tokens.held["licence"].declared is None  # it stays: jobs may need it
    here.tell(Configure(*places, (Token("licence", 4, SPENT),)))
    assert here.outcome.writes.tokens == {"licence": here.state.tokens.held["licence"].row()}


def test_a_kind_that_changes_while_some_are_in_use() -> None:
    here = world(Token("x", 3))
    here.submit(holding("a", size=2, x=1))
    here.tell(Configure((environment(8),), (queue(),), (Token("x", 3, SPENT),)))
    assert used(here, "x") == (0, 3)
    here.tell(Configure((environment(8),), (queue(),), (Token("x", 3),)))
    assert used(here, "x") == (2, 1)


def test_create_and_delete() -> None:
    here = world()
    here.tell(CreateToken(1, Token("licence", 2), (("team", "film"),)), CreateToken(2, Token("licence", 9)))
    assert here.answers()[-1].error == "there are tokens 'licence' already; `update` changes how many"
    here.submit(holding("a", licence=1))
    here.tell(DeleteToken(3, "licence"))
    assert here.answers()[-1].error == "'licence': job a of run run needs them, and has not ended"
    here.end("a")
    here.tell(DeleteToken(4, "licence"), DeleteToken(5, "licence"))
    assert [each.error for each in here.answers()[-2:]] == [None, "there are no tokens 'licence'"]
    assert here.outcome.writes.tokens == {"licence": None}


@pytest.mark.parametrize(
    ("operation", "quantity"), [(TokenOperation.REMOVE, 3), (TokenOperation.ADD, -1), (TokenOperation.ADD, 2**53)]
)
def test_a_total_has_its_limits(operation: TokenOperation, quantity: int) -> None:
    here = world(Token("licence", 2))
    here.tell(UpdateToken(1, "licence", operation, quantity))
    error = here.answers()[-1].error
    assert error is not None
    assert error.startswith(f"{operation} {quantity}: 'licence' has 2; a total lies between 0 and")
    assert used(here) == (0, 2)


def test_a_job_that_needs_what_is_not_there_is_refused() -> None:
    here = world()
    here.submit(holding("a", licence=1))
    assert here.answers()[-1].error == "job a needs tokens 'licence', which do not exist"
    assert not here.state.jobs


def test_tokens_of_a_run_come_and_go_with_it() -> None:
    here = world()
    asked = replace(plan(holding("a", size=3, own=1)), tokens=(Token("own", 1),))
    outcome = here.tell(SubmitRun(1, asked))
    assert [(row.name, row.run) for row in outcome.writes.tokens.values() if row is not None] == [("own", 1)]
    for index in range(3):
        assert here.launched() == [f"a:{index}#1"]
        here.end(f"a:{index}")
    assert here.state.tokens.held == {}


def test_nobody_makes_or_deletes_the_tokens_of_a_file() -> None:
    """Made before its run, they would be taken for the run's own and go from memory with it, while the store kept them."""
    here = world()
    here.tell(CreateToken(1, Token("1a2b3c4d/own", 2)))
    said = "tokens '1a2b3c4d/own' belong to the workflow file of a run: there they are declared, and nowhere else"
    assert here.answers()[-1].error == said
    assert here.state.tokens.held == {}
    declared = Token("1a2b3c4d/own", 1)
    made = holding("a")
    made = replace(made, spec=replace(made.spec, tokens=(("1a2b3c4d/own", 1),)))
    here.tell(SubmitRun(2, replace(plan(made), tokens=(declared,))), Drain())
    here.tell(DeleteToken(3, "1a2b3c4d/own"))
    assert here.answers()[-1].error == said
    assert used(here, "1a2b3c4d/own") == (0, 1)


def test_what_why_says() -> None:
    here = world(Token("licence", 2), Token("budget", 1, SPENT))
    here.submit(holding("a", size=2, licence=2), holding("b", budget=2), holding("c", licence=1))
    assert (
        explain(here.state, here.job("a"), 1, here.now)
        == "a:1 is RUNNABLE: it needs 2 of tokens licence, 0 of 2 are free"
    )
    assert explain(here.state, here.job("b"), None, here.now) == (
        "b is RUNNABLE: it needs 2 of tokens budget, and there are 1 left"
    )


def test_lost_attempts_give_back_too() -> None:
    here = world(Token("licence", 1))
    here.submit(holding("a", licence=1))
    here.end("a", evidence=Evidence(lost=True))
    assert used(here) == (0, 1)
    invariants.check(here.state)


def test_an_update_that_is_sent_again_is_made_once_for_eight_hours() -> None:
    here = world(Token("licence", 2))
    again = UpdateToken(1, "licence", TokenOperation.ADD, 1, "once")
    begun = here.now
    for ticket in (1, 2):
        here.tell(replace(again, ticket=ticket))
        assert here.answers()[-1].value["total"] == 3  # type: ignore[index]
    here.tell(replace(again, quantity=2))  # another payload is another request
    here.tell(replace(again, once=""), replace(again, once=""))
    assert here.state.tokens.held["licence"].total == 7
    here.tell(again, at=begun + UPDATE_KEPT_MS - 1)
    assert here.state.tokens.held["licence"].total == 7
    here.tell(again, at=begun + UPDATE_KEPT_MS)
    assert here.state.tokens.held["licence"].total == 8
    assert list(here.state.tokens.updates.values()) == [begun + UPDATE_KEPT_MS]
    assert set(here.outcome.writes.token_updates.values()) == {None, begun + UPDATE_KEPT_MS}
    here.tell(DeleteToken(3, "licence"))
    assert here.state.tokens.updates == {}
    assert set(here.outcome.writes.token_updates.values()) == {None}


def test_tokens_that_are_made_wake_the_retried_job_that_waits_for_them() -> None:
    """They were deleted when it had ended."""
    here = world(Token("licence", 1))
    here.submit(holding("a", licence=1), job("goes-on"))
    here.end("a", code=1)
    here.tell(DeleteToken(2, "licence"))
    here.launched()
    here.tell(Retry(3, Target(RunId("run"), JobId("a"))))
    assert here.launched() == []
    here.tell(CreateToken(4, Token("licence", 1)))
    assert here.launched() == ["a:0#2"]


def test_who_can_never_start_any_more_keeps_nothing_from_those_that_were_refused_before() -> None:
    """Others have used up, in the same pass, what it cannot do without."""
    here = world(Token("link", 1), Token("budget", 0, SPENT))
    here.submit(
        holding("hog", link=1), holding("first", budget=2), holding("second", budget=2, link=1), holding("b", link=1)
    )
    assert here.launched() == ["hog:0#1"]
    here.now = Millis(here.now + RESERVE_AFTER_MS)
    here.tell(UpdateToken(2, "budget", TokenOperation.ADD, 3), Exited(parse("hog"), here.now, Evidence(0), here.now))
    assert here.launched() == ["first:0#1", "b:0#1"]

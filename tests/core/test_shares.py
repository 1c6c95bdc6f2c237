"""Fair share (aws-batch.md §9.4): whose turn it is, against a reference that sums over everything."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.core.shares import CELLS, FairShares
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.queues import FairShare
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Cancel, Configure, Exited, SubmitRun, Target, Tick
from tests.core.builders import World, environment, job, parse, plan, queue
from tests.sim.fair import Book, Interval

MINUTE = 60_000
HOUR = 60 * MINUTE


def fair(reservation: int = 0, decay_ms: int = 0, **weights: float) -> FairShare:
    """`_` at the end of a name stands for `*`."""
    entries = tuple((name.replace("_", "*"), round(weight * 10_000)) for name, weight in weights.items())
    return FairShare(decay_ms, reservation, entries)


def world_of(policy: FairShare, vcpus: float = 1) -> World:
    return World(environment(vcpus=vcpus), queues=(queue(policy=policy),))


def shares_of(launched: list[str]) -> str:
    return "".join(name[0] for name in launched)


def test_equal_shares_alternate_whoever_came_first() -> None:
    world = world_of(fair(), vcpus=4)
    world.submit(job("a", size=10, share="a"), job("b", size=10, share="b"))
    assert shares_of(world.launched()) == "abab"


def test_a_lower_weight_gets_more() -> None:
    world = world_of(fair(a=1.0, b=0.25), vcpus=10)
    world.submit(job("a", size=20, share="a"), job("b", size=20, share="b"))
    assert Counter(shares_of(world.launched())) == {"b": 8, "a": 2}


def test_a_prefix_divides_its_weight_among_its_active_shares() -> None:
    """aws-batch.md §9.4: `UserA*` of weight 1 with two active ids counts as weight 2 for each."""
    world = world_of(fair(User_=1.0, z=1.0), vcpus=8)
    world.submit(*(job(f"u{n}", size=20, share=f"User{n}") for n in (1, 2)), job("z", size=20, share="z"))
    assert Counter(name[:2] for name in world.launched()) == {"z:": 4, "u1": 2, "u2": 2}


def test_what_was_used_counts_until_it_has_left_the_window() -> None:
    world = world_of(fair(decay_ms=HOUR))
    world.submit(job("a", share="a"))
    world.tell(Tick(), at=1_000 + 10 * MINUTE)
    world.submit(job("b", size=3, share="b"), job("a2", size=3, share="a"), run="two")
    world.end("a")
    assert world.launched() == ["a:0#1", "b:0#1"]
    world.tell(Exited(parse("b"), world.now, Evidence(0), world.now), at=world.now + 5 * MINUTE)
    assert world.launched() == ["b:1#1"]  # five minutes against ten
    world.tell(Tick(), at=world.now + 30 * MINUTE)
    world.end("b:1")
    assert world.launched() == ["a2:0#1"]


def test_usage_of_long_ago_is_forgotten_and_its_share_is_active_no_more() -> None:
    world = world_of(fair(reservation=50), vcpus=4)
    world.submit(job("a", share="a", vcpus=1))
    world.tell(Exited(parse("a"), world.now, Evidence(0), world.now), at=world.now + MINUTE)
    shares = world.state.queues["default"].fair
    assert shares is not None
    assert list(shares.shares) == ["a"]
    world.tell(SubmitRun(1, plan(job("b", share="b"), run="two")), at=world.now + 9 * MINUTE)
    assert list(shares.shares) == ["a", "b"]
    world.tell(SubmitRun(1, plan(job("c", share="c"), run="three")), at=world.now + 2 * MINUTE)
    assert list(shares.shares) == ["b", "c"]


def test_priority_within_a_share_alone() -> None:
    world = world_of(fair(), vcpus=1)
    world.submit(job("a", share="a"), job("a9", share="a", priority=9), job("b", share="b"))
    order = world.launched()
    for _ in range(2):
        world.now = Millis(world.now + MINUTE)
        world.end(order[-1])
        order += world.launched()
    assert order == ["a9:0#1", "b:0#1", "a:0#1"]


def test_a_retry_is_first_within_its_share() -> None:
    world = world_of(fair(), vcpus=2)
    world.submit(job("a", size=4, share="a", attempts=2), job("b", size=4, share="b"))
    assert world.launched() == ["a:0#1", "b:0#1"]
    world.end("a:0", code=1)
    assert world.launched() == ["a:0#2"]


@pytest.mark.parametrize(("shares", "running"), [(1, 8), (2, 12), (3, 14)])
def test_the_reservation_leaves_room_for_shares_to_come(shares: int, running: int) -> None:
    """aws-batch.md §9.4: 50 keeps 50 %, 25 %, 12.5 % for 1, 2, 3 active shares."""
    world = world_of(fair(reservation=50), vcpus=16)
    world.submit(*(job(f"j{n}", size=30, share=f"s{n}") for n in range(shares)))
    assert len(world.launched()) == running


def test_a_share_that_becomes_active_makes_room_for_others() -> None:
    world = world_of(fair(reservation=50), vcpus=16)
    world.submit(job("first", vcpus=0), job("a", size=30, share="a"))
    assert world.answers()[-1].error is not None  # a job of nobody's
    world.submit(job("a", size=30, share="a"), run="two")
    assert len(world.launched()) == 8
    world.submit(job("b", share="b", needs=["c"]), job("c", vcpus=99, share="a"), run="three")
    assert len(world.launched()) == 4


def test_a_reservation_keeps_no_queue_from_working() -> None:
    world = world_of(fair(reservation=99), vcpus=4)
    world.submit(job("a", size=2, vcpus=4, share="a"))
    assert world.launched() == ["a:0#1"]
    world.end("a:0")
    assert world.launched() == ["a:1#1"]


def test_what_waits_for_room_below_the_reservation_is_not_passed_for_ever() -> None:
    world = world_of(fair(reservation=50), vcpus=8)
    world.submit(job("small", size=99, share="a"), job("big", vcpus=3, share="a"))
    world.launched()
    world.tell(Exited(parse("small:0"), world.now, Evidence(0), world.now), at=world.now + 31_000)
    for index in (1, 2, 3):
        world.end(f"small:{index}")
    assert "big:0#1" in world.launched()


def test_what_max_running_holds_back_gives_its_turn_to_others() -> None:
    world = world_of(fair(), vcpus=6)
    world.submit(job("a", size=9, share="a", max_running=1), job("b", size=9, share="b"))
    assert Counter(shares_of(world.launched())) == {"a": 1, "b": 5}
    world.now = Millis(world.now + MINUTE)
    world.end("a:0")
    assert world.launched() == ["a:1#1"]


def test_the_501st_share_is_refused() -> None:
    world = world_of(fair(), vcpus=1)
    world.submit(*(job(f"j{n}", share=f"s{n}") for n in range(500)))
    world.submit(job("more", share="s7"), run="two")
    world.submit(job("one", share="fresh"), run="three")
    answers = [answer.error for answer in world.answers()]
    assert answers[:2] == [None, None]
    assert answers[2] == (
        "queue default can have 500 active shares, and has 500: share 'fresh' would be one more; a share is active until its "
        "jobs have ended and its usage has left the decay window"
    )
    world.tell(Cancel(1, Target(job=JobId("j499")), "no"))
    world.submit(job("one", share="fresh"), run="four")
    assert world.answers()[-1].error is None


def test_a_share_and_a_policy_need_each_other() -> None:
    world = World(queues=(queue("f"), queue("q", policy=fair())))
    world.submit(job("a", queue="f", share="a"))
    world.submit(job("b", queue="q"), run="two")
    assert [answer.error for answer in world.answers()] == [
        "job a: queue f is FIFO, and a shareIdentifier is for queues with a fair-share policy",
        "job b: queue q has a fair-share policy, and its jobs need a shareIdentifier",
    ]


def test_another_policy_orders_anew_what_waits() -> None:
    world = world_of(fair(decay_ms=HOUR), vcpus=1)
    world.submit(job("a", size=3, share="a"), job("b", size=3, share="b"))
    assert world.launched() == ["a:0#1"]
    world.tell(Tick(), at=world.now + 5 * MINUTE)
    heavier = fair(decay_ms=2 * HOUR, a=0.01, b=900)
    world.tell(Configure((environment(vcpus=1),), (queue(policy=heavier),)))
    world.end("a:0")
    assert world.launched() == ["b:0#1"]  # it has used nothing
    world.tell(Exited(parse("b:0"), world.now, Evidence(0), world.now), at=world.now + MINUTE)
    assert world.launched() == ["a:1#1"]
    world.tell(Configure((environment(vcpus=1),), (queue(),)))
    world.end("a:1")
    assert world.launched() == ["a:2#1"]  # FIFO
    world.tell(Configure((environment(vcpus=1),), (queue(policy=heavier),)))
    world.end("a:2")
    assert world.launched() == ["b:1#1"]


times = st.one_of(st.integers(0, 3_000), st.integers(0, 400_000), st.just(2_000_000))
changes = st.lists(st.tuples(times, st.sampled_from("abc"), st.integers(-4, 4)), max_size=60)


@given(st.sampled_from((0, 700_001, 3_600_000)), changes)
def test_usage_is_what_the_reference_says(decay_ms: int, moves: list[tuple[int, str, int]]) -> None:
    """Keys at every change, after gaps of any length; a negative number releases the oldest of a share."""
    policy = fair(decay_ms=decay_ms, a=0.5, b=2)
    shares, book, now = FairShares(policy), Book(policy), 1_000_000_007
    running: dict[str, list[Interval]] = {name: [] for name in "abc"}
    for name in "abc":
        shares.enter(name)
    for gap, name, vcpus in moves:
        now += gap
        if vcpus > 0:
            shares.hold(name, vcpus * 250, Millis(now))
            running[name].append(book.place(name, vcpus * 250, now))
        elif running[name]:
            oldest = running[name].pop(0)
            book.release(oldest, now)
            shares.hold(name, -oldest.vcpus_milli, Millis(now))
        shares.advance(Millis(now))
        for each in "abc":
            assert shares.shares[each].key == book.key(each, now, "abc")
            assert len(shares.shares[each].cells) <= CELLS


sizes = st.sampled_from((0.25, 1.0, 2.0))
priorities = st.sampled_from((0, 0, 5))
jobs_of = st.lists(st.tuples(st.sampled_from("abcd"), sizes, st.integers(1, 6), priorities), min_size=1, max_size=12)


@given(jobs_of, st.lists(st.tuples(times, st.integers(0, 5)), max_size=40), st.sampled_from((0, 25, 90)))
def test_each_placement_is_of_the_share_whose_turn_it_is(
    jobs: list[tuple[str, float, int, int]], ends: list[tuple[int, int]], reservation: int
) -> None:
    """One shape at a time, so that nothing but the shares decides; in the same order as the reference picks."""
    policy = fair(reservation=reservation, a=1.0, b=0.5, c_=3.0, d=0.001)
    vcpus = jobs[0][1]
    world, book = world_of(policy, vcpus=4), Book(policy)
    plans = [
        job(f"{share}{n}", size=count, vcpus=vcpus, share=share, priority=priority)
        for n, (share, _, count, priority) in enumerate(jobs)
    ]
    waiting = [(each.spec.share or "", n, each.id, each.spec.tasks) for n, each in enumerate(plans)]
    left = {each.id: each.spec.tasks for each in plans}
    running: list[tuple[str, Interval]] = []

    def expected() -> list[str]:
        picked: list[str] = []
        world_now = world.now
        active = book.active({share for share, _, name, _ in waiting if open_jobs[name]}, world_now)
        while ready := [each for each in waiting if left[each[2]]]:
            held = sum(book.held(share) for share in book.accounts)
            cap = book.cap_milli(4_000, len(active)) if reservation else 4_000
            need = round(vcpus * 1000)
            if held + need > 4_000 or (held + need > cap and held):
                break
            ready.sort(key=lambda each: (-jobs[each[1]][3], each[1]))  # within a share
            firsts = {share: (share, n, name, size) for share, n, name, size in reversed(ready)}.values()
            share, _, name, size = min(firsts, key=lambda each: (book.key(each[0], world_now, active), each[1]))
            index = size - left[name]
            left[name] -= 1
            running.append((f"{name}:{index}", book.place(share, need, world_now)))
            picked.append(f"{name}:{index}#1")
        return picked

    open_jobs = {each.id: each.spec.tasks for each in plans}
    world.submit(*plans)
    assert world.launched() == expected()
    for gap, which in ends:
        if not running:
            break
        name, interval = running.pop(which % len(running))
        book.release(interval, world.now + gap)
        open_jobs[JobId(name.partition(":")[0])] -= 1
        world.tell(Exited(parse(name), Millis(world.now + gap), Evidence(0), world.now), at=world.now + gap)
        assert world.launched() == expected()


def test_no_share_starves_however_little_it_weighs() -> None:
    """One slot, three shares that never run out of work: each is served again once its usage has left the window, at the latest."""
    world = world_of(fair(a=0.0001, b=1.0, c=999.9999), vcpus=1)
    world.submit(*(job(name, size=1000, share=name) for name in "abc"))
    served: dict[str, list[int]] = {name: [] for name in "abc"}
    for _ in range(600):
        (name,) = world.launched()
        served[name[0]].append(world.now)
        world.tell(Exited(parse(name), world.now, Evidence(0), world.now), at=world.now + 20_000)
    for name, times in served.items():
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) <= 10 * MINUTE + 4 * 20_000, f"{name} waited {max(gaps)} ms"
    assert len(served["a"]) > 10 * len(served["b"]) > 0


def test_what_is_held_since_the_clock_was_read_counts_before_the_second_task_in_a_row() -> None:
    shares = FairShares(fair())
    for name in "ab":
        shares.enter(name)
    shares.hold("a", 1000, Millis(0))
    shares.hold("b", 2000, Millis(2_000))
    shares.advance(Millis(9_900))  # keys as of 5,000 ms: a has used 5 vCPU-seconds, b 6
    a, rival = shares.shares["a"], shares.shares["b"].key
    assert shares.turns(a, 1000, rival, Millis(5_000)) == 2
    assert shares.turns(a, 1000, rival, Millis(9_900)) == 1  # it has used 9.9 by now


def test_usage_survives_a_restart_and_a_policy_that_comes_later() -> None:
    """Without rows of its own, as after a change from FIFO: what runs is held, and counted from then on."""
    world = world_of(fair(), vcpus=2)
    world.tell(Configure((environment(vcpus=2),), (queue(),)))
    world.submit(job("a", size=4))
    world.tell(Configure((environment(vcpus=2),), (queue(policy=fair()),)))
    shares = world.state.queues["default"].fair
    assert shares is not None
    assert (shares.shares[""].held_milli, shares.shares[""].total) == (2_000, 0)
    world.tell(Exited(parse("a:0"), world.now, Evidence(0), world.now), at=world.now + MINUTE)
    assert shares.shares[""].total == 0  # counted from the first change on
    world.tell(Exited(parse("a:1"), world.now, Evidence(0), world.now), at=world.now + MINUTE)
    assert shares.shares[""].total == 2_000 * MINUTE


def test_the_host_and_a_queue_keep_what_they_have_for_the_same_job() -> None:
    """Two heads of a queue have waited as long. Were its own reservation kept for the one and the host for the other, neither could
    ever start."""
    places = environment(1, name="small"), environment(3, name="big")
    queues = queue("default", 1, "small", "big", policy=fair(25)), queue("other", 5, "big")
    world = World(*places, queues=queues)
    world.tell(Configure(places, queues, host=Resources(3000, 8192), host_fixed=True))
    world.submit(job("long", vcpus=3, queue="other"))
    world.submit(job("wide", vcpus=3, share="a"), job("small", vcpus=1, share="a"), run="two")
    assert world.launched() == ["long:0#1"]
    world.now = Millis(world.now + 31_000)
    world.end("long")
    assert world.launched() == ["wide:0#1"]


def test_a_clock_that_is_set_back_between_two_lives_counts_in_the_newest_cell() -> None:
    shares = FairShares(fair())
    shares.hold("a", 1000, Millis(2 * HOUR))
    shares.hold("a", -1000, Millis(2 * HOUR + MINUTE))
    after = FairShares(fair())
    after.restore(row for _, row in shares.rows("q") if row is not None)
    after.hold("a", 1000, Millis(HOUR))
    cells = list(after.shares["a"].cells)
    assert cells == sorted(cells)
    assert after.shares["a"].total == 1000 * MINUTE

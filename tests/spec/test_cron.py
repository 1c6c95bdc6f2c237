"""Schedules: every time once, whatever the clock on the wall does, and whenever one looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.model.ids import Millis
from flowbatch.spec.cron import MISSED_MAX, Due, Missed, Schedule, due, parse_schedule, up_to

PRAGUE = ZoneInfo("Europe/Prague")


def at(text: str, tz: str = "UTC") -> Millis:
    return Millis(int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).timestamp() * 1000))


def shown(times: list[Millis], tz: str = "Europe/Prague") -> list[str]:
    return [datetime.fromtimestamp(time / 1000, ZoneInfo(tz)).isoformat() for time in times]


def first(schedule: Schedule, start: str, count: int) -> list[str]:
    return shown(list(islice(schedule.after(at(start, schedule.tz)), count)), schedule.tz)


def test_a_night_job_runs_once_on_the_day_with_23_hours() -> None:
    nightly = parse_schedule("30 2 * * *", "Europe/Prague")
    assert first(nightly, "2026-03-28T12:00", 3) == [
        "2026-03-29T03:00:00+02:00",  # 02:30 is not there
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]


def test_a_night_job_runs_once_on_the_day_with_25_hours() -> None:
    nightly = parse_schedule("30 2 * * *", "Europe/Prague")
    assert first(nightly, "2026-10-24T12:00", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_an_hourly_job_runs_each_hour_that_passes() -> None:
    hourly = parse_schedule("0 * * * *", "Europe/Prague")
    for start, hours in (("2026-03-29T00:00", 23), ("2026-10-25T00:00", 25), ("2026-07-01T00:00", 24)):
        begin = at(start, "Europe/Prague")
        end = at((datetime.fromisoformat(start) + timedelta(days=1)).isoformat(), "Europe/Prague")
        assert len(list(up_to(hourly.after(Millis(begin - 1)), Millis(end - 1)))) == hours


@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15 1-3 * * *", "0 0 1 * *", "*/30 2 * * sun"]),
    st.sampled_from(["Europe/Prague", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    st.lists(st.integers(0, 3 * 24 * 3600), min_size=1, max_size=8),
    st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]),
)
def test_whenever_one_looks_each_time_comes_once(cron: str, tz: str, looks: list[int], day: str) -> None:
    schedule = parse_schedule(cron, tz, missed="all")
    begin = at(f"{day}T00:00")
    end = Millis(begin + 3 * 24 * 3600 * 1000)
    found: list[Millis] = []
    seen = begin
    for look in [*sorted(Millis(begin + second * 1000) for second in looks), end]:
        found += due(schedule, seen, look, was_down=True).times
        seen = look
    assert found == list(up_to(schedule.after(begin), end))
    assert found == sorted(set(found))


def test_a_time_is_due_from_its_own_millisecond_on() -> None:
    daily = parse_schedule("0 12 * * *")
    noon = at("2026-05-01T12:00")
    assert due(daily, Millis(noon - 5_000), Millis(noon - 1), was_down=False) == Due(())
    assert due(daily, Millis(noon - 1), noon, was_down=False) == Due((noon,))
    assert due(daily, noon, Millis(noon + 999), was_down=False) == Due(())
    assert next(daily.before(noon)) == noon
    assert next(daily.before(Millis(noon - 1))) == noon - 24 * 3600 * 1000


def test_what_becomes_of_times_that_passed_while_no_server_ran() -> None:
    seen, now = at("2026-05-01T12:30"), at("2026-05-01T16:10")
    hours = [at(f"2026-05-01T{hour}:00") for hour in (13, 14, 15, 16)]
    for missed, expected in (
        (Missed.SKIP, Due((), 4)),
        (Missed.LATEST, Due((hours[-1],), 3)),
        (Missed.ALL, Due(tuple(hours))),
    ):
        assert due(parse_schedule("0 * * * *", missed=missed), seen, now, was_down=True) == expected


def test_a_turn_that_comes_late_misses_nothing() -> None:
    seen, now = at("2026-05-01T12:30"), at("2026-05-01T13:20")
    skip = parse_schedule("0 * * * *", missed="skip")
    assert due(skip, seen, now, was_down=False) == Due((at("2026-05-01T13:00"),))


def test_a_clock_set_forward_while_the_server_runs_gives_the_latest_time_alone() -> None:
    seen, now = at("2026-05-01T12:30"), at("2026-05-04T12:30")
    skip = parse_schedule("0 * * * *", missed="skip")
    assert due(skip, seen, now, was_down=False) == Due((at("2026-05-04T12:00"),), 71)


def test_years_without_a_server_are_counted_and_not_all_made_up_for() -> None:
    seen, now = at("2025-01-01T00:00"), at("2025-01-31T00:00")
    minutes = 30 * 24 * 60
    every = due(parse_schedule("* * * * *", missed="all"), seen, now, was_down=True)
    assert (len(every.times), every.passed_over) == (MISSED_MAX, minutes - MISSED_MAX)
    latest = due(parse_schedule("* * * * *"), seen, now, was_down=True)
    assert latest == Due((now,), minutes - 1)


@pytest.mark.parametrize(
    ("cron", "tz", "wrong"),
    [
        ("61 * * * *", "UTC", "bad minute"),
        ("* * * *", "UTC", "five fields are needed"),
        ("* * * * * *", "UTC", "five fields are needed"),
        ("0 0 31 2 *", "UTC", "bad day-of-month"),
        ("noon", "UTC", "five fields are needed"),
        ("0 2 * * *", "Europe/Pragu", "is no time zone"),
        ("0 2 * * *", "../../etc/passwd", "is no time zone"),
        ("0 2 * * *", "", "is no time zone"),
    ],
)
def test_what_is_no_schedule_is_told(cron: str, tz: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_schedule(cron, tz)


def test_nicknames_are_those_of_cron() -> None:
    assert parse_schedule("@daily").cron == "0 0 * * *"
    assert parse_schedule(" 0  2 * * mon-fri ").cron == "0 2 * * mon-fri"
    assert datetime.fromtimestamp(next(parse_schedule("@hourly").after(at("2026-01-01T00:30"))) / 1000, UTC).hour == 1

from __future__ import annotations

from fractions import Fraction

import pytest

from flowbatch.spec import quantities


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        (90, 90_000),
        (0.5, 500),
        ("90", 90_000),
        ("1.5", 1_500),
        ("90s", 90_000),
        ("20m", 1_200_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("500ms", 500),
        ("1m1ms", 60_001),
        ("1.5h", 5_400_000),
    ],
)
def test_durations(written: object, milliseconds: int) -> None:
    assert quantities.duration_ms(written) == milliseconds


@pytest.mark.parametrize(
    "written",
    [
        0,
        -1,
        "",
        "0s",
        "5x",
        "m",
        "30m1h",
        "1h1h",
        " 5s",
        "1 h",
        True,
        None,
        [],
        1e300,
        10**40,
        1e308,
        float("inf"),
        "9" * 70 + "s",
        "20000d",
    ],
)
def test_no_durations(written: object) -> None:
    with pytest.raises(ValueError, match=r"duration|longer than"):
        quantities.duration_ms(written)


@pytest.mark.parametrize("written", [316_224_001, 316_224_000.5, "316224001", 10**40])
def test_the_longest_duration_is_told(written: object) -> None:
    assert quantities.duration_ms(316_224_000) == 316_224_000_000
    with pytest.raises(ValueError, match="longer than ten years; 316224000 seconds are the most"):
        quantities.duration_ms(written)


@pytest.mark.parametrize(
    ("written", "mib"),
    [(512, 512), ("512MiB", 512), ("3GiB", 3072), ("2GB", 1908), ("1.5GiB", 1536), ("1KiB", 1), ("1 TiB", 1 << 20)],
)
def test_sizes(written: object, mib: int) -> None:
    assert quantities.size_mib(written) == mib


@pytest.mark.parametrize("written", [0, -1, 0.5, "3", "3g", "GiB", "0MiB", True, None, "9" * 30 + "TB", 1 << 40])
def test_no_sizes(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        quantities.size_mib(written)


@pytest.mark.parametrize(("written", "milli"), [(1, 1000), (0.25, 250), (1.001, 1001), (0.0011, 2), (192, 192_000)])
def test_vcpus(written: object, milli: int) -> None:
    assert quantities.vcpus_milli(written) == milli


@pytest.mark.parametrize("written", [0, -1, "1", True, None, 1e9])
def test_no_vcpus(written: object) -> None:
    with pytest.raises(ValueError, match="vCPUs"):
        quantities.vcpus_milli(written)


def test_ranges_include_both_ends_and_run_both_ways() -> None:
    assert [*(quantities.span("0..3") or ())] == [0, 1, 2, 3]
    assert [*(quantities.span("2..-1") or ())] == [2, 1, 0, -1]
    assert quantities.span("a..b") is None
    assert quantities.span("1..") is None


def test_shares_are_exact() -> None:
    assert quantities.share(3) == 3
    assert quantities.share("0.5%") == Fraction(1, 200)
    assert quantities.share("100%") == 1
    for nonsense in (-1, "101%", "5", 0.5, None, True, "-1%"):
        with pytest.raises(ValueError, match=r"count|tolerate"):
            quantities.share(nonsense)


def test_backoffs() -> None:
    assert quantities.backoff_ms("10s..5m") == (10_000, 300_000)
    assert quantities.backoff_ms("10s") == (10_000, 10_000)
    assert quantities.backoff_ms(3) == (3_000, 3_000)
    with pytest.raises(ValueError, match=r"runs backwards; write 10s\.\.5m"):
        quantities.backoff_ms("5m..10s")


def test_factors() -> None:
    assert quantities.factor("x2") == 2.0
    assert quantities.factor("x1.5") == 1.5
    for nonsense in ("2", "x1", "x0.5", 2, "x200", None):
        with pytest.raises(ValueError, match="factor"):
            quantities.factor(nonsense)

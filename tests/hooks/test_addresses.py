"""Request forgery: every spelling of an address that is not public."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.hooks.addresses import refusal

INSIDE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.100.100.200", "192.0.0.8", "192.88.99.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:7f00:0:100:808:808", "::ffff:0:127.0.0.1", "::5efe:127.0.0.1",
    "2001:4860::200:5efe:a9fe:a9fe", "168.63.129.16", "fd00::5efe:8.8.8.8", "fe80::5efe:8.8.8.8", "64:ff9b:1::5efe:8.8.8.8", "2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert "is not a public address" in (refusal(address, 443, ()) or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(address: str) -> None:
    assert refusal(address, 443, ()) is None
    assert "port 22" in (refusal(address, 22, ()) or "")


@given(st.ip_addresses(v=4))
def test_no_way_of_writing_an_ipv4_address_into_an_ipv6_one_changes_the_answer(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    refused = refusal(str(address), 443, ()) is not None
    for spelling in (
        f"::ffff:{address}",
        str(ipaddress.IPv6Address((0x64FF9B << 96) | number)),
        str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)),
        f"::ffff:0:{address}",
        f"2606:4700::5efe:{address}",
    ):
        assert (refusal(spelling, 443, ()) is not None) == refused, spelling


def test_the_settings_may_allow_a_network_on_any_port() -> None:
    home = (ipaddress.ip_network("10.0.0.0/8"),)
    assert refusal("10.1.2.3", 9093, home) is None
    assert refusal("::ffff:10.1.2.3", 9093, home) is None
    assert refusal("192.168.1.1", 443, home) is not None


@pytest.mark.parametrize("text", ["localhost", "0x7f.1", "127.1", "", "１２７.0.0.1", "1.1.1.1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "is no address" in (refusal(text, 443, ()) or "")

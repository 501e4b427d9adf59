"""Which addresses are of the Internet, so that a URL of a row may lead there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecferry.transforms.embed.images.address import is_public

INSIDE = [
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.8", "192.0.2.1"),
    *("198.18.0.1", "203.0.113.9", "224.0.0.1", "224.0.1.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
    *("fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "100::1", "::ffff:127.0.0.1"),
    *("::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    *("64:ff9b:1::a00:1", "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:7f00:1::"),
]
OUTSIDE = [
    *("8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700::1111", "2001:4860:4860::8888"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
]
# Where a machine in a cloud learns its settings, names and keys.
CLOUD = {
    "AWS": ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"],
    "Alibaba": ["100.100.100.200", "100.100.2.136", "100.100.2.138"],
    "Azure": ["168.63.129.16", "169.254.169.254", "fe80::1234:5678:9abc"],
    "DigitalOcean, Hetzner, OpenStack": ["169.254.169.254", "fe80::a9fe:a9fe"],
    "Google": ["169.254.169.254", "169.254.169.253", "fd20:ce::254"],
    "Oracle": ["192.0.0.192", "169.254.169.254", "fd00:c1::a9fe:a9fe"],
    "Scaleway": ["169.254.42.42", "fd00:42::42"],
    "Tencent": ["169.254.0.23", "169.254.10.10"],
}
# Neighbours that are of the Internet, so that no more is refused than must be.
BESIDE = ["168.63.129.15", "168.63.129.17", "168.63.128.16", "192.0.1.1", "192.88.100.1"]
WITHOUT_HOSTS = ["192.88.99.1", "2001:20::1", "3fff::1", "5f00::1", "::ffff:0:7f00:1"]


@pytest.mark.parametrize(
    "address", [pytest.param(a, id=f"{of}-{a}") for of, them in CLOUD.items() for a in them]
)
def test_the_services_of_a_cloud_are_not_of_the_internet(address: str) -> None:
    """In every form that leads there."""
    assert not is_public(address)
    if ":" not in address:
        one, two, three, four = (int(part) for part in address.split("."))
        short = f"{one:02x}{two:02x}:{three:02x}{four:02x}"
        forms = [f"::ffff:{address}", f"::{address}", f"64:ff9b::{short}", f"2002:{short}::1"]
        assert [form for form in forms if is_public(form)] == []


@pytest.mark.parametrize("address", BESIDE)
def test_the_neighbours_of_a_service_are_of_the_internet(address: str) -> None:
    """One address is refused, not its network."""
    assert is_public(address)


@pytest.mark.parametrize("address", WITHOUT_HOSTS)
def test_an_address_without_a_host_is_not_of_the_internet(address: str) -> None:
    """Whichever Python it is, and whatever its tables know."""
    assert not is_public(address)


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_is_not_of_the_internet_is_known(address: str) -> None:
    """Loopback, private, link-local, shared, multicast and reserved, also inside IPv6."""
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_internet_is_known(address: str) -> None:
    """Also where it stands inside an IPv6 address."""
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_a_private_address_stays_private_in_every_ipv6_form(address: Any) -> None:
    """Mapped, compatible, 6to4 and NAT64 lead to the same host."""
    number = int(address)
    forms = [
        f"::ffff:{address}",
        f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ]
    if not is_public(str(address)):
        assert not any(map(is_public, forms))

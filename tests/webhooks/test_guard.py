"""The guard: no spelling of an address of this machine, or of a network behind it, gets through; hosts can be opened."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.webhooks.guard import ClosedError, Guard, is_internal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

pytestmark = pytest.mark.anyio

INTERNAL_4 = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32"),
]
"""Of the IANA registry of special-purpose addresses, with what clouds have besides."""
INTERNAL_6 = [
    *("::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48", "2001:db8::/32"),
    *("2001:10::/28", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128"),
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "2606:2800:220:1::1",
    "2a00:1450::1",
]


def inside(networks: Sequence[str]) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    """Any address of any of these networks, their first and last ones more often than others."""

    def of(text: str) -> st.SearchStrategy[IPv4Address | IPv6Address]:
        network = ip_network(text)
        return st.integers(int(network.network_address), int(network.broadcast_address)).map(type(network.network_address))

    return st.sampled_from(networks).flatmap(of)


def resolving(*answers: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return answers

    return resolve


@given(address=inside(INTERNAL_4) | inside(INTERNAL_6))
def test_no_special_address_is_open(address: IPv4Address | IPv6Address) -> None:
    assert is_internal(address)


@given(address=inside(INTERNAL_4))
def test_no_internal_address_is_open_in_the_dress_of_ipv6(address: IPv4Address) -> None:
    number = int(address)
    assert is_internal(IPv6Address((0xFFFF << 32) | number))
    assert is_internal(IPv6Address((0x64FF9B << 96) | number))
    assert is_internal(IPv6Address((0x2002 << 112) | (number << 80)))
    assert is_internal(IPv6Address(number))


@given(address=st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_what_is_open_is_global(address: IPv4Address | IPv6Address) -> None:
    if not is_internal(address):
        assert address.is_global or address in ip_network("64:ff9b::/96" if address.version == 6 else "0.0.0.0/32")
        assert not address.is_multicast


@pytest.mark.parametrize("text", OPEN)
def test_the_open_internet_is_open(text: str) -> None:
    address = ip_address(text)
    assert not is_internal(address)
    if isinstance(address, IPv4Address):
        assert not is_internal(IPv6Address((0x64FF9B << 96) | int(address)))  # what a network of IPv6 alone makes of it


@given(address=inside(INTERNAL_4), spelling=st.sampled_from(["{0}", "{1}", "{2:#x}", "{3}", "{4}", "[::ffff:{0}]"]))
def test_no_spelling_of_an_internal_address_is_accepted(address: IPv4Address, spelling: str) -> None:
    one, two, three, four = address.packed
    octal = ".".join(f"0{part:o}" for part in address.packed)
    host = spelling.format(address, int(address), int(address), octal, f"{one}.{(two << 16) | (three << 8) | four}")
    with pytest.raises(ClosedError, match=r"callback_allowed_hosts|no address"):
        Guard().check(f"https://{host}/")


@given(others=st.lists(st.sampled_from(OPEN), max_size=3), closed=inside(INTERNAL_4) | inside(INTERNAL_6), at=st.integers(0, 3))
async def test_a_name_with_one_internal_address_among_others_is_closed(
    others: list[str], closed: IPv4Address | IPv6Address, at: int
) -> None:
    addresses = [*others[:at], str(closed), *others[at:]]
    with pytest.raises(ClosedError):
        await Guard(resolve=resolving(*addresses)).target("https://example.com/")
    assert (await Guard(["example.com"], resolve=resolving(*addresses)).target("https://example.com/")).addresses == tuple(
        addresses
    )


async def test_what_is_no_address_and_one_of_a_single_link_are_closed() -> None:
    for answer in ("nonsense", "fe80::1%eth0"):
        with pytest.raises(ClosedError):
            await Guard(resolve=resolving(answer)).target("https://example.com/")
    with pytest.raises(OSError, match="no address"):
        await Guard(resolve=resolving()).target("https://example.com/")


async def test_the_system_resolves_names_of_this_machine_to_closed_addresses() -> None:
    with pytest.raises(ClosedError):
        await Guard().target("https://127.0.0.1.nip.invalid@localhost/")
    with pytest.raises((ClosedError, socket.gaierror)):
        await Guard().target(f"https://{socket.gethostname()}/")
    with pytest.raises(OSError):  # no name may have so long a part
        await Guard().target(f"https://{'a' * 70}.example/")


@pytest.mark.parametrize(
    ("allowed", "url", "opened"),
    [
        ("127.0.0.1", "http://127.0.0.1:9/", True),
        ("127.0.0.1:80", "http://127.0.0.1/", True),
        ("127.0.0.1:80", "http://127.0.0.1:8080/", False),
        ("127.0.0.1:443", "https://127.0.0.1/", True),
        ("::1", "http://[::1]:8080/", True),
        ("[::1]", "http://[0:0::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1:8080]/", False),
        ("localhost", "http://LOCALHOST./", True),
        ("Localhost", "http://localhost:22/", True),
        ("host", "http://localhost/", False),
        ("127.0.0.1", "http://127.1/", False),
        ("127.0.0.1", "http://127.0.0.1.localhost/", False),
    ],
)
def test_a_host_is_opened_by_its_name_with_or_without_a_port(allowed: str, url: str, *, opened: bool) -> None:
    guard = Guard([allowed])
    if opened:
        guard.check(url)
    else:
        with pytest.raises(ClosedError):
            guard.check(url)


@given(text=st.text() | st.text().map("https://{}/".format) | st.text().map("http://example.com{}".format))
def test_any_text_is_an_address_or_is_refused_with_a_sentence(text: str) -> None:
    try:
        said = Guard().check(text).host
    except ClosedError as error:
        said = str(error)
    assert said

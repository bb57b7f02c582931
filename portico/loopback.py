"""Loopback: which addresses only this machine reaches. Every room asks here, so that none is stricter or laxer than another."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def is_loopback(host: str) -> bool:
    """Whether an address, or `localhost`, is one that only this machine reaches: 127.0.0.0/8, ::1, and the first within IPv6."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback

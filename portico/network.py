"""Network: whose addresses are one caller. Whoever counts callers by address asks here, so that none is tricked by many of them."""

from __future__ import annotations


def network_of(payer: str) -> str:
    """An IPv6 address stands for its /64: whoever has one address of it has them all. Anything else is what it is."""
    if payer.count(":") < 2 or "%" in payer:  # noqa: PLR2004  # the fewest that an IPv6 address has
        return payer
    from ipaddress import AddressValueError, IPv6Address  # noqa: PLC0415  # only who has such callers pays for it

    try:
        address = IPv6Address(payer)
    except AddressValueError:
        return payer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"

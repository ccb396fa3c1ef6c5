"""Who calls: an address that a caller can't invent, and the name under which its share is kept; or a key."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from model_api.repository.keys import Rate

IPV6_PREFIX = 64  # one customer has at least that much, and may use every address of it


@dataclass(frozen=True)
class Caller:
    """Whom a request's key names. `id` may be logged; it is "" for who has none."""

    id: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None  # None: all
    rates: tuple[Rate, ...] = ()


ANONYMOUS = Caller("", frozenset())


def client_address(peer: str, forwarded: str, proxy_hops: int) -> str:
    """The client's address, `proxy_hops` trusted proxies away; `forwarded` is X-Forwarded-For, "" if there is none.

    Each trusted proxy appends the peer that it saw, so the entry that many places from the end is the first that a
    caller can't invent. Where it is missing or no address, the direct peer stands for the caller.
    """
    if not proxy_hops:
        return peer
    entries = forwarded.rsplit(",", proxy_hops)
    if len(entries) < proxy_hops or not forwarded:
        return peer
    entry = entries[-proxy_hops].strip()
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ipaddress.ip_address(entry))
    except ValueError:
        return peer


@lru_cache(maxsize=4096)
def caller_of(address: str) -> str:
    """Whom an address belongs to: itself, an IPv6 network of /64, or the IPv4 address inside an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed.packed, IPV6_PREFIX), strict=False))

"""From which address a client comes, and how many connections each address has. No I/O."""

import re
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

IPV6_PREFIX = 64  # one customer has at least so many addresses, so they count as one

_FORWARDED_FOR = re.compile(r'(?:^|[;\s])for="?([^;",\s]+)', re.IGNORECASE)


def check_network(text: str) -> str:
    """Return an address or network (CIDR) in its usual form; raises `ValueError` if it is neither."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not an IP address or network; write 10.0.0.7 or 10.0.0.0/8") from None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def read_address(text: str) -> Address | None:
    """An address as proxies write it: also with a port, in brackets, or as IPv4 within IPv6. None for other words."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Addresses:
    """Counts connections by address. Lives as long as the replica; used by one event loop only.

    Behind a proxy every connection comes from the proxy. What a proxy says of its client counts only if the proxy is
    one of `trusted`, because anybody can send such a header.
    """

    def __init__(self, limit: int, trusted: Collection[str]) -> None:
        """`limit` connections of an address, 0: no limit. `trusted` are addresses and networks of proxies."""
        self._limit = limit
        self._trusted = [ip_network(text) for text in trusted]
        self._counts: dict[str, int] = {}

    def key_of(self, peer: str | None, x_forwarded_for: Collection[str], forwarded: Collection[str]) -> str | None:
        """What a connection counts as; None: it does not count.

        `peer` is the TCP peer; the others are the values of the headers X-Forwarded-For and Forwarded. If both are
        there, the former counts.
        """
        if not self._limit or (address := self.client_of(peer, x_forwarded_for, forwarded)) is None:
            return None
        if isinstance(address, IPv6Address):
            return str(IPv6Network((address, IPV6_PREFIX), strict=False))
        return str(address)

    def client_of(
        self, peer: str | None, x_forwarded_for: Collection[str], forwarded: Collection[str]
    ) -> Address | None:
        """The client's address; None where it is not known. The arguments are those of `key_of`."""
        if peer is None or (address := read_address(peer)) is None:
            return None
        for hop in _hops(x_forwarded_for, forwarded):
            if not self._is_trusted(address):
                break
            further = read_address(hop)
            if further is None:  # `unknown`, or a name that hides the client: it counts as its proxy
                break
            address = further
        return address

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def is_full(self, key: str | None) -> bool:
        return key is not None and self._counts.get(key, 0) >= self._limit

    def enter(self, key: str | None) -> None:
        if key is not None:
            self._counts[key] = self._counts.get(key, 0) + 1

    def leave(self, key: str | None) -> None:
        if key is not None:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def _hops(x_forwarded_for: Collection[str], forwarded: Collection[str]) -> Iterator[str]:
    """The addresses that proxies have added, the nearest first."""
    if x_forwarded_for:
        yield from reversed(",".join(x_forwarded_for).split(","))
        return
    for element in reversed(",".join(forwarded).split(",")):
        match = _FORWARDED_FOR.search(element)
        yield match[1] if match else ""

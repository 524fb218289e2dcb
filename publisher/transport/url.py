"""What a Redis URL names: one server, the primary that Sentinels know, or a Cluster. Knows no connection."""

import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

Kind = Literal["server", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[str, Kind]] = {
    "redis": ("redis", "server"),
    "rediss": ("rediss", "server"),
    "unix": ("unix", "server"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
}
_PORTS: dict[Kind, int] = {"server": 6_379, "sentinel": 26_379, "cluster": 6_379}
_FORMS: dict[Kind, str] = {
    "server": "redis://user:password@host:6379/0",
    "sentinel": "redis+sentinel://user:password@host:26379,host2:26379/mymaster/0",
    "cluster": "redis+cluster://user:password@host:6379,host2:6379",
}
FORMS = f"{_FORMS['server']}, unix:///path, {_FORMS['sentinel']} or {_FORMS['cluster']}; rediss... for TLS"
# The options that are allowed after the `?`: those that redis-py's connections know, ordinary and `async` ones. But not
# `protocol` and `decode_responses`: replicas and publishers choose the form of the answers that they read.
_OPTIONS = (
    "db", "username", "password", "client_name", "max_connections", "socket_timeout", "socket_connect_timeout",
    "socket_read_size", "health_check_interval", "retry_on_timeout",
)  # fmt: skip
_TCP_OPTIONS = ("socket_keepalive",)
_TLS_OPTIONS = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs",
    "ssl_check_hostname", "ssl_min_version", "ssl_ciphers",
)  # fmt: skip
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
LONGEST_NAME = 40  # characters of an unknown option's name, if it is to be repeated
MOST_PORT = 65_535
_NOT_IN_A_HOST = re.compile(r"[\s\x00-\x1f\x7f/?#@\\\[\]]")
SENTINEL_SECONDS = 0.5  # for a connect to a Sentinel, and for its answer: there are others


class RedisUrl(NamedTuple):
    """A URL, taken apart."""

    kind: Kind
    url: str
    """As it was given."""
    scheme: str
    """redis or rediss, the same for all its servers; or unix."""
    user: str = ""
    """`user:password@`, as it stands in a URL; or nothing."""
    hosts: tuple[tuple[str, int], ...] = ()
    """The server, the Sentinels, or the nodes of the Cluster to ask first; none for a Unix socket."""
    service: str = ""
    """The name by which Sentinels know the primary."""
    database: int = 0
    options: tuple[tuple[str, str], ...] = ()
    """What stands behind the `?`, for redis-py."""
    sentinel_user: str = ""
    """`user:password@` of the Sentinels, which have their own."""

    @classmethod
    def parse(cls, url: str) -> "RedisUrl":
        """Raises `ValueError`, which says what is wrong and what to write, and never repeats a password."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise ValueError(f"{'unknown scheme' if separator else 'the scheme is missing'}; write {FORMS}")
        base, kind = _SCHEMES[scheme]
        try:
            authority = _authority(rest)
            _check_user(authority if scheme == "unix" else authority.rpartition("@")[0])
            if scheme == "unix":
                _options(rest.partition("#")[0].partition("?")[2], kind, base)
                return cls(kind, url, base)
            return cls._parse(kind, url, base, rest)
        except ValueError as error:
            form = "unix:///path" if scheme == "unix" else _FORMS[kind].replace("redis", base, 1)
            raise ValueError(f"{error}; write {form}") from None

    @classmethod
    def _parse(cls, kind: Kind, url: str, scheme: str, rest: str) -> "RedisUrl":
        # `urlsplit` cannot read several hosts, so one made-up host replaces them while it reads the rest.
        authority = _authority(rest)
        split = urlsplit(f"//host{rest.removeprefix(authority)}")
        if "@" in split.path + split.fragment and "@" not in authority:
            raise ValueError("the user or password contains / ? # or @: percent-encode them as %2F %3F %23 %40")
        if split.fragment:
            raise ValueError("a # ends a URL; percent-encode it as %23")
        user, at, hosts = authority.rpartition("@")
        if kind != "server" and "@" in user:
            raise ValueError("more than one @: put user:password once, before the first host, with @ in them as %40")
        options = _options(split.query, kind, scheme)
        sentinel_user = _user(options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
        path = unquote(split.path).strip("/")
        service, database = (path.partition("/")[0], path.partition("/")[2]) if kind == "sentinel" else ("", path)
        if kind == "sentinel" and not service:
            raise ValueError("the service name is missing: the name by which the Sentinels know the primary")
        if database and not (database.isascii() and database.isdecimal()):
            raise ValueError("the database, after the last /, must be a number")
        if kind == "cluster" and database.strip("0"):
            raise ValueError("a Cluster has only database 0")
        return cls(
            kind, url, scheme, user + at, _hosts(hosts, kind), service, int(database or 0), tuple(options.items()),
            sentinel_user,
        )  # fmt: skip

    def at(self, host: str, port: int) -> str:
        """The usual URL of one server behind this one, with the same user, database and options.

        Raises redis-py's `ConnectionError` for an invalid address. Servers and Sentinels name others' addresses, and a
        crafted host would send user and password elsewhere.
        """
        if not is_address(host, port):
            from redis.exceptions import ConnectionError  # here: redis-py takes long to load

            raise ConnectionError(f"{host[:LONGEST_NAME]!r}:{str(port)[:LONGEST_NAME]} is not a valid server address")
        return _join(self.scheme, self.user, host, port, self.database, self.options)

    def at_sentinel(self, host: str, port: int) -> str:
        """The usual URL of a Sentinel: TLS as for the servers, a user of its own, and little patience."""
        tls = tuple(option for option in self.options if option[0].startswith("ssl_"))
        bounds = tuple((name, str(SENTINEL_SECONDS)) for name in ("socket_timeout", "socket_connect_timeout"))
        return _join(self.scheme, self.sentinel_user, host, port, 0, tls + bounds)


def is_address(host: str, port: int) -> bool:
    """Whether a URL can contain this host and port, and is read back as the same host and port."""
    if _NOT_IN_A_HOST.search(unquote(host)):  # redis-py undoes %XX in it
        return False
    try:
        host.encode("idna")  # as every resolver is asked
        split = urlsplit(f"//[{host}]:{port}" if ":" in host else f"//{host}:{port}")
        return 0 < port <= MOST_PORT and (split.hostname, split.port) == (host.lower(), port)
    except ValueError:
        return False


def known_options(kind: Kind, scheme: str) -> tuple[str, ...]:
    """The names that may stand behind the `?`."""
    names = _OPTIONS if scheme == "unix" else _OPTIONS + _TCP_OPTIONS
    return names + (_TLS_OPTIONS if scheme == "rediss" else ()) + (_SENTINEL_OPTIONS if kind == "sentinel" else ())


def _authority(rest: str) -> str:
    """User, password and hosts: what stands between `://` and the path."""
    return rest[: min((index for mark in "/?#" if (index := rest.find(mark)) >= 0), default=len(rest))]


def _check_user(user: str) -> None:
    """Raise `ValueError` for what urllib, which redis-py uses, refuses: urllib's own error repeats the password."""
    try:
        user.encode()  # not of bytes in the environment that are no UTF-8
        urlsplit(f"//{user}")
    except ValueError:
        is_wrong = True
    else:
        is_wrong = "[" in user or "]" in user  # some versions of Python take some of them
    if is_wrong:
        raise ValueError(
            "the user or password contains [ ] or a character beyond ASCII: percent-encode [ ] as %5B %5D, others as "
            "the %XX of their UTF-8 bytes"
        )


def _options(query: str, kind: Kind, scheme: str) -> dict[str, str]:
    options, known = dict(parse_qsl(query, keep_blank_values=True)), known_options(kind, scheme)
    for name in options:
        if name not in known:
            # The value is not repeated: it may be a password under a mistyped name. The name is repeated only if it
            # looks like one: it may be a part of a password that contains a ?, or a key without a name.
            is_name = name.isidentifier() and len(name) <= LONGEST_NAME and "@" not in query and f"{name}=" in query
            shown = f" {name!r}" if is_name else ""
            if name in _TLS_OPTIONS:
                raise ValueError(f"the option{shown} is for TLS: use a rediss scheme")
            raise ValueError(f"unknown option{shown}; the options are {', '.join(known)}")
    # If another option is wrong, redis-py raises a `ValueError` with its name. It checks this option only later.
    if options.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise ValueError("the option 'ssl_cert_reqs' must be none, optional or required")
    return options


def _join(scheme: str, user: str, host: str, port: int, database: int, options: tuple[tuple[str, str], ...]) -> str:
    place = f"[{host}]" if ":" in host else host
    return f"{scheme}://{user}{place}:{port}/{database}{'?' if options else ''}{urlencode(options)}"


def _user(name: str, password: str) -> str:
    return f"{quote(name, safe='')}:{quote(password, safe='')}@" if name or password else ""


def _hosts(text: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    parts = text.split(",")
    if kind == "server" and len(parts) > 1:
        raise ValueError(f"several hosts need Sentinels ({_FORMS['sentinel']}) or a Cluster ({_FORMS['cluster']})")
    return tuple(_host(part, kind, number) for number, part in enumerate(parts, 1))


def _host(text: str, kind: Kind, number: int) -> tuple[str, int]:
    default = _PORTS[kind]
    # The text is not repeated: with a / in it, a password looks like a port.
    wrong = f"host {number} is not a valid host:port (port 1 to 65535, an IPv6 address in brackets: [::1]:{default})"
    try:
        split = urlsplit(f"//{text}")
        port = default if split.port is None else split.port
    except ValueError:
        raise ValueError(wrong) from None
    host = split.hostname or ("localhost" if kind == "server" else "")
    if split.path or not is_address(host, port):
        raise ValueError(wrong)
    return host, port

"""Text for people without its secrets and control characters: URLs, log lines, the errors that viewers read."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, unquote_plus

LEAST_SECRET = 12  # characters. A shorter password may be a usual word; hiding it everywhere would give it away

# Text that looks like a secret. To hide too much does little harm. Every repetition that can fail is bounded, and a
# name is read once, from its first letter: otherwise a long text (base64, say) would take quadratic time.
_SECRETS = (
    (re.compile(r"(?<=://)([^\s/?#@:]{0,256}):\S{0,1024}@"), r"\1:***@"),  # to the last @: passwords may hold / and @
    (re.compile(r"(?<=://)[^\s/?#@:]{1,1024}@"), r"***@"),  # a token as the user
    (re.compile(r"(password=)[^&\s]*", re.IGNORECASE), r"\1***"),
    (
        re.compile(
            r"(?<![\w-])([\w-]*?(?:token|secret|passw(?:or)?d|pwd|signature|credential|api-?_?key|access-?_?key|auth)"
            r"[\"']?\s{0,4}[=:]\s{0,4}[\"']?)(?!\*)[^\s&;,'\"<>)\]}]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"([?&](?:sig|key|code)=)[^\s&'\"<>)]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,4096}\.[\w-]{2,4096}(\.[\w-]{0,4096})?"), "***"),  # a JWT: `{"` in base64url
    (re.compile(r"(bearer\s+)\S+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), r"\1 ***"),
)

# The parts of a Redis URL that `redacted_redis_url` shows: hosts with ports, [addresses], databases, these options.
_HOSTS = re.compile(r"(\[[^\]]*\]|:\d{1,5}(?=,|$))|:.*", re.DOTALL)
_DATABASE = re.compile(r"(/\d*)?")
_SERVICE = re.compile(r"/[^/#]*(/\d*)?")
_PATHS = {"unix": re.compile(r".*"), "redis+sentinel": _SERVICE, "rediss+sentinel": _SERVICE}
_HARMLESS = re.compile(
    r"(db|protocol|max_connections|health_check_interval|timeout|socket_\w+|retry_\w+)=([\d.]{0,9}|true|false|yes|no)"
    r"|((sentinel_)?username|client_name|ssl_(?!password)\w+)=[^@]*",
    re.IGNORECASE,
)


def redacted(text: str, known: Sequence[str] = ()) -> str:
    """`text` with `***` for the `known` secrets (see `secrets_of`) and for all that looks like one."""
    for secret in known:
        text = text.replace(secret, "***")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def secrets_of(redis_url: str | None, keys: Iterable[str]) -> list[str]:
    """The secrets of a process, the longest first: `keys`, and the URL's passwords as written and as decoded.

    Found by a plain search, because a URL that cannot be parsed has a password, too.
    """
    rest = (redis_url or "").split("://", 1)[-1]
    # The user ends at the @ before the path; without one there, at the last @: a password may have a / in it.
    user = rest.partition("/")[0].rpartition("@")[0] or rest.rpartition("@")[0]
    options = (option.partition("=") for option in rest.partition("?")[2].split("&"))
    passwords = [user.partition(":")[2] or user]  # a name alone may be a token
    passwords += [value for name, _, value in options if "password" in name.lower()]
    forms = {form for password in passwords for form in (password, unquote(password), unquote_plus(password))}
    # The longest first: one secret may be a part of another.
    return sorted({text for text in {*keys, *forms} if len(text) >= LEAST_SECRET}, key=len, reverse=True)


def redacted_redis_url(url: str) -> str:
    """A Redis URL for a log line. A mistyped one loses more than it must.

    A name alone before the `@` may be a token. In the place of a port or database may stand a password whose `@host`
    was forgotten.
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    address, mark, query = rest.partition("?")
    user, at, host = address.rpartition("@")
    if "@" in query and not at:  # perhaps a user with a ? in it
        return f"{scheme}{separator}***"
    name, _, password = user.partition(":")
    user = f"{name}:***" if password else "***" if at else ""
    end = min((index for index in (host.find("/"), host.find("#")) if index >= 0), default=len(host))
    shown, path = _HOSTS.sub(lambda match: match[1] or ":***", host[:end]), host[end:]
    if shown.endswith(":***"):  # the secret may continue in the path
        return f"{scheme}{separator}{user}{at}{shown}"
    if not _PATHS.get(scheme, _DATABASE).fullmatch(path):
        path = "/***"
    return f"{scheme}{separator}{user}{at}{shown}{path}{mark}{'&'.join(map(_redacted_option, query.split('&')))}"


def _redacted_option(option: str) -> str:
    if _HARMLESS.fullmatch(option):
        return option
    name, equals, value = option.partition("=")
    is_name = name.isidentifier() and equals and "@" not in value
    return f"{name}=***" if is_name else "***" if option else ""


def redacted_web_url(url: str) -> str:
    """A URL of a gateway (http, ws) in one line, without its user and query."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    address, mark, query = rest.partition("?")
    if "@" in query or "#" in address:  # the user, or the query, may begin anywhere
        return escaped(f"{scheme}{separator}***")
    _, at, address = address.rpartition("@")
    return escaped(f"{scheme}{separator}{'***@' if at else ''}{address}{'?***' if mark else ''}")


def escaped(text: str) -> str:
    """`text` in one line; characters that move a cursor, end a line or change the direction of text as `\\xNN`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

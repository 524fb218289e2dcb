"""What an error of Redis means for who runs it, and what to do: for log lines, `/readyz` and errors at the start."""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Advice(NamedTuple):
    """What one kind of error means."""

    meaning: str
    """A short name; two errors with the same one are the same trouble."""
    hint: str
    """One or two sentences that say what to do; empty where nothing is known."""


UNKNOWN = Advice("unknown", "")

CLUSTER = (
    "It is one node of a Redis Cluster. Name the Cluster, by some of its nodes: "
    "REDIS_URL=redis+cluster://user:password@host:6379,host2:6379."
)
REPLICA = (
    "It is a replica, perhaps since a failover, and events are published at its primary: "
    "point REDIS_URL to the primary, or make this server the primary (REPLICAOF NO ONE)."
)

STRICT = Advice(
    "certificate",
    "Python 3.13 and newer check certificates strictly. Make this one again; an authority needs the extensions "
    "basicConstraints=critical,CA:TRUE, keyUsage=critical,keyCertSign,cRLSign and subjectKeyIdentifier=hash.",
)

# By the code that an error of Redis begins with.
_BY_CODE = {
    "WRONGPASS": Advice(
        "password",
        "Redis does not take the user or password of REDIS_URL. Set the right ones (special characters as %XX) and "
        "start this process again; or, while passwords are changed, let Redis take both: ACL SETUSER <user> >old >new.",
    ),
    "NOAUTH": Advice(
        "password", "Redis wants a password. Put it into the URL: REDIS_URL=redis://user:password@host:port/0."
    ),
    "NOPERM": Advice(
        "rights",
        "The user of REDIS_URL lacks a right. Give it those that stand under ACL SETUSER in docs/operating.md (with "
        "PROGRESS_NAMESPACE set, its patterns begin with the namespace).",
    ),
    "READONLY": Advice("replica", REPLICA),
    "MASTERDOWN": Advice("replica", REPLICA),
    "LOADING": Advice("loading", "Redis reads its data after a start. Nothing is to be done but to wait."),
    "MOVED": Advice("cluster", CLUSTER),
    "ASK": Advice("cluster", CLUSTER),
    "CROSSSLOT": Advice("cluster", CLUSTER),
    "CLUSTERDOWN": Advice(
        "cluster down",
        "A part of the Redis Cluster has no primary, or this node cannot reach most of the others: see CLUSTER INFO "
        "and CLUSTER NODES. A replica takes over after cluster-node-timeout; the other parts work on meanwhile only "
        "with cluster-require-full-coverage no.",
    ),
    "TRYAGAIN": Advice("cluster", "A slot of the Cluster is being moved. Nothing is to be done but to wait."),
    "OOM": Advice(
        "memory",
        "Redis' memory is full. Raise maxmemory, or set maxmemory-policy to volatile-ttl: all that is remembered here "
        "expires after an hour.",
    ),
    "MISCONF": Advice(
        "disk", "Redis cannot save to its disk and so refuses writes. Make room there, or see its log for the reason."
    ),
    "NOREPLICAS": Advice(
        "replicas",
        "Redis refuses writes without its replicas (or was replaced by one of them, and does not know it yet). Bring "
        "them back, or lower min-replicas-to-write.",
    ),
    "WRONGTYPE": Advice("key", "Another program uses this key. Delete it, or set PROGRESS_NAMESPACE."),
    "BUSY": Advice("busy", "A script runs in Redis and does not end. End it with SCRIPT KILL."),
    "NEWERFORMAT": Advice(
        "format",
        "A later version wrote there. Update this process to that version; or, after going back for good, delete "
        "the project's key: docs/upgrading.md.",
    ),
    "NOPROTO": Advice("old", "It knows no RESP3. Use Redis 6 or newer, or Valkey."),
}

# By what an error says, in lower case; the first that is found counts.
_BY_WORDS: Sequence[tuple[str, Advice]] = (
    ("it is a replica", _BY_CODE["READONLY"]),
    ("the user executing the script", _BY_CODE["NOPERM"]),
    ("acl failure in script", _BY_CODE["NOPERM"]),
    ("key usage", STRICT),
    ("key identifier", STRICT),
    ("not marked critical", STRICT),
    ("certificate_verify_failed", Advice(
        "certificate",
        "The certificate of Redis is not trusted. Name the authority that signed it in the URL: "
        "rediss://host:port/0?ssl_ca_certs=/path/ca.pem; and use the host name that stands in the certificate.",
    )),
    ("certificate required", Advice(
        "client certificate",
        "Redis wants a certificate of its clients. Name it in the URL: rediss://host:port/0?"
        "ssl_certfile=/path/client.pem&ssl_keyfile=/path/client.key.",
    )),
    ("unknown ca", Advice(
        "client certificate", "Redis does not trust the certificate of REDIS_URL's ssl_certfile: use one that it does."
    )),
    ("max number of clients", Advice(
        "clients", "Redis has as many connections as it takes. Raise maxclients, or see who holds them: CLIENT LIST."
    )),
    ("db index", Advice("database", "REDIS_URL ends with a database that is not there. Use /0.")),
    ("only hello messages are accepted by sentinel", Advice(
        "sentinel",
        "It is a Sentinel. Name them all, and the primary as they know it: "
        "REDIS_URL=redis+sentinel://user:password@host:26379,host2:26379/mymaster/0.",
    )),
    ("unknown command 'sentinel'", Advice(
        "no sentinel",
        "It is no Sentinel. Name the Sentinels, by ports of their own (as a rule 26379), or the one server: "
        "REDIS_URL=redis://user:password@host:6379/0.",
    )),
    ("no such master", Advice(
        "sentinel name",
        "The URL ends with the name that the Sentinels know the primary by, as in "
        "redis+sentinel://host:26379/mymaster. SENTINEL MASTERS, said to one of them, lists the names.",
    )),
    ("no sentinel tells", Advice(
        "sentinels",
        "Look at the Sentinels that REDIS_URL names: their hosts and ports, whether they run, and their own password, "
        "which is ?sentinel_password=... (the one before the hosts is that of the servers).",
    )),
    ("cluster support disabled", Advice(
        "no cluster", "It is no Cluster. Name the one server: REDIS_URL=redis://user:password@host:6379/0."
    )),
    ("own no slots", Advice(
        "cluster down", "The nodes that REDIS_URL names own no slots, and know none that do: see CLUSTER NODES there."
    )),
    ("owns the project's slot", Advice(
        "cluster down", "A part of the Cluster is served by no node: see CLUSTER NODES, and redis-cli --cluster fix."
    )),
    ("unknown command", Advice(
        "old", "It lacks a command. Use Redis 6 or newer, or Valkey, with no command renamed and no proxy before it."
    )),
    ("no such file", Advice("file", "A file or socket that REDIS_URL names is not there. Mend its path.")),
    ("permission denied", Advice("file", "This process may not open a file or socket that REDIS_URL names.")),
    ("name or service not known", Advice("host", "Nobody knows the host of REDIS_URL. Mend it, or the name service.")),
    ("name resolution", Advice("host", "The name service does not answer for the host of REDIS_URL.")),
    ("nodename nor servname", Advice("host", "Nobody knows the host of REDIS_URL. Mend it, or the name service.")),
    ("connect call failed", Advice("away", "Nobody listens there. Start Redis, or mend host and port of REDIS_URL.")),
    ("refused", Advice("away", "Nobody listens there. Start Redis, or mend host and port of REDIS_URL.")),
    ("no route", Advice("away", "No way leads to the host of REDIS_URL. Look at the network.")),
    ("closed", Advice(
        "closed",
        "It was ended, restarted, or cut this client off (CLIENT KILL; client-output-buffer-limit pubsub, where this "
        "process was too slow): its log says which. A TLS port closes at once, too, without rediss:// or "
        "without an ssl_certfile that it trusts.",
    )),
    ("ssl", Advice(
        "tls", "TLS failed. Where Redis speaks plain, use redis://; else see ssl_... in docs/operating.md."
    )),
    ("probe", Advice(
        "silent", "It is frozen, paused (CLIENT PAUSE) or overloaded, or the network swallows packets: see SLOWLOG GET."
    )),
    ("timeout", Advice(
        "silent",
        "It does not answer: frozen, paused (CLIENT PAUSE), overloaded, behind a firewall, or one side speaks TLS "
        "and the other not (rediss:// or redis://).",
    )),
)  # fmt: skip

_SAME = {
    "reset by peer": "closed",
    "eof occurred": "closed",
    "broken pipe": "closed",
    # redis-py, of a connection on which something stands to be read before anything was asked: a last word of TLS
    "connection not ready": "closed",
    "connection has data": "closed",
    "timed out": "timeout",
    "no answer": "timeout",
}

# redis-py takes the code off an error that has a class of its own; newer ones keep it in `status_code`.
_CODES = {
    "NoPermissionError": "NOPERM",
    "ReadOnlyError": "READONLY",
    "MasterDownError": "MASTERDOWN",
    "BusyLoadingError": "LOADING",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "OutOfMemoryError": "OOM",
}


# Redis quotes the arguments of a command that it does not know, and with them a part of the event. Everything from
# there on is left out, and everything from a JSON object on: a proxy may quote in another way.
_QUOTED = re.compile(r"""(,?\s*\bwith args beginning with|[\s:'"`]*\{\s*\\?").*""", re.IGNORECASE | re.DOTALL)

_ALL = [*_BY_CODE.values(), *(advice for _, advice in _BY_WORDS), UNKNOWN]
MEANINGS = tuple(dict.fromkeys(advice.meaning for advice in _ALL))


def advice_for(error: Exception | str) -> Advice:
    """What an error means: redis-py's, the operating system's, or the text of Redis' own."""
    text = _without_quotes(str(error)) or type(error).__name__
    code = text.removeprefix("-").partition(" ")[0]
    if isinstance(error, Exception):
        code = getattr(error, "status_code", None) or _CODES.get(type(error).__name__, code)
        if type(error).__name__ == "AuthenticationError":
            code = "NOAUTH" if "already authenticated" in text or "required" in text else "WRONGPASS"
        elif "Timeout" in type(error).__name__:
            text = f"timeout: {text}"
    if "no Sentinel tells" not in text and code in _BY_CODE:  # what a Sentinel says is not said by the server
        return _BY_CODE[code]
    words = text.lower()
    for one, other in _SAME.items():
        words = words.replace(one, other)
    return next((advice for known, advice in _BY_WORDS if known in words), UNKNOWN)


def error_text(error: Exception | str) -> str:
    """An error's own words, in one line, without what it quotes of an event."""
    return _without_quotes(str(error)).partition("\n")[0].removeprefix("-") or type(error).__name__


def _without_quotes(text: str) -> str:
    return _QUOTED.sub("", text)


def with_advice(error: Exception | str) -> str:
    """An error's own words and what to do, as whole sentences in one line."""
    return f"{error_text(error).rstrip('.')}. {advice_for(error).hint}".rstrip()

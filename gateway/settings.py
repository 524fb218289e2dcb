"""The settings of a replica. Only this class reads the environment."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

from pydantic import AliasGenerator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.auth.keys import KeySet, check_secret, public_keys, secret_keys, split_secrets
from gateway.http.addresses import check_network
from gateway.http.hosts import MAX_PORT, check_name
from gateway.http.origins import check_origin
from gateway.operations.ports import check_host
from publisher.names import PATTERN_RULE, is_project_pattern
from publisher.revocation import KEEP_SECONDS
from publisher.settings import DEFAULT_REDIS_URL, check_namespace, read_replay
from publisher.tokens import MIN_SECRET_BYTES
from publisher.transport.url import RedisUrl

Seconds = Annotated[float, Field(gt=0, le=86_400)]
LongSeconds = Annotated[float, Field(gt=0, le=KEEP_SECONDS)]
Count = Annotated[int, Field(gt=0, le=10_000_000)]
LogLevel = Literal["debug", "info", "warning", "error"]
PREFIX = "GATEWAY_"
SECRET = {"redis_url", "publish_keys", "admin_keys", "jwt_secret"}  # may come from a file; never shown
FILES = ("redis_url_file", "publish_keys_file", "admin_keys_file", "jwt_secret_file", "jwt_public_keys_file")
MAX_FILE_BYTES = 65_536
MIN_KEY_CHARACTERS = 16  # a publish key is all that keeps the network from writing to every viewer
_COOKIE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[!-+\--~]*")  # printable ASCII without space and comma


class Settings(BaseSettings):
    """A replica's settings: `GATEWAY_<NAME>` in the environment, `--<name>` as a flag of `serve`; a flag wins.

    The descriptions are the help texts of the flags.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        alias_generator=AliasGenerator(validation_alias=lambda field: PREFIX + field.upper()),
        case_sensitive=True,  # as in publishers, which do not read `redis_url`
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # the input may be a key or a password
    )

    # Each file is declared before the field that it fills: a validator sees only the fields above its own.
    redis_url_file: Path | None = Field(
        default=None,
        validation_alias="REDIS_URL_FILE",
        description="Read REDIS_URL from this file, such as a mounted secret.",
    )
    redis_url: str | None = Field(
        default=None,
        validate_default=True,
        validation_alias="REDIS_URL",
        description=f"URL of the Redis that the publishers use. Unset: {DEFAULT_REDIS_URL}, on a loopback GATEWAY_HOST "
        "only: `serve` on any other address, or under systemd, needs it.",
    )
    embedded_redis: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Start an embedded Valkey where REDIS_URL is unset and nothing answers at 127.0.0.1:6379. on: "
        "wherever this replica listens; auto: on a loopback GATEWAY_HOST and not under systemd (`demo`: always); off: "
        "never.",
    )
    namespace: str = Field(
        default="",
        validation_alias="PROGRESS_NAMESPACE",
        description="Prefix of every project:<id> in Redis, so that two environments can share one Redis; set the "
        "publishers' to the same.",
    )
    replay: bool = Field(
        default=True,
        validation_alias="PROGRESS_REPLAY",
        description="off: events posted here are sent by a plain PUBLISH: no seq, no replay. As for publishers.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; 0.0.0.0 for every IPv4 address, :: for IPv6 too.",
    )
    port: int = Field(default=3001, ge=0, le=MAX_PORT, description="Port to listen on; 0: any free port.")
    tls_cert: Path | None = Field(
        default=None,
        description="A certificate and its chain, as PEM: GATEWAY_PORT then speaks https and wss. Needs "
        "GATEWAY_TLS_KEY. Read again at SIGHUP. GATEWAY_ADMIN_PORT stays without.",
    )
    tls_key: Path | None = Field(
        default=None,
        validate_default=True,
        description="The private key of GATEWAY_TLS_CERT, as PEM, without passphrase.",
    )
    admin_host: str = Field(default="", description="Address of GATEWAY_ADMIN_PORT; unset: GATEWAY_HOST.")
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=MAX_PORT,
        description="A second port for /metrics and publishing, which then leave the first; /healthz and /readyz are "
        "on both.",
    )
    admin_keys_file: Path | None = Field(
        default=None,
        description="Read GATEWAY_ADMIN_KEYS from this file, such as a mounted secret; or one key per line.",
    )
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        validate_default=True,
        description="Keys for /admin on GATEWAY_ADMIN_PORT, comma-separated, each of "
        f"{MIN_KEY_CHARACTERS} or more printable ASCII characters. Calls from this machine itself need none.",
    )
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names that are answered, comma-separated, without ports, such as progress.example.com; *: "
        "all; others: 421. Unset: on a loopback GATEWAY_HOST loopback names, IP addresses and the hosts of "
        "GATEWAY_ORIGINS; else all. Probes by IP address are answered in any case.",
    )
    origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose pages may connect besides the gateway's own one, with commas between, such as "
        "https://app.example.com; *: all. Unset: the own origin, and loopback pages if the gateway is addressed as "
        "loopback. Clients that send no Origin are not pages and may connect.",
    )
    jwt_secret_file: Path | None = Field(
        default=None,
        description="Read GATEWAY_JWT_SECRET from this file, such as a mounted secret; or one secret per line. Read "
        "again when it changes, so a rotation needs no restart.",
    )
    jwt_secret: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        validate_default=True,
        description="Secrets for tokens signed with HS256, comma-separated, the newest first, each of "
        f"{MIN_SECRET_BYTES} or more bytes.",
    )
    jwt_public_keys_file: Path | None = Field(
        default=None,
        description="A file of public keys, as PEM or JWKS, for RS256, ES256 or EdDSA by the type of the key. Read "
        "again when it changes.",
    )
    jwt_jwks_url: str = Field(
        default="",
        description="The URL of a JWKS, fetched at the start, every 10 min, and for an unknown kid once per 30 s. The "
        "last good answer is kept for 24 h.",
    )
    jwt_audience: str = Field(default="", description="Required in the claim `aud`, if set.")
    jwt_issuer: str = Field(default="", description="Required in the claim `iss`, if set.")
    jwt_max_seconds: LongSeconds = Field(
        default=86_400, description="A token that expires later than so many seconds from now is refused."
    )
    jwt_cookie: str = Field(default="", description="Name of a cookie that may carry the token; needs GATEWAY_ORIGINS.")
    auth_seconds: Seconds = Field(default=5, description="How long the first token may take; then: close 4401.")
    anonymous_projects: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Projects that need no token, comma-separated: ids, or `prefix*`."
    )
    auth: Literal["none", "jwt"] = Field(
        default="none",
        validate_default=True,
        description="jwt: viewers need a token, and exactly one of GATEWAY_JWT_SECRET, GATEWAY_JWT_PUBLIC_KEYS_FILE "
        "and GATEWAY_JWT_JWKS_URL must be set; none: anybody may watch any project.",
    )
    max_connections: Count = Field(default=10_000, description="Most connections of this replica; beyond: 503.")
    max_connections_per_address: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        default=0,
        description="Most connections from one client address (IPv6: from one /64); beyond: 429. 0: no limit. Behind a "
        "proxy it needs GATEWAY_TRUSTED_PROXIES.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses and networks of proxies, comma-separated, such as 10.0.0.0/8. A connection from there "
        "counts as the last address in X-Forwarded-For, or else Forwarded, that is not one of them.",
    )
    max_projects: Count = Field(default=100, description="Most projects that one connection may watch.")
    max_watched_projects: Count = Field(
        default=100_000,
        description="Most projects that all connections of this replica watch; beyond: error unavailable.",
    )
    subscribe_rate: Annotated[float, Field(gt=0)] = Field(
        default=20, description="Subscribes per second of one connection, on average."
    )
    subscribe_burst: Count = Field(default=50, description="Subscribes of one connection at once.")
    message_rate: Annotated[float, Field(ge=1)] = Field(
        default=50,
        description="Messages per second of one connection, pings and pongs included; a client that sends more is "
        "read more slowly, and after 5 seconds closed with 4400.",
    )
    message_burst: Annotated[int, Field(ge=10, le=10_000_000)] = Field(
        default=200, description="Messages of one connection at once."
    )
    max_message_bytes: Count = Field(default=16_384, description="Longest message of a client; beyond: close 1009.")
    max_bad_messages: Count = Field(default=20, description="Bad messages in a row; then: close 1008.")
    max_header_bytes: Count = Field(default=32_768, description="Longest head of an HTTP request; beyond: 431.")
    request_seconds: Seconds = Field(default=10, description="How long a request may take to arrive; then: 408.")
    ping_seconds: Seconds = Field(
        default=25,
        description="Time between WebSocket pings; a client that has not answered when the next is due is closed. "
        "Keep it below the idle timeout of every proxy in between.",
    )
    slow_seconds: Seconds = Field(default=60, description="How long a client's socket may stay full; then: close 4508.")
    buffer_bytes: Count = Field(default=65_536, description="Unsent bytes at which a connection counts as behind.")
    linger_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=2,
        description="How long a project is kept after its last viewer left, so that reloading a page costs nothing.",
    )
    drain_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=20,
        description="At shutdown: most time for clients to move to other replicas, and then again to close the rest; "
        "0: close all at once, without notice.",
    )
    drain_rate: Annotated[float, Field(gt=0)] = Field(
        default=500,
        description="Clients per second that move or are closed; more if GATEWAY_DRAIN_SECONDS would not suffice.",
    )
    lame_duck_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=0,
        description="At shutdown: /readyz is 503 at once, but new clients are taken for so long, for load balancers "
        "that learn by checking /readyz. Then the drain begins.",
    )
    max_age_seconds: Annotated[float, Field(ge=0, le=2_592_000)] = Field(
        default=0,
        description="Each client is told to reconnect at a random moment between half and twice this age, without a "
        "gap, so that replicas that were added get their share. 0: never.",
    )
    redis_wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=3, description="How long to wait for Redis at the start; then: exit status 75."
    )
    redis_grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=15,
        description="How long /readyz stays 200 after Redis was lost, so that a short outage does not make a load "
        "balancer remove every replica.",
    )
    publish_keys_file: Path | None = Field(
        default=None,
        description="Read GATEWAY_PUBLISH_KEYS from this file, such as a mounted secret; or one key per line.",
    )
    publish_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        validate_default=True,
        description="Keys for POST /projects/<id>/events, comma-separated, each of "
        f"{MIN_KEY_CHARACTERS} or more printable ASCII characters; none, and no GATEWAY_AUTH: that path is 404.",
    )
    publish_max_bytes: Count = Field(default=1_048_576, description="Longest body of such a request; beyond: 413.")
    publish_max_events: Count = Field(
        default=1_000, description="Most events of one such request; beyond this, or the burst: 413."
    )
    publish_rate: Annotated[float, Field(gt=0)] = Field(
        default=1_000, description="Events per second with one key, on average; beyond: 429."
    )
    publish_burst: Count = Field(default=2_000, description="Events with one key at once.")
    log_level: LogLevel = Field(default="info", description="Lowest level that is logged.")
    log_level_file: Path | None = Field(
        default=None,
        description="A file whose one word counts instead of GATEWAY_LOG_LEVEL, for as long as it exists. Read at the "
        "start and at SIGHUP, so that the level can be changed while the replica runs.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="text, json (one object per line), or auto: text on a terminal, else json."
    )

    @field_validator("host", mode="before")
    @classmethod
    def _empty_is_the_default(cls, value: object) -> object:
        """For the kernel an empty address means all addresses; an empty variable must not mean that."""
        return cls.model_fields["host"].default if value == "" else value

    @field_validator("host", "admin_host")
    @classmethod
    def _is_an_address_or_a_name(cls, value: str) -> str:
        return check_host(value) if value else value

    @field_validator("admin_port", "log_level_file", "tls_cert", "tls_key", *FILES, mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("tls_key")
    @classmethod
    def _is_the_certificates(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("tls_cert")
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise ValueError("GATEWAY_TLS_CERT and GATEWAY_TLS_KEY belong together; set both or neither")
        from gateway.operations.tls import check  # here: commands without a certificate need no ssl

        check(certificate, key)
        return key

    @field_validator("admin_port")
    @classmethod
    def _is_not_the_other_port(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Not a model validator: those do not run if another setting is wrong."""
        host = info.data.get("host")
        if value and value == info.data.get("port") and (info.data.get("admin_host") or host) == host:
            raise ValueError(f"{value} is GATEWAY_PORT, too; use another port")
        return value

    @field_validator("namespace")
    @classmethod
    def _is_a_namespace(cls, value: str) -> str:
        return check_namespace(value)

    @field_validator("replay", mode="before")
    @classmethod
    def _as_the_publisher_reads_it(cls, value: object) -> object:
        return read_replay(value) if isinstance(value, str) else value

    @field_validator("embedded_redis", mode="before")
    @classmethod
    def _is_a_switch(cls, value: object) -> object:
        words = {"": "auto"} | dict.fromkeys(("1", "true", "yes"), "on") | dict.fromkeys(("0", "false", "no"), "off")
        return words.get(value.lower(), value.lower()) if isinstance(value, str) else value

    @field_validator("redis_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, value: str | None) -> str | None:
        if value is not None:
            RedisUrl.parse(value)  # its errors repeat no password
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_network, networks))

    @field_validator("hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(host.strip().lower() for host in value.split(",") if host.strip())
        return value

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_name, hosts))

    @field_validator("origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/").lower() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_origin, origins))

    @field_validator("jwt_secret", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        return tuple(map(SecretStr, split_secrets(value))) if isinstance(value, str) else value

    @field_validator("jwt_secret")
    @classmethod
    def _secrets_are_long(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, secret in enumerate(secrets, 1):
            check_secret(secret.get_secret_value(), number)
        return secrets

    @field_validator("jwt_public_keys_file")
    @classmethod
    def _holds_public_keys(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_public_keys(path)
        return path

    @field_validator("jwt_jwks_url")
    @classmethod
    def _is_a_web_url(cls, url: str) -> str:
        if url and not re.match(r"https?://[^/\s]", url):
            raise ValueError("must be a URL that begins with https:// (or http://, within your own network)")
        return url

    @field_validator("jwt_cookie")
    @classmethod
    def _has_origins(cls, name: str, info: ValidationInfo) -> str:
        """A browser sends the cookie whatever page connects. Only the origin tells which page it is."""
        if name and not _COOKIE.fullmatch(name):
            raise ValueError("is not the name of a cookie; use letters, digits, - and _")
        origins = info.data.get("origins")
        if name and origins is not None and (not origins or "*" in origins):
            raise ValueError("needs GATEWAY_ORIGINS, the exact origins whose pages may connect with the cookie")
        return name

    @field_validator("anonymous_projects", mode="before")
    @classmethod
    def _split_projects(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(project.strip() for project in value.split(",") if project.strip())
        return value

    @field_validator("anonymous_projects")
    @classmethod
    def _name_projects(cls, projects: tuple[str, ...]) -> tuple[str, ...]:
        for project in projects:
            if not is_project_pattern(project):
                raise ValueError(f"{project[:80]!r} is not {PATTERN_RULE}")
        return projects

    @field_validator("auth")
    @classmethod
    def _has_one_kind_of_key(cls, auth: str, info: ValidationInfo) -> str:
        kinds = ("jwt_secret", "jwt_public_keys_file", "jwt_jwks_url")
        if auth == "jwt" and set(kinds) <= info.data.keys():  # else one of them is wrong, and said to be so
            given = [PREFIX + kind.upper() for kind in kinds if info.data[kind]]
            if len(given) != 1:
                found = " and ".join(given) + (" are set" if given else "no key is set")
                raise ValueError(
                    f"jwt needs exactly one kind of key, and {found}; set GATEWAY_JWT_SECRET (or its _FILE), "
                    "GATEWAY_JWT_PUBLIC_KEYS_FILE or GATEWAY_JWT_JWKS_URL"
                )
        return auth

    @field_validator("publish_keys", "admin_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(map(SecretStr, split_keys(value))) if isinstance(value, str) else value

    @field_validator("publish_keys", "admin_keys")
    @classmethod
    def _keys_are_long_and_printable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        check_keys([key.get_secret_value() for key in keys])
        return keys

    @field_validator("log_level_file")
    @classmethod
    def _holds_a_level(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_level(path)
        return path

    @field_validator("redis_url", "publish_keys", "admin_keys", "jwt_secret", mode="before")
    @classmethod
    def _from_file(cls, value: object, info: ValidationInfo) -> object:
        """Return the content of the file, if one is set. The last of its kind here, because pydantic calls it first."""
        path: Path | None = info.data.get(f"{info.field_name}_file")
        if path is None:
            return value
        # A user may put the secret itself here, so do not repeat a value that does not look like a path.
        if not (path.is_absolute() or os.path.exists(path)):  # noqa: PTH110 Path.exists raises for a long name
            file = f"{info.field_name}_file"
            name = cls.model_fields[file].validation_alias or PREFIX + file.upper()
            raise ValueError(f"{name} must be the path of an existing file that holds the secret")
        if value:
            raise ValueError(f"both this and the file {path} are set; unset one")
        text = read_text(path)
        return text if info.field_name == "redis_url" else text.replace("\n", ",")


def in_digits(value: float) -> str:
    """A number with all its digits, as a setting takes it."""
    return repr(value).removesuffix(".0")


def split_keys(text: str) -> list[str]:
    """Keys with commas between."""
    return [key.strip() for key in text.split(",") if key.strip()]


def check_keys(keys: Sequence[str]) -> None:
    """Raise `ValueError` for a key that is too easily guessed, or cannot stand in a header."""
    for number, key in enumerate(keys, 1):
        is_short = len(key) < MIN_KEY_CHARACTERS
        if is_short or not _KEY.fullmatch(key):
            wrong = "is too short" if is_short else "contains a space or a character that is not allowed"
            # Without the key: this goes to logs.
            raise ValueError(f"key {number} {wrong}: use {MIN_KEY_CHARACTERS} or more printable ASCII characters")


def read_keys(path: Path) -> list[str]:
    """The keys in a file, one per line or with commas between; raises `ValueError`."""
    keys = split_keys(read_text(path).replace("\n", ","))
    check_keys(keys)
    return keys


def read_level(path: Path) -> LogLevel | None:
    """The level in the file; None if there is no such file, or nothing in it. Raises `ValueError`."""
    try:
        word = path.read_text(encoding="ascii")[:100].strip().lower()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"cannot read the file {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        word = "?"
    if not word:
        return None
    levels = get_args(LogLevel)
    if word not in levels:
        raise ValueError(f"the file {path} must hold one word: {', '.join(levels)}")
    return cast(LogLevel, word)


def level_of(settings: Settings) -> LogLevel:
    """The level that counts now; raises `ValueError` if the file holds no level."""
    path = settings.log_level_file
    return (None if path is None else read_level(path)) or settings.log_level


def read_secrets(path: Path) -> KeySet:
    """The secrets in a file; raises `ValueError`."""
    return secret_keys(split_secrets(read_text(path)))


def read_public_keys(path: Path) -> KeySet:
    """The public keys in a file; raises `ValueError`."""
    return public_keys(read_text(path))


def read_text(path: Path) -> str:
    """The content of a file with a secret or with keys; raises `ValueError`, and repeats nothing of it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read the file {path} ({error.strerror})") from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file {path} is longer than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8") from None
    if not text:
        raise ValueError(f"the file {path} is empty")
    return text

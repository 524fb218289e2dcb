"""Every knob of a replica: the one class that reads the environment."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasGenerator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.origins import check_origin
from gateway.ports import MOST_OF_A_PORT, check_host
from publisher.settings import DEFAULT_REDIS_URL, check_namespace, read_replay
from publisher.transport.url import RedisUrl

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(gt=0, le=10_000_000)]
PREFIX = "GATEWAY_"
SECRET = {"redis_url", "publish_keys"}  # may come from a file, and are never shown
MOST_OF_A_FILE = 65_536  # bytes
MIN_KEY_CHARACTERS = 16  # of a key to publish: it is all that stands between the network and every viewer


class Settings(BaseSettings):
    """A replica's settings: `GATEWAY_<NAME>` in the environment, `--<name>` as a flag of `serve`; a flag wins.

    The descriptions are the help texts of the flags.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        alias_generator=AliasGenerator(validation_alias=lambda field: PREFIX + field.upper()),
        case_sensitive=True,  # a publisher does not read `redis_url` either
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a key, or a URL with a password
    )

    # A file stands before what it holds: a validator sees the fields above its own.
    redis_url_file: Path | None = Field(
        default=None,
        validation_alias="REDIS_URL_FILE",
        description="A file that holds REDIS_URL, such as a mounted secret; instead of it.",
    )
    redis_url: str | None = Field(
        default=None,
        validate_default=True,
        validation_alias="REDIS_URL",
        description=f"Redis, shared with the publishers. Unset: {DEFAULT_REDIS_URL}, and where nothing answers there, "
        "an embedded Valkey on that port.",
    )
    namespace: str = Field(
        default="",
        validation_alias="PROGRESS_NAMESPACE",
        description="Put before project:<id> in Redis, so that two environments can share one; as for the publishers.",
    )
    replay: bool = Field(
        default=True,
        validation_alias="PROGRESS_REPLAY",
        description="off: what is posted here is a plain PUBLISH, not remembered and without a seq; as for publishers.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0: all of IPv4, :: of both.")
    port: int = Field(default=3001, ge=0, le=MOST_OF_A_PORT, description="Port to listen on; 0 for any free one.")
    # Before the port, for the reason above.
    admin_host: str = Field(default="", description="Address of GATEWAY_ADMIN_PORT; none: that of GATEWAY_HOST.")
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=MOST_OF_A_PORT,
        description="A port of its own for /metrics and publishing, which are then no longer on the other; "
        "/healthz and /readyz are on both.",
    )
    origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose pages may connect, comma-separated, such as https://app.example.com; * for all. "
        "The gateway's own host and loopback always may, and so do clients that send no Origin.",
    )
    max_connections: Count = Field(default=10_000, description="Connections of this replica; above: 503.")
    max_projects: Count = Field(default=100, description="Projects that one connection may watch.")
    subscribe_rate: Annotated[float, Field(gt=0)] = Field(
        default=20, description="Subscribes a second of one connection, on average."
    )
    subscribe_burst: Count = Field(default=50, description="Subscribes of one connection at once.")
    max_message_bytes: Count = Field(default=16_384, description="Longest message of a client; above: close 1009.")
    max_bad_messages: Count = Field(default=20, description="Bad messages in a row; then: close 1008.")
    max_header_bytes: Count = Field(default=32_768, description="Longest head of an HTTP request; above: 431.")
    request_seconds: Seconds = Field(default=10, description="Time for a request to arrive; above: it is dropped.")
    ping_seconds: Seconds = Field(
        default=25,
        description="Time between WebSocket pings; a client that did not answer one when the next is due is closed. "
        "Below the idle time of every proxy on the way.",
    )
    slow_seconds: Seconds = Field(
        default=60, description="How long a client may stay behind, its socket full; then: close 4508."
    )
    buffer_bytes: Count = Field(
        default=65_536, description="Unsent bytes of one connection above which it counts as behind."
    )
    linger_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=2, description="How long a project is kept after its last viewer left, so that a reload costs nothing."
    )
    drain_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=20,
        description="At the end, how long clients may take at most to move to other replicas, and then how long it may "
        "take to close those who stayed; 0: nobody is told, all are closed at once.",
    )
    drain_rate: Annotated[float, Field(gt=0)] = Field(
        default=500, description="Clients a second that move, or are closed, if that many seconds are enough for all."
    )
    redis_wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=3, description="How long to wait for Redis at the start; then: exit 75."
    )
    redis_grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=15,
        description="How long after Redis was lost /readyz goes on saying 200, so that a load balancer does not take "
        "all replicas out for a blip.",
    )
    publish_keys_file: Path | None = Field(
        default=None,
        description="A file that holds GATEWAY_PUBLISH_KEYS, such as a mounted secret, or a key a line; instead of it.",
    )
    publish_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        validate_default=True,
        description="Keys with which jobs may POST to /projects/<id>/events, comma-separated, each of "
        f"{MIN_KEY_CHARACTERS} or more printable ASCII characters; none: there is no such path.",
    )
    publish_max_bytes: Count = Field(default=1_048_576, description="Longest body of such a request; above: 413.")
    publish_max_events: Count = Field(
        default=1_000, description="Events of one such request; above, and above the burst: 413."
    )
    publish_rate: Annotated[float, Field(gt=0)] = Field(
        default=1_000, description="Events a second with one key, on average; above: 429."
    )
    publish_burst: Count = Field(default=2_000, description="Events with one key at once.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="debug to error.")
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="text, json (an object a line), or auto: text on a terminal, json elsewhere."
    )

    @field_validator("host", mode="before")
    @classmethod
    def _empty_is_the_default(cls, value: object) -> object:
        """An empty address is every address to the kernel, and nobody asks for that by leaving a value out."""
        return cls.model_fields["host"].default if value == "" else value

    @field_validator("host", "admin_host")
    @classmethod
    def _is_an_address_or_a_name(cls, value: str) -> str:
        return check_host(value) if value else value

    @field_validator("admin_port", "redis_url_file", "publish_keys_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("admin_port")
    @classmethod
    def _is_not_the_other_port(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Not a validator of the whole, which is not asked where another setting is wrong."""
        host = info.data.get("host")
        if value and value == info.data.get("port") and (info.data.get("admin_host") or host) == host:
            raise ValueError(f"it and GATEWAY_PORT are both {value}; give it another")
        return value

    @field_validator("namespace")
    @classmethod
    def _namespace_has_the_form_of_a_project_id(cls, value: str) -> str:
        return check_namespace(value)

    @field_validator("replay", mode="before")
    @classmethod
    def _as_the_publisher_reads_it(cls, value: object) -> object:
        return read_replay(value) if isinstance(value, str) else value

    @field_validator("redis_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @field_validator("redis_url")
    @classmethod
    def _has_the_form_of_a_redis_url(cls, value: str | None) -> str | None:
        if value is not None:
            RedisUrl.parse(value)  # says what is wrong, and repeats no password
        return value

    @field_validator("origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/").lower() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("origins")
    @classmethod
    def _a_browser_may_send_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_origin, origins))

    @field_validator("publish_keys", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(SecretStr(key.strip()) for key in value.split(",") if key.strip())
        return value

    @field_validator("publish_keys")
    @classmethod
    def _keys_are_long_and_printable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate((key.get_secret_value() for key in keys), 1):
            if len(key) < MIN_KEY_CHARACTERS or not all(
                "!" <= character <= "~" and character != "," for character in key
            ):
                # Never the key itself: this goes to logs.
                raise ValueError(
                    f"key {number} of {len(keys)} is none; a key is {MIN_KEY_CHARACTERS} or more printable ASCII "
                    "characters without spaces and commas"
                )
        return keys

    @field_validator("redis_url", "publish_keys", mode="before")  # the last in this class, so the first to be called
    @classmethod
    def _from_file(cls, value: object, info: ValidationInfo) -> object:
        """Where a file is named, what it holds."""
        path: Path | None = info.data.get(f"{info.field_name}_file")
        if path is None:
            return value
        # Who mistakes one for the other writes the secret here: what does not look like a path is not repeated.
        if not (path.is_absolute() or os.path.exists(path)):  # noqa: PTH110 Path.exists raises for a long name
            file = f"{info.field_name}_file"
            name = cls.model_fields[file].validation_alias or PREFIX + file.upper()
            raise ValueError(f"{name} names no file that exists; it is the path of a file that holds the secret")
        if value:
            raise ValueError(f"it is set, and so is the file {path}; set one of them")
        text = _read_secret(path)
        return text.replace("\n", ",") if info.field_name == "publish_keys" else text


def in_digits(value: float) -> str:
    """A number as it is written in a setting: all of it, so that it can be read again."""
    return repr(value).removesuffix(".0")


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_OF_A_FILE + 1)
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read ({error.strerror})") from None
    if len(data) > MOST_OF_A_FILE:
        raise ValueError(f"the file {path} is longer than {MOST_OF_A_FILE} bytes")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8") from None
    if not text:
        raise ValueError(f"the file {path} is empty")
    return text

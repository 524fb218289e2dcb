"""Every knob of a replica: the one class that reads the environment."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from publisher.settings import DEFAULT_REDIS_URL, check_namespace, read_replay

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(gt=0, le=10_000_000)]
MIN_KEY_CHARACTERS = 16  # of a key to publish: it is all that stands between the network and every viewer


class Settings(BaseSettings):
    """A replica's settings: `GATEWAY_<NAME>` in the environment, `--<name>` as a flag of `serve`; a flag wins.

    The descriptions are the help texts of the flags.
    """

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a key, or a URL with a password
    )

    redis_url: str | None = Field(
        default=None,
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
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=3001, ge=0, le=65_535, description="Port to listen on; 0 for any free one.")
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
        default=3, description="How long to wait for Redis at the start; then: exit 1."
    )
    redis_grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=15,
        description="How long after Redis was lost /readyz goes on saying 200, so that a load balancer does not take "
        "all replicas out for a blip.",
    )
    publish_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
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
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="debug to error.")

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

    @field_validator("origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/").lower() for origin in value.split(",") if origin.strip())
        return value

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

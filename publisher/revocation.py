"""A revocation as the command that Redis runs for it, and as replicas hear of it. No I/O."""

from importlib.resources import files

from publisher.names import MAX_SUB, is_sub, jobs_key, own_channel

SCRIPT = files("publisher").joinpath("revoke.lua").read_text()

MAX_REVOKED = 10_000  # users; a feed reads a state of at most 16,000 fields
KEEP_SECONDS = 30 * 86_400  # the longest GATEWAY_JWT_MAX_SECONDS
SUB_RULE = f"the user's id: a text of 1 to {MAX_SUB} printable characters, as in the claim `sub`"


def revoked_channel(namespace: str = "") -> str:
    """The Redis channel on which replicas hear of revocations. Its hash holds them: `<sub>` to microseconds."""
    return own_channel("revoked", namespace)


def revocation(sub: object, namespace: str, revoked_at: int = 0) -> tuple[str, ...]:
    """The key, and the words of the command without the verb that publishes; raises `ValueError` for a bad `sub`.

    `revoked_at` repeats one that Redis has lost; 0: now, by the clock of Redis.
    """
    if not is_sub(sub):
        raise ValueError(f"sub must be {SUB_RULE}")
    redis_channel = revoked_channel(namespace)
    key = jobs_key(redis_channel)
    bounds = (str(MAX_REVOKED), str(KEEP_SECONDS))
    return (key, "EVAL", SCRIPT, "1", key, redis_channel, sub, str(revoked_at), *bounds)


def read_revocation(payload: bytes) -> tuple[str, int] | None:
    """`sub` and microseconds of a payload `<microseconds> <sub>`; None for anything else."""
    revoked_at, _, sub = payload.partition(b" ")
    if not revoked_at.isdigit() or len(revoked_at) > 16:
        return None
    try:
        name = sub.decode()
    except UnicodeDecodeError:
        return None
    return (name, int(revoked_at)) if is_sub(name) else None

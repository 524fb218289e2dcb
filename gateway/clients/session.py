"""One client's conversation: what it asks for, its limits, and what it is told."""

import time
from collections.abc import Callable, Collection

from gateway import messages
from gateway.auth.authority import Verdict
from gateway.auth.grant import Grant
from gateway.auth.refusal import CannotDecide, NotAuthorised, Reason
from gateway.clients.access import Access
from gateway.clients.connection import Outgoing
from gateway.clients.frames import text_frame
from gateway.clients.rate_limit import ReplayAllowance, TokenBucket
from gateway.codes import CloseCode, ErrorCode
from gateway.messages import Auth, BadMessage, Ping, Subscribe, Unsubscribe, read_client_message
from gateway.operations.counters import BROKEN_OFF
from gateway.projects.channel import Cursor
from gateway.projects.hub import Hub, Project
from gateway.settings import Settings, in_digits

# What a client that does not read may hold of a replay: the rest is a cursor.
PIECE_BYTES = 16 << 10

# What a client may do wrong again and again.
_HARMLESS = (ErrorCode.RATE_LIMITED, ErrorCode.TOO_MANY_PROJECTS, ErrorCode.UNAVAILABLE, ErrorCode.FORBIDDEN)

_LIVE, _STALE, _PONG = text_frame(messages.LIVE), text_frame(messages.STALE), text_frame(messages.PONG)

_UNAVAILABLE = "This project cannot be watched at the moment; the gateway's operator can see why."


def close_of(verdict: NotAuthorised | CannotDecide) -> tuple[CloseCode, str]:
    """The close code and its reason for a token that is not accepted."""
    if isinstance(verdict, CannotDecide):
        return CloseCode.OVERLOADED, "cannot check tokens now"
    return CloseCode.NOT_AUTHORISED, verdict.reason


def _forbidden(project_id: str) -> BadMessage:
    return BadMessage(ErrorCode.FORBIDDEN, "Your token does not cover this project.", project_id)


class Session:
    """The state of one client. Lives from the accepted handshake until its connection closes.

    Invariants: while the connection is behind, `_cursors` holds a cursor for each watched project, and only short
    answers are written. Otherwise `_cursors` is empty, and everything that the projects' channels gave was written.
    """

    __slots__ = (
        "_access", "_bad_messages", "_bucket", "_cursors", "_hub", "_projects", "_replays", "_subscribing",
        "_was_told_stale", "address", "behind_since", "connection", "move_turn", "number", "ping_turn",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, connection: Outgoing, grant: Grant | None = None, *, address: str | None = None
    ) -> None:
        self.number = hub.new_number()
        """When the session began, in microseconds since the epoch; no other session of this replica has the same."""
        self.address = address
        """The client's address as a trusted proxy told it; None: the peer's."""
        self.connection = connection
        self.behind_since: float | None = None
        """When the socket filled, by the monotonic clock; None while it keeps up."""
        self._hub = hub
        self._projects: dict[str, Project] = {}
        """The projects that it watches or waits for, by id."""
        self._subscribing: dict[Project, list[int]] = {}
        """The `since` of each subscribe that has no answer yet."""
        self._cursors: dict[Project, Cursor] = {}
        """How far each project was delivered, while the connection is behind."""
        self._replays: ReplayAllowance | None = None
        """What repeated subscribes may cost; made at the first of them."""
        self._bad_messages = 0
        """The number of bad messages since the last good one."""
        self._was_told_stale = False
        """Which of `stale` and `live` the client was told last."""
        self._bucket: TokenBucket | None = None  # made at the first subscribe
        self._access = None if hub.authority is None else Access(hub.authority, grant, hub.settings.auth_seconds)
        """What it may watch; None where anybody may watch everything."""
        hub.accepted += 1
        self.ping_turn: int | None = None
        self.move_turn: int | None = None
        hub.viewers[self] = None
        self._write(messages.connected(self.client_id, None if self._access is None else self._access.expires_in_ms))
        self.on_feed_changed()

    @property
    def client_id(self) -> str:
        """The client is told it, and the log names it. It is no secret. Ids rise in the order in which clients come."""
        return f"{self.number:013x}{self._hub.id_suffix}"

    @property
    def _settings(self) -> Settings:
        return self._hub.settings

    def _write(self, message: bytes) -> None:
        self._send(text_frame(message))

    def _send(self, frames: bytes) -> None:
        self._hub.counters.sent_bytes += len(frames)
        self.connection.write(frames)

    # What the client sends

    def on_text(self, text: bytes) -> None:
        try:
            message = read_client_message(text)
            if isinstance(message, Subscribe):
                self._on_subscribe(message)
            elif isinstance(message, Auth):
                self._on_auth(message)
            elif isinstance(message, Unsubscribe):
                self._on_unsubscribe(message)
            elif isinstance(message, Ping):
                self._send(_PONG)
            self._bad_messages = 0
        except BadMessage as bad:
            self._refuse(bad)

    def on_binary(self) -> None:
        self._refuse(BadMessage(ErrorCode.NOT_TEXT, "Messages are JSON in text frames."))

    def _tell_error(self, code: ErrorCode, sentence: str, project_id: str | None) -> None:
        self._hub.counters.errors[code] += 1
        self._write(messages.error(code, sentence, project_id))

    def _refuse(self, bad: BadMessage) -> None:
        self._tell_error(bad.code, bad.message, bad.project_id)
        if bad.code not in _HARMLESS:
            self._bad_messages += 1
            if self._bad_messages >= self._settings.max_bad_messages:
                text = "Client %s: closed after %d bad messages; the last: %s"
                self._hub.occasional.info("bad messages", text, self.client_id, self._bad_messages, bad.code)
                self.connection.close(
                    CloseCode.TOO_MANY_BAD_MESSAGES, f"{self._bad_messages} bad messages in a row; the last: {bad.code}"
                )

    def _take(self, project_id: str | None = None) -> None:
        """Take from the allowance for what costs more than a moment."""
        settings, now = self._settings, time.monotonic()
        if self._bucket is None:
            self._bucket = TokenBucket(settings.subscribe_burst, now)
        if not self._bucket.take(rate=settings.subscribe_rate, burst=settings.subscribe_burst, now=now):
            sentence = f"At most {in_digits(settings.subscribe_rate)} subscribes a second; ask again a little later."
            raise BadMessage(ErrorCode.RATE_LIMITED, sentence, project_id)

    def _on_subscribe(self, message: Subscribe) -> None:
        self._take(message.project_id)
        access = self._access
        if access is None or access.covers(message.project_id):
            self._watch(message.project_id, message.since)
        elif not access.is_awaited:
            raise _forbidden(message.project_id)
        elif not access.hold(message, self._settings.max_projects):
            raise BadMessage(ErrorCode.RATE_LIMITED, "Earlier subscribes wait for a token.", message.project_id)

    def _watch(self, project_id: str, since: int | None) -> None:
        """The access has been checked: before that, nothing of the project may be said."""
        settings, now = self._settings, time.monotonic()
        if project_id not in self._projects and len(self._projects) >= settings.max_projects:
            sentence = f"At most {settings.max_projects} projects on one connection; unsubscribe from one first."
            raise BadMessage(ErrorCode.TOO_MANY_PROJECTS, sentence, project_id)
        if project_id not in self._projects and self._hub.is_refused(project_id):
            raise BadMessage(ErrorCode.UNAVAILABLE, _UNAVAILABLE, project_id)
        if project_id in self._projects:
            self._remember_replay(project_id)
        if self._replays is not None and self._replays.is_spent(now):
            raise BadMessage(ErrorCode.RATE_LIMITED, "Repeated subscribes asked for too much.", project_id)
        project = self._projects[project_id] = self._hub.watch(project_id)
        cursors = self._subscribing.setdefault(project, [])
        if len(cursors) >= settings.subscribe_burst:  # while Redis is away
            raise BadMessage(ErrorCode.RATE_LIMITED, "Earlier subscribes to this project wait for Redis.", project_id)
        cursors.append(since or 0)
        project.waiting.add(self)
        if project.is_loaded:
            self._attempt(self.on_ready, project)

    def _on_unsubscribe(self, message: Unsubscribe) -> None:
        project = self._projects.pop(message.project_id, None)
        if project is not None:
            self._remember_replay(message.project_id)
            self._forget(project)
        elif self._access is not None:
            self._access.drop(message.project_id)
        self._write(messages.unsubscribed(message.project_id))

    def _remember_replay(self, project_id: str) -> None:
        """Count the next replay of this project as a repeated one."""
        if self._replays is None:
            self._replays = ReplayAllowance(time.monotonic())
        self._replays.remember(project_id)

    def _forget(self, project: Project) -> None:
        self._subscribing.pop(project, None)
        self._cursors.pop(project, None)
        self._hub.leave(project, self)

    # Who it is

    def _on_auth(self, message: Auth) -> None:
        authority, access = self._hub.authority, self._access
        if authority is None or access is None:  # nobody asks: the page may go on, and need not come back soon
            self._write(messages.authorised(int(self._settings.jwt_max_seconds * 1_000)))
            return
        self._take()
        number = access.ask()
        # The verdict comes at once, or when newer keys have come. The client may have shown another token by then.
        authority.decide(message.token, lambda verdict: self._on_verdict(verdict) if access.asked == number else None)

    def _on_verdict(self, verdict: Verdict) -> None:
        access = self._access
        if access is None or self not in self._hub.viewers:
            return
        if isinstance(verdict, Grant) and access.grant is not None and access.grant.sub != verdict.sub:
            verdict = NotAuthorised(Reason.ANOTHER_USER, "has another `sub` than the one before")
            access.count(verdict)
        if not isinstance(verdict, Grant):
            self._close(verdict)
            return
        access.take(verdict)
        self._write(messages.authorised(access.expires_in_ms or 0))
        for project_id in [project_id for project_id in self._projects if not access.covers(project_id)]:
            self._forget(self._projects.pop(project_id))
            self._refuse(_forbidden(project_id))
        self._release(access)

    def _release(self, access: Access) -> None:
        """Answer the subscribes that waited for a token."""
        for project_id, since in access.release():
            try:
                if not access.covers(project_id):
                    raise _forbidden(project_id)
                self._watch(project_id, since)
            except BadMessage as bad:
                self._refuse(bad)

    def check_access(self, now: float) -> None:
        """Close if the token has expired, or none has come in time. `now`: seconds since the epoch."""
        access = self._access
        if access is None or now < access.until:
            return
        if access.grant is None and self._projects:  # they need no token
            access.give_up()
            self._release(access)
        else:
            self._lose(access, Reason.NO_TOKEN if access.grant is None else Reason.TOKEN_EXPIRED)

    def check_revoked(self) -> None:
        """Close if the user's tokens were revoked."""
        access = self._access
        if access is not None and access.is_revoked:
            self._lose(access, Reason.TOKEN_REVOKED)

    def _lose(self, access: Access, reason: Reason) -> None:
        refused = NotAuthorised(reason)
        access.count(refused)
        self._close(refused)

    def _close(self, verdict: NotAuthorised | CannotDecide) -> None:
        self.connection.close(*close_of(verdict))

    # What the hub tells

    def on_ready(self, project: Project) -> None:
        if self.connection.is_behind:
            return  # on_writable will ask again
        if max(self._subscribing[project]) > project.channel.seq:
            # The cursor is from a replica whose feed is a moment ahead, or was never given. After a round trip to Redis
            # everything that was published until now is here, and the cursor can be judged.
            self._hub.feed.after_round_trip(project.redis_channel, lambda: self._attempt(self._begin, project))
        else:
            self._begin(project)

    def on_refused(self, project: Project) -> None:
        self._projects.pop(project.channel.project_id, None)
        self._forget(project)
        self._tell_error(ErrorCode.UNAVAILABLE, _UNAVAILABLE, project.channel.project_id)

    def on_feed_changed(self) -> None:
        """Tell `stale` or `live` if that is news. A client that is behind is told once it has caught up."""
        if self._was_told_stale != self._hub.is_stale and not self.connection.is_behind:
            self._was_told_stale = self._hub.is_stale
            self._send(_STALE if self._was_told_stale else _LIVE)

    def _attempt(self, step: Callable[[Project], None], project: Project) -> None:
        """Run `step`; a bug in it must not reach the caller (the shared feed, or this connection)."""
        try:
            step(project)
        except Exception as error:
            self._hub.give_up(project, error)

    def _begin(self, project: Project) -> None:
        """Send `subscribed` and what was missed, and join the viewers: one step, so no event can fall between."""
        # During the round trip the client may have left. Or the feed was lost: then the reload calls on_ready again. Or
        # the socket has filled: then on_writable calls on_ready again.
        if self not in project.waiting or not project.is_loaded or self.connection.is_behind:
            return
        channel = project.channel
        cursors = self._subscribing[project]
        is_doubtful = any(map(self._hub.is_doubtful, cursors))
        recovered = [channel.recovers(cursor) and not is_doubtful for cursor in cursors]
        answers = [messages.subscribed(channel.project_id, channel.seq, recovered=known) for known in recovered]
        since = 0 if any(map(self._hub.is_before_handover, cursors)) else min(cursors)
        if self._replays is not None and self._replays.is_repeated(channel.project_id):
            self._replays.spend(channel.replay_bytes(since))
        frames, cursor = channel.replay(since, PIECE_BYTES)
        # Before the write: if it fills the socket, on_behind must find the project. And only after everything that can
        # raise: a viewer in neither set would never be told.
        project.waiting.remove(self)
        del self._subscribing[project]
        if not self._subscribing:
            self._subscribing = {}  # an emptied dict keeps its table, some 160 bytes for each idle connection
        project.viewers[self.connection] = self
        self._offer(b"".join(map(text_frame, answers)) + frames, is_last=cursor is None)
        self._go_on(project, cursor)

    def _go_on(self, project: Project, cursor: Cursor | None) -> None:
        """Send what is owed after `cursor` (None: nothing), piece by piece, as long as the socket takes all of it."""
        while cursor is not None:
            if self.connection.is_behind:  # on_behind took this project as up to date
                self._cursors[project] = cursor
                return
            frames, cursor = project.channel.catch_up(cursor, PIECE_BYTES)
            if frames:
                self._offer(frames, is_last=cursor is None)

    def _offer(self, frames: bytes, *, is_last: bool) -> None:
        self._hub.counters.sent_bytes += len(frames)
        self.connection.offer(frames, is_last=is_last)

    # What operators see

    @property
    def sub(self) -> str | None:
        grant = None if self._access is None else self._access.grant
        return None if grant is None else grant.sub

    @property
    def project_ids(self) -> Collection[str]:
        return self._projects.keys()

    @property
    def events_behind(self) -> int:
        return sum(max(0, project.channel.position - cursor.position) for project, cursor in self._cursors.items())

    # What the connection tells

    def on_throttled(self) -> None:
        self._hub.counters.throttled += 1

    def on_behind(self) -> None:
        """Remember how far each project was delivered. From now on this client costs a cursor for each."""
        self.behind_since = time.monotonic()
        self._cursors = {
            project: project.channel.end for project in self._projects.values() if self.connection in project.viewers
        }

    def on_writable(self) -> None:
        """Catch up, project by project, as long as the socket takes it."""
        self.behind_since = None
        cursors, self._cursors = self._cursors, {}
        while cursors:
            project, cursor = cursors.popitem()
            self._hub.catch_ups += project.channel.has_more(cursor)
            self._go_on(project, cursor)
            if self.connection.is_behind:  # on_behind took every project as up to date; these are not
                self._cursors.update(cursors)
                return
        for project in [project for project in self._subscribing if project.is_loaded]:
            self.on_ready(project)
        self.on_feed_changed()

    def on_close(self, code: int = BROKEN_OFF) -> None:
        """Leave no reference behind, however the connection ended."""
        if self in self._hub.viewers:
            del self._hub.viewers[self]
            self._hub.counters.on_closed(code)
        for project in self._projects.values():
            self._forget(project)
        self._projects.clear()

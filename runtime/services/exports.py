"""All that is kept of one user, for them to take along.

Nothing secret is in it: no password, code or token, nor what is kept in place of one. It is read
in pages, and only as somebody takes it: neither its length nor a slow reader costs memory, or a
connection to the database.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from peewee import IntegrityError, ModelSelect, Node, fn

from runtime import clock, logs
from runtime.caller import Caller
from runtime.database.base import Model, db, release
from runtime.database.pagination import Page, page
from runtime.errors import InvalidAccessToken
from runtime.limits.rates import EXPORTS_PER_USER, limiter
from runtime.models.chats import Chat, Run
from runtime.models.codes import AwaitsCode, EmailChange, Recovery, SignUp
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.spendings import Spending
from runtime.services.accounts import security_log
from runtime.services.accounts.security_log import Kind
from runtime.services.chats import records
from runtime.services.chats.records import Record, ShownMessage

ROWS_A_PAGE = 100
# Of a run everything is read at once.
RUNS_A_PAGE = 10


@dataclass(frozen=True)
class ExportedRun:
    run: Run
    messages: list[ShownMessage]
    events: list[dict]


@dataclass(frozen=True)
class ExportedChat:
    chat: Chat
    runs: Iterator[ExportedRun]


class Export:
    """What there is, the newest first. Every iterator may be used once, on any thread.

    Each raises InvalidAccessToken when the session of who asked is over meanwhile: what is left of
    a deleted account is not the whole of it, and a client that was signed out gets no more.
    """

    def __init__(self, session: Session, language: str):
        self.exported_at = clock.now()
        self.user = session.user
        self._session_id = session.id
        self._language = language

    @property
    def sign_ups(self) -> Iterator[SignUp]:
        """All sign-ups that wait for the user's address, also those that strangers began.

        Each has the name it chose and the network it came from: the owner of an address is told who
        uses it, as in the mail of a recovery and in the journal.
        """
        return self._of_address(SignUp)

    @property
    def recoveries(self) -> Iterator[Recovery]:
        """Likewise."""
        return self._of_address(Recovery)

    @property
    def email_changes(self) -> Iterator[EmailChange]:
        """To which address is told once it was proven: until then it may be anybody's."""
        return self._rows(self.user.email_changes, EmailChange.created_at)

    @property
    def sessions(self) -> Iterator[Session]:
        return self._rows(self.user.sessions, Session.created_at)

    @property
    def events(self) -> Iterator[SecurityEvent]:
        return self._rows(self.user.events, SecurityEvent.created_at)

    @property
    def spendings(self) -> Iterator[Spending]:
        return self._pages(lambda _cursor: Page(list(self.user.spendings), None))

    @property
    def chats(self) -> Iterator[ExportedChat]:
        # By when they were made: one that is active meanwhile would move, and be left out.
        for chat in self._rows(self.user.chats, Chat.created_at):
            yield ExportedChat(chat, self._runs(chat))

    def _runs(self, chat: Chat) -> Iterator[ExportedRun]:
        def read(cursor: str | None) -> Page:
            return records.page_of(chat.id, RUNS_A_PAGE, cursor, self._language, with_replaced=True)

        return map(self._exported, self._pages(read))

    def _exported(self, record: Record) -> ExportedRun:
        events = [{"id": each.number, **each.shown(self._language)} for each in record.entries]
        return ExportedRun(record.run, record.messages, events)

    def _of_address(self, kind: type[AwaitsCode]) -> Iterator[AwaitsCode]:
        of_address = fn.LOWER(kind.email) == self.user.email.lower()
        return self._rows(kind.select().where(of_address), kind.created_at)

    def _rows(self, query: ModelSelect, by: Node) -> Iterator[Model]:
        return self._pages(lambda cursor: page(query, by, cursor=cursor, limit=ROWS_A_PAGE))

    def _pages(self, read: Callable[[str | None], Page]) -> Iterator:
        cursor = None
        while True:
            found = self._read(read, cursor)
            yield from found.rows
            cursor = found.next_cursor
            if cursor is None:
                return

    def _read(self, read: Callable[[str | None], Page], cursor: str | None) -> Page:
        """A page, if its reader still may have it. No connection is held while it is sent."""
        try:
            found = read(cursor)
            # Afterwards: what was deleted before it was read is no page of it.
            session = Session.find_live(self._session_id)
        finally:
            release()
        if session is None:
            raise InvalidAccessToken
        return found


def begin(session: Session, caller: Caller) -> Export:
    """What is kept of a session's user; the journal says that it was taken.

    Raises TooManyRequests; InvalidAccessToken when the account is gone.
    """
    user = session.user
    # Also by the address: who erases the account and signs up anew has another id.
    keys = (str(user.id), user.email.lower())
    for key in keys:
        limiter.check(EXPORTS_PER_USER, key)
    for key in keys:
        limiter.spend(EXPORTS_PER_USER, key)
    try:
        with db.atomic():
            security_log.record(user, Kind.EXPORTED, caller, session_id=session.id)
    except IntegrityError as error:  # The account was erased just now.
        raise InvalidAccessToken from error
    logs.event("exported", user_id=user.id)
    return Export(session, caller.language)

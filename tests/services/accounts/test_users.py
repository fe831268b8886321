"""What operators do to accounts, and what happens to them in the middle of a request."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from uuid import UUID

import pytest
from flask import Flask

from runtime import clock as runtime_clock
from runtime.caller import Caller
from runtime.database.base import db, release
from runtime.errors import (
    EmailTaken,
    InvalidAccessToken,
    InvalidRefreshToken,
    UsernameTaken,
    UserNotFound,
    WrongCredentials,
    WrongPassword,
)
from runtime.models.allowances import Allowance
from runtime.models.chats import Chat, Run
from runtime.models.sessions import Session
from runtime.models.tables import MODELS
from runtime.models.users import User
from runtime.services import closures, exports
from runtime.services.accounts import (
    credentials,
    erasures,
    recoveries,
    refreshes,
    security_log,
    sessions,
    users,
)
from runtime.services.accounts.security_log import Kind
from runtime.services.chats import runs
from tests.conftest import PASSWORD, Person, at_once


def found(person: Person) -> User:
    return User.find_by_email(person.email)


def sign_in(person: Person, password: str = PASSWORD):
    return person.post("/auth/sessions", {"email": person.email, "password": password})


def test_a_disabled_account_is_refused_at_once_with_every_token(app: Flask, alice: Person):
    assert alice.get("/users/me").status_code == 200
    with app.app_context():
        assert users.disable(found(alice)) == 1

    answers = [alice.get("/users/me") for _ in range(10)]
    answers += [alice.get("/users/alice"), alice.patch("/users/me", {}), alice.chat("hello")]
    assert {answer.status_code for answer in answers} == {401}
    assert alice.refresh().status_code == 401


def test_signing_in_tells_a_disabled_account_nothing(
    app: Flask, alice: Person, bob: Person, stranger: Person
):
    with app.app_context():
        users.disable(found(alice))
    alice.network = bob.network = stranger.network

    def told(answer) -> tuple:
        headers = [(name, value) for name, value in answer.headers if name != "X-Request-ID"]
        return answer.status_code, headers, answer.data

    right, wrong = told(sign_in(alice)), told(sign_in(bob, "not the password"))
    assert right == wrong


def test_the_right_password_of_a_disabled_account_counts_as_a_wrong_one(app: Flask, alice: Person):
    with app.app_context():
        users.disable(found(alice))

    assert [sign_in(alice).status_code for _ in range(11)] == [401] * 10 + [429]


def test_an_enabled_account_signs_in_again_and_keeps_its_sessions_ended(app: Flask, alice: Person):
    with app.app_context():
        users.disable(found(alice))
        users.enable(found(alice))

    assert alice.get("/users/me").status_code == 401
    assert alice.refresh().status_code == 401
    assert sign_in(alice).status_code == 200


def test_disabling_ends_nobody_elses_session(app: Flask, alice: Person, bob: Person):
    with app.app_context():
        users.disable(found(alice))

    assert bob.get("/users/me").status_code == 200


def test_no_session_is_started_on_an_account_disabled_meanwhile(app: Flask, alice: Person):
    """The password was looked at before, the session comes after."""
    with app.app_context():
        user = found(alice)
        users.disable(user)

        with pytest.raises(WrongCredentials):
            sessions.start(user, Caller(alice.network))
        assert Session.select().where(Session.ended_at.is_null()).count() == 0


def test_no_session_is_started_on_an_account_deleted_meanwhile(app: Flask, alice: Person):
    with app.app_context():
        user = found(alice)
        User.delete().execute()

        with pytest.raises(WrongCredentials):
            sessions.start(user, Caller(alice.network))


def test_whoever_disables_waits_for_a_sign_in_that_is_under_way(app: Flask, alice: Person):
    """It has noted the sign-in, and its session is not there yet."""
    is_noted, may_go_on = Event(), Event()

    def start() -> None:
        with app.app_context(), db.atomic():
            sessions._note_sign_in(user)
            is_noted.set()
            may_go_on.wait(5)
            Session.begin(user, Caller(alice.network))

    def disable() -> None:
        with app.app_context():
            users.disable(user)

    with app.app_context():
        user = found(alice)
        release()
    threads = [Thread(target=start), Thread(target=disable)]
    threads[0].start()
    is_noted.wait(5)
    threads[1].start()
    threads[1].join(0.3)
    may_go_on.set()
    for thread in threads:
        thread.join()

    with app.app_context():
        assert Session.select().where(Session.ended_at.is_null()).count() == 0


def test_of_sign_ins_and_a_disabling_at_once_no_session_is_left(app: Flask, member):
    def call(function, *arguments):
        with app.app_context():
            try:
                return function(*arguments)
            except WrongCredentials:
                return None

    for number in range(10):
        person = member(f"person{number}")
        with app.app_context():
            user = found(person)
            release()
        starts = [lambda u=user: call(sessions.start, u, Caller("192.0.2.1"))] * 5
        at_once(*starts, lambda u=user: call(users.disable, u))

    with app.app_context():
        assert Session.select().where(Session.ended_at.is_null()).count() == 0


# Making and promoting


def test_an_operator_makes_an_account_that_can_sign_in(app: Flask, stranger: Person):
    with app.app_context():
        user = users.create("Ada", "Ada@example.org", PASSWORD)
        assert (user.is_admin, user.email_confirmed_at) == (False, None)
    stranger.email = "ada@example.org"

    assert sign_in(stranger).json["user"] == {"id": str(user.id), "email": "Ada@example.org"}


def test_an_account_is_made_only_if_name_and_address_are_free(app: Flask, alice: Person):
    with app.app_context():
        with pytest.raises(EmailTaken):
            users.create("ada", alice.email.upper(), PASSWORD)
        with pytest.raises(UsernameTaken):
            users.create("ALICE", "ada@example.org", PASSWORD)

        assert User.select().count() == 1


def test_an_administrator_is_demoted_at_once(app: Flask, admin: Person):
    assert admin.get("/auth/users?email=nobody@example.org").status_code == 404
    with app.app_context():
        users.demote(found(admin))

    assert admin.get("/auth/users?email=nobody@example.org").status_code == 403


# Erasing


def everything() -> str:
    """What stands in all tables, allowances' keyed hashes apart."""
    return str([list(model.select().dicts()) for model in MODELS if model is not Allowance])


def test_an_erased_account_is_in_no_table(app: Flask, ground, alice: Person, bob: Person):
    alice.patch("/users/me", {"bio": "the words of her bio"})
    alice.chat("the words of her chat")
    details = {"username": "mallory", "email": alice.email.upper(), "password": PASSWORD}
    bob.post("/auth/verifications", details)
    bob.post("/auth/recoveries", {"email": alice.email.upper()})
    sign_in(alice, "not the password")
    ground.settle()
    with app.app_context():
        user = found(alice)
        assert "words of her" in everything()
        erasures.erase(user)

        left = everything().lower()
        for trace in ("alice", user.id.hex, str(user.id), "words of her", alice.network, "mallory"):
            assert trace not in left
    assert bob.get("/users/me").status_code == 200


def test_an_erased_account_is_refused_with_every_token(app: Flask, alice: Person):
    with app.app_context():
        erasures.erase(found(alice))

    assert alice.get("/users/me").status_code == 401
    assert alice.refresh().status_code == 401
    assert sign_in(alice).status_code == 401
    token = {"refresh_token": alice.tokens["refresh_token"]}
    assert alice.delete("/auth/sessions", token).status_code == 204


def test_an_address_that_was_erased_can_sign_up_again(app: Flask, alice: Person, outbox):
    with app.app_context():
        erasures.erase(found(alice))
    details = {"username": "alice", "email": alice.email, "password": PASSWORD}
    alice.tokens = {}
    alice.post("/auth/verifications", details)
    code = {"email": alice.email, "token": outbox.code(alice.email)}

    assert alice.post("/auth/verifications/verify", code).status_code == 200


@pytest.mark.parametrize(
    "change", [users.promote, users.demote, users.disable, users.enable, sessions.end_all]
)
def test_nothing_is_done_to_an_account_that_was_erased_meanwhile(app: Flask, alice, change):
    with app.app_context():
        user = found(alice)
        erasures.erase(user)

        with pytest.raises(UserNotFound):
            change(user)


@pytest.mark.parametrize("shut", [erasures.erase, users.disable])
@pytest.mark.parametrize("session_id", [None, UUID(int=7 << 76)], ids=["new", "named"])
def test_no_run_begins_in_an_account_that_is_gone_or_disabled_meanwhile(
    app: Flask, alice: Person, shut: Callable, session_id: UUID | None
):
    with app.app_context():
        user = found(alice)
        shut(user)

        with pytest.raises(InvalidAccessToken):
            runs.start(user, "hello", session_id)
        assert Chat.select().count() == Run.select().count() == 0


@pytest.mark.parametrize("shut", [erasures.erase, users.disable])
def test_no_profile_changes_in_an_account_that_is_gone_or_disabled_meanwhile(
    app: Flask, alice: Person, shut: Callable
):
    with app.app_context():
        user = found(alice)
        shut(user)

        with pytest.raises(InvalidAccessToken):
            users.change_profile(user, {"bio": "still here"})


def test_disabling_stops_the_runs(app: Flask, alice: Person):
    with app.app_context():
        user, in_a_minute = found(alice), runtime_clock.now() + timedelta(minutes=1)
        run = Run.create(chat=Chat.create(user=user), message="hello", lease_until=in_a_minute)
        closures.disable(user)

        assert Run.get_by_id(run.id).stop_requested_at


def test_no_export_begins_of_an_account_that_was_erased_meanwhile(app: Flask, alice: Person):
    with app.app_context():
        session = Session.find_live(Session.get().id)
        erasures.erase(session.user)

        with pytest.raises(InvalidAccessToken):
            exports.begin(session, Caller("192.0.2.1", language="en"))


@pytest.mark.parametrize(
    ("meanwhile", "failure"),
    [
        (lambda user: credentials.replace_password(user, "another's"), InvalidAccessToken),
        (lambda user: credentials.change_account(user, password_hash="another's"), WrongPassword),
        (sessions.end_all, InvalidAccessToken),
        (users.disable, InvalidAccessToken),
        (erasures.erase, InvalidAccessToken),
    ],
    ids=["recovered", "changed in this session", "signed out", "disabled", "erased"],
)
def test_what_comes_between_password_and_erasure_wins(app: Flask, alice, meanwhile, failure):
    """Up to two seconds, in which runs are told to stop: somebody else may know the password."""
    with app.app_context():
        session = Session.find_live(Session.get().id)
        meanwhile(found(alice))
        left = User.select().count()

        with pytest.raises(failure):
            erasures.erase(session.user, asked_in=session)
        assert User.select().count() == left


def test_an_erasure_forgets_an_address_that_the_account_got_meanwhile(app: Flask, alice: Person):
    with app.app_context():
        session = Session.find_live(Session.get().id)
        credentials.change_account(found(alice), email="fresh@example.org")
        recoveries.begin(email="fresh@example.org", redirect_to=None, caller=Caller("192.0.2.1"))
        erasures.erase(session.user, asked_in=session)

        assert "fresh@example.org" not in everything()


def end_session(user: User, meanwhile) -> None:
    """What signing out does, in its order."""
    Session.end_live(user)
    meanwhile()
    security_log.record(user, Kind.SIGNED_OUT, Caller("192.0.2.1"))


def disable(user: User, meanwhile) -> None:
    """What disabling does, in its order."""
    User.update(disabled_at=runtime_clock.now()).where(User.id == user.id).execute()
    meanwhile()
    Session.end_live(user)


def write_journals(user: User, meanwhile) -> None:
    """What the journals' thread does, in its order."""
    runs = Run.select().where(Run.finished_at.is_null()).for_update(db.obj.for_update)
    first, *others = sorted(run.id for run in Run.select())
    runs.where(Run.id == first).get()
    meanwhile()
    for run_id in others:
        runs.where(Run.id == run_id).get()


@pytest.mark.parametrize("other", [end_session, disable, write_journals])
def test_an_erasure_waits_for_what_is_under_way(app: Flask, alice: Person, other):
    """Each takes its locks in an order in which neither waits for the other for ever."""
    is_under_way, is_begun, failures = Event(), Event(), []

    def meanwhile() -> None:
        is_under_way.set()
        is_begun.wait(5)
        erasure.join(0.3)
        assert erasure.is_alive()

    def run(work) -> None:
        try:
            with app.app_context(), db.atomic():
                work()
        except Exception as error:
            failures.append(error)

    with app.app_context():
        user = found(alice)
        # The first to be locked is the last on the disk.
        lease_until = runtime_clock.now() + timedelta(hours=1)
        for number in range(8, 0, -1):
            chat = Chat.create(user=user)
            values = {"id": UUID(int=number), "chat": chat, "message": "hello"}
            Run.create(**values, lease_until=lease_until)
        release()
    erasure = Thread(target=run, args=(lambda: erasures.erase(user),))
    first = Thread(target=run, args=(lambda: other(user, meanwhile),))
    first.start()
    is_under_way.wait(5)
    erasure.start()
    is_begun.set()
    first.join()
    erasure.join()

    assert failures == []
    with app.app_context():
        assert User.select().count() == 0


def test_an_erasure_at_once_with_everything_leaves_nothing(app: Flask, member):
    def call(function, *arguments, **named):
        with app.app_context():
            try:
                return function(*arguments, **named)
            except (WrongCredentials, InvalidRefreshToken, UserNotFound):
                return None

    for number in range(10):
        person = member(f"person{number}")
        token = person.tokens["refresh_token"]
        with app.app_context():
            user = found(person)
            release()
        at_once(
            *[lambda u=user: call(sessions.start, u, Caller("192.0.2.1"))] * 2,
            *[lambda t=token: call(refreshes.refresh, t, Caller("192.0.2.2"))] * 2,
            *[lambda t=token: call(sessions.end, t, caller=Caller("192.0.2.1"))] * 2,
            lambda u=user: call(sessions.end_all, u),
            lambda u=user: call(erasures.erase, u),
        )

    with app.app_context():
        assert User.select().count() == Session.select().count() == 0

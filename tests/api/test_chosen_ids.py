"""Ids of chats: those that clients choose, and those that are made of their names."""

from uuid import UUID, uuid4

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from runtime import clock
from runtime.models.chats import Chat, Run
from runtime.services.chats.ids import from_digest, made_of
from tests.api.test_runs import keyed
from tests.conftest import Person

V8 = "0b0e6f0a-6df5-8f4f-9a7c-6f7b0b6b0f7e"


def say(person: Person, thread: str, run: str = "r1") -> TestResponse:
    words = {"id": str(uuid4()), "role": "user", "content": "hello"}
    body = {"threadId": thread, "runId": run, "messages": [words]}
    return person.post("/agent-chats/ag-ui", body)


def chats_of(app: Flask, person: Person) -> list[str]:
    with app.app_context():
        found = Chat.select(Chat.id).where(Chat.user == UUID(person.id)).order_by(Chat.created_at)
        return [str(chat.id) for chat in found]


@pytest.mark.parametrize("version", "123456780f")
def test_a_new_uuid_of_any_version_becomes_the_chats_id(
    app: Flask, alice: Person, bob: Person, version: str
):
    by_json, by_thread = (f"0b0e6f0a-6df5-{version}f4f-9a7c-6f7b0b6b0f7{n}" for n in "ef")

    assert alice.chat("hello", by_json).json["session_id"] == by_json
    assert say(alice, by_thread).status_code == 200

    assert chats_of(app, alice) == [by_json, by_thread]
    for chat in (by_json, by_thread):
        assert bob.chat("hello", chat).status_code == say(bob, chat).status_code == 404


def test_who_knows_a_name_and_its_owner_takes_nothing_from_them(
    app: Flask, alice: Person, bob: Person
):
    """Ids were made of these two alone once: whoever makes them still finds nobody there."""
    owner = UUID(alice.id)
    run = made_of(owner, "key k1")
    guesses = [made_of(owner, "thread main"), made_of(run, "chat"), run, owner]
    for guess in guesses:
        assert bob.chat("mine", str(guess)).status_code == 200
        for name in ("k1", "key k1", "r1"):
            say(bob, str(guess), name)

    first, again = (say(alice, "main", run) for run in ("r1", "r2"))
    sent = [alice.post("/agent-chats", {"message": "hello"}, **keyed("k1")) for _ in range(2)]

    assert {each.status_code for each in (first, again, *sent)} == {200}
    assert sent[0].data == sent[1].data
    own = chats_of(app, alice)
    assert len(own) == 2
    assert not set(own) & {str(guess) for guess in guesses}


def test_whether_somebody_has_a_thread_of_a_name_is_told_nobody(alice: Person, bob: Person):
    say(alice, "main")
    alice.post("/agent-chats", {"message": "hello"}, **keyed("k1"))

    owner = UUID(alice.id)
    for guess in (made_of(owner, "thread main"), made_of(made_of(owner, "key k1"), "chat")):
        assert bob.chat("mine", str(guess)).status_code == 200


def test_a_thread_keeps_its_chat_when_keys_rotate(serve, settings: dict, app: Flask, alice: Person):
    say(alice, "main")
    before = chats_of(app, alice)
    changed = {"SECRET_KEY": "another-key-" * 3, "SECRET_KEY_FALLBACKS": settings["SECRET_KEY"]}
    alice.client = serve({**settings, **changed}).test_client()

    assert say(alice, "main", "r2").status_code == 200

    assert chats_of(app, alice) == before


def test_a_thread_of_an_earlier_release_keeps_its_chat(app: Flask, alice: Person):
    """Its id was made without a key."""
    with app.app_context():
        chat = Chat.create(id=made_of(UUID(alice.id), "thread main"), user=UUID(alice.id))

    assert say(alice, "main").status_code == 200
    assert chats_of(app, alice) == [str(chat.id)]


def test_a_key_of_an_earlier_release_is_known(app: Flask, alice: Person):
    run = made_of(UUID(alice.id), "key k1")
    with app.app_context():
        chat = Chat.create(id=made_of(run, "chat"), user=UUID(alice.id))
        now = clock.now()
        Run.create(id=run, chat=chat, message="hello", lease_until=now, finished_at=now)

    refused = alice.post("/agent-chats", {"message": "other"}, **keyed("k1"))

    assert refused.status_code == 422


def test_an_id_that_is_made_is_a_uuid_of_version_8():
    made = from_digest(bytes(range(16)))

    assert (made.version, made.variant) == (8, UUID(V8).variant)

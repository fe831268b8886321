"""What the tests of front ends have in common: a service, a model, and who is signed in."""

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from app import create_app
from runtime.caller import Caller
from runtime.database.base import db
from runtime.models.users import User
from runtime.services.accounts import sessions
from tests.agent.completions_server import (
    DONE,
    RESET,
    CompletionsServer,
    Reply,
    Request,
    call,
    chunk,
    finish,
    stream,
    text,
    usage,
)
from tests.servers import Service

ENDED = [finish("tool_calls"), usage(5, 2), DONE]
WHOLE = "One and two and 三 🎉."


class Model(CompletionsServer):
    """Answers by what the user asked last."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.asked: list[str] = []

    def next_reply(self, request: Request) -> Reply:
        said = request.body["messages"]
        asked = max(i for i, message in enumerate(said) if message["role"] == "user")
        words = said[asked]["content"]
        if any(message["role"] == "tool" for message in said[asked:]):
            return stream(thought("Two it is."), text("It is 2."), finish(), usage(9, 4), DONE)
        self.asked.append(words)
        return getattr(self, words.partition(" ")[0].lower())()

    def hello(self) -> Reply:
        return stream(text("Hel"), text("lo."), finish(), usage(7, 3), DONE)

    def add(self) -> Reply:
        begun = call(0, "c1", "calculate", '{"expres')
        return stream(
            thought("A sum."), text("See: "), begun, call(0, arguments='sion": "1+1"}'), *ENDED
        )

    def fail(self) -> Reply:
        return stream(text("Half an ans"), RESET)

    def count(self) -> Reply:
        """Says the rest when it may go on."""

        def parts() -> Iterator:
            yield from stream(text("One "), text("and ")).parts
            self.go_on.wait(20)
            yield from stream(*map(text, ["two ", "and ", "三", " 🎉."]), finish(), DONE).parts

        return Reply(parts())


def thought(piece: str) -> dict:
    return chunk({"reasoning_content": piece})


class Stage:
    """The service and its model, with one user, whose tokens are the `pair`."""

    def __init__(self, service: Service, model: Model, pair: dict) -> None:
        self.service, self.model, self.pair = service, model, pair
        self._numbers = count()

    def new_chat(self) -> str:
        """A name that a client might give, and one that is hard on paths."""
        self.model.go_on.clear()
        return f"chat/{next(self._numbers)}?名 %2F"


def settings_of(folder: Path, model: CompletionsServer) -> dict[str, str]:
    """Two workers, so that what one begins is often read on from the other."""
    return {
        "INSTANCE_PATH": str(folder / "instance"),
        "SECRET_KEY": "a-key-for-tests-" * 3,
        "OPENAI_BASE_URL": model.url,
        "AGENT_MODEL": "test",
        "RATE_LIMITS": "off",
        "WEB_CONCURRENCY": "2",
    }


def sign_in(settings: dict[str, str]) -> dict:
    """The tokens of a user who was not there before."""
    app = create_app(settings)
    with app.app_context():
        user = User.create(username="ada", email="ada@example.org", password_hash="-")
        pair = sessions.start(user, Caller("127.0.0.1"))
    db.close_all()
    return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

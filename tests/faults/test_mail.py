"""A mail server that is dead, hangs or refuses: nobody notices but the mails, which come later."""

import re
import socket
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from runtime.gunicorn.bounds import STOP_SECONDS
from tests.agent.completions_server import DONE, CompletionsServer, Pause, finish, stream, text
from tests.faults.conftest import SECRET_KEY
from tests.servers import Answer, Service, wait_until
from tests.smtp_server import HangingServer, SMTPServer

PASSWORD = "correct horse battery"
SIGN_UPS = 12


def settings_for(server: SMTPServer) -> dict[str, str]:
    """A service on its own SQLite, without limits on what one network may do."""
    return {
        "SMTP_URL": f"smtp://127.0.0.1:{server.port}",
        "SECRET_KEY": SECRET_KEY,
        "RATE_LIMITS": "off",
    }


class Well:
    """A server that takes every mail; the others begin as something else and become one."""

    def __init__(self):
        self.server = SMTPServer()
        self.begin()

    def begin(self) -> None:
        self.server.start()

    def get_well(self) -> None:
        pass


class Dead(Well):
    """Nobody listens."""

    def begin(self) -> None:
        pass

    def get_well(self) -> None:
        self.server.start()


class Hanging(Well):
    """Lets everybody connect and says nothing."""

    def begin(self) -> None:
        self.silent = HangingServer()
        self.server.port = self.silent.port

    def get_well(self) -> None:
        self.silent.stop()
        self.server.start()


class Refusing(Well):
    """Listens to all of a mail before it says no."""

    def begin(self) -> None:
        self.server.data_answer = "451 Try again later"
        self.server.start()

    def get_well(self) -> None:
        self.server.data_answer = None


@pytest.fixture
def posts() -> Iterator[list[Well]]:
    """A mail server in each condition, the one that is well first."""
    made = [Well(), Dead(), Hanging(), Refusing()]
    yield made
    for each in made:
        each.server.stop()


def address_of(number: int) -> str:
    return f"user_{number}@example.org"


def sign_up(service: Service, number: int) -> Answer:
    body = {"username": f"user_{number}", "email": address_of(number), "password": PASSWORD}
    return service.client.post("/auth/verifications", body)


def resend(service: Service, number: int) -> Answer:
    """For somebody who waits, and later for nobody; never for the first, whose code stays."""
    return service.client.post("/auth/verifications/resend", {"email": address_of(number + 1)})


def in_turns(services: list[Service], ask: Callable, rounds: int) -> list[list[Answer]]:
    """Each service's answers to the same requests, their turn's place another in each round."""
    answers = [[] for _ in services]
    for number in range(rounds):
        for place in range(len(services)):
            which = (place + number) % len(services)
            answers[which].append(ask(services[which], number))
    return answers


def is_slower(answers: list[Answer], others: list[Answer]) -> bool:
    """Whether answers took longer than the others of their rounds, by more than chance or noise.

    Of twelve rounds of equals one is the slower in eleven once in 300 times, and then by little.
    """
    delays = [a.seconds - b.seconds for a, b in zip(answers, others, strict=True)]
    if sum(delay > 0 for delay in delays) < 0.9 * len(delays):
        return False
    usual = statistics.median(other.seconds for other in others)
    return statistics.median(delays) > 0.2 * usual


def told(answers: list[Answer]) -> set[tuple[int, bytes]]:
    return {(answer.status, answer.body) for answer in answers}


def code_for(server: SMTPServer, address: str) -> str:
    """The code in the newest mail to an address."""
    mails = [each.message for each in server.received if each.recipients == [address]]
    return re.search(r"\b\d{6}\b", mails[-1].get_body(("plain",)).get_content()).group()


@pytest.mark.quiet("compares the times of answers")
def test_a_mail_server_that_is_unwell_changes_no_answer_and_no_time(posts, tmp_path):
    with ExitStack() as stack:
        services = [
            stack.enter_context(
                Service(tmp_path / str(n), settings_for(post.server), "tests.quick_app:app")
            )
            for n, post in enumerate(posts)
        ]
        for ask, rounds in ((sign_up, SIGN_UPS), (resend, 20)):
            well, *unwell = in_turns(services, ask, rounds)
            assert unwell
            for answers in unwell:
                assert told(answers) == told(well)
                assert not is_slower(answers, well)
        for post in posts:
            post.get_well()
        for service, post in zip(services, posts, strict=True):
            assert_mails_arrive(service, post.server)


def assert_mails_arrive(service: Service, server: SMTPServer) -> None:
    """Everybody's, and with a code that is good."""
    everybody = {address_of(number) for number in range(SIGN_UPS)}
    wait_until(lambda: set(server.addresses) == everybody, 60, "all mails arrive")
    code = code_for(server, address_of(0))
    verified = {"email": address_of(0), "token": code}
    assert service.client.post("/auth/verifications/verify", verified).status == 200


@contextmanager
def model_of(seconds: float) -> Iterator[CompletionsServer]:
    """A model that says the first half of its answer at once, and the second so much later."""
    with CompletionsServer() as model:
        model.script(stream(text("Hel"), Pause(seconds), text("lo"), finish(), DONE))
        yield model


def test_a_stop_finishes_the_chat_that_runs_and_sends_the_mail_that_waits(tmp_path):
    post = Refusing()
    with model_of(2) as model, ThreadPoolExecutor() as threads, ExitStack() as stack:
        stack.callback(post.server.stop)
        settings = settings_for(post.server) | {"OPENAI_BASE_URL": model.url, "AGENT_MODEL": "test"}
        service = stack.enter_context(Service(tmp_path, settings, WEB_CONCURRENCY="2"))
        token = sign_up_and_verify(service, post)
        for number in (1, 2):
            assert sign_up(service, number).status == 202
        chat = threads.submit(service.client.post, "/agent-chats", {"message": "Hi"}, token)
        wait_until(lambda: model.requests, 10, "the model is asked")

        service.process.terminate()
        wait_until(lambda: is_closed(service.port), 5, "nobody is let in any more")
        assert not chat.done()
        answer = chat.result()
        post.get_well()
        service.process.wait(STOP_SECONDS)

    assert (answer.status, answer.json["output"]) == (200, "Hello")
    assert answer.json["events"][-1]["type"] == "RUN_FINISHED"
    assert {address_of(1), address_of(2)} <= set(post.server.addresses)
    assert service.process.returncode == 0
    assert "SIGKILL" not in service.log


def sign_up_and_verify(service: Service, post: Refusing) -> str:
    """Somebody's access token, made while the server is well for a moment."""
    post.get_well()
    sign_up(service, 0)
    wait_until(lambda: post.server.received, 20, "the code arrives")
    post.server.data_answer = "451 Try again later"
    verified = {"email": address_of(0), "token": code_for(post.server, address_of(0))}
    return service.client.post("/auth/verifications/verify", verified).json["access_token"]


def is_closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False

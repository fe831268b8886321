import json
import logging
import re
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from ssl import create_default_context
from urllib.parse import quote

import pytest
from flask import Flask

from runtime import clock, logs
from runtime.caller import Caller
from runtime.config.settings import ConfigError
from runtime.mail import words
from runtime.mail.addresses import mailable, masked
from runtime.mail.letters import Letter, Letters, MailedCode
from runtime.mail.queue import SENDERS, Mail, init_app, mail
from tests.ports import free_port
from tests.smtp_server import (
    PASSWORD,
    USER,
    HangingServer,
    SMTPServer,
    make_certificate,
    wait_until,
)

# The test's server takes passwords in the clear where the client must not send them.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

ROOT = Path(__file__).resolve().parents[2]
LETTER = Letters(words.load(None, "Runtime API")).write(
    "verification",
    "zh",
    codes=[
        MailedCode("ada", "271828", "https://app.example.org/?token=271828", Caller("192.0.2.1"))
    ],
    minutes=10,
)
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@"
ANOTHER_HOST = "0.0.0.0"


def soon():
    """Good for as long as any test takes."""
    return clock.now() + timedelta(minutes=10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def trusting(certificate):
    """A client's context that trusts the test's certificate, and checks names all the same."""
    return create_default_context(cafile=str(certificate))


@pytest.fixture
def start_server(make_mail):
    """Start a server with a mood; stopped at the end, before the mails that wait for it."""
    servers = []

    def start(*args, **options):
        servers.append(SMTPServer(*args, **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(start_server):
    return start_server()


@pytest.fixture
def hanging_server(make_mail):
    server = HangingServer()
    yield server
    server.stop()


@pytest.fixture
def outbox(tmp_path):
    return tmp_path / "instance" / "outbox"


@pytest.fixture
def make_mail(outbox):
    """A Mail that retries within hundredths of a second."""
    made = []

    def make(smtp_url=None, **options):
        options = {
            "timeout_seconds": 1,
            "first_delay_seconds": 0.02,
            "longest_delay_seconds": 0.1,
            **options,
        }
        made.append(Mail(smtp_url, "Runtime API <noreply@example.org>", outbox, **options))
        return made[-1]

    yield make
    # What still waits runs out, so that no thread goes on into the next test.
    clock.hold(clock.now() + timedelta(days=1))
    for each in made:
        each.drain(2)
    clock.hold(None)


@pytest.fixture
def held_clock():
    clock.hold(clock.now())
    yield clock
    clock.hold(None)


@pytest.fixture
def lines(caplog):
    """What this part has logged, as text."""
    caplog.set_level(logging.DEBUG, "runtime")
    return lambda: "\n".join(
        record.getMessage() + str(record.exc_info or "")
        for record in caplog.records
        if record.name.startswith("runtime")
    )


def url(server, login="", options="", scheme="smtp", host="127.0.0.1"):
    return f"{scheme}://{login}{host}:{server.port}{options}"


def test_a_mail_arrives_whole_over_smtp(server, make_mail):
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    (received,) = server.received
    message = received.message
    assert received.recipients == ["ada@example.org"]
    assert message["From"] == "Runtime API <noreply@example.org>"
    assert message["To"] == "ada@example.org"
    assert message["Subject"] == LETTER.subject
    assert message["Date"].datetime.utcoffset() == timedelta(0)
    assert re.fullmatch(r"<\w+@example\.org>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    assert message.get_body(("plain",)).get_content().splitlines() == LETTER.text.splitlines()
    assert message.get_body(("html",)).get_content().splitlines() == LETTER.html.splitlines()
    assert received.raw.isascii()


def test_sending_is_off_the_callers_path(hanging_server, make_mail):
    post = make_mail(url(hanging_server), timeout_seconds=10)

    started_at = time.monotonic()
    for number in range(100):
        post.send(f"user{number}@example.org", LETTER, soon())

    assert time.monotonic() - started_at < 5
    assert post.queued == 100


def test_a_dead_server_raises_nothing_and_the_mail_arrives_when_it_is_back(make_mail):
    server = SMTPServer()
    post = make_mail(url(server))
    post.send("ada@example.org", LETTER, soon())
    time.sleep(0.2)
    assert post.queued == 1

    server.start()

    assert wait_until(lambda: server.addresses == ["ada@example.org"])
    server.stop()


def test_a_server_that_hangs_is_given_up_after_a_while(hanging_server, make_mail, lines):
    post = make_mail(url(hanging_server), timeout_seconds=0.1)

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: "try 2" in lines())


def test_a_temporary_refusal_is_tried_again(server, make_mail):
    server.answers["ada@example.org"].extend(["451 Later", "421 Busy", "250 OK"])
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: server.addresses == ["ada@example.org"])
    assert server.tried["ada@example.org"] == 3


def test_a_recipient_who_is_refused_for_good_is_not_tried_again(server, make_mail, lines):
    server.answers["nobody@example.org"].append("550 No such user")
    post = make_mail(url(server))

    post.send("nobody@example.org", LETTER, soon())

    assert wait_until(lambda: post.queued == 0)
    assert server.addresses == []
    assert "mail to n***@example.org dropped: refused with 550" in lines()


def test_a_mail_whose_text_is_refused_for_good_is_not_tried_again(server, make_mail):
    server.data_answer = "554 Looks like spam"
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: post.queued == 0)
    assert server.tried["ada@example.org"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        "550 5.1.8 Sender address rejected: Domain not found",
        "553 5.7.1 Sender address rejected: not owned by user",
        "554 5.7.1 Relay access denied",
        "530 5.7.0 Authentication required",
        "550 relay not permitted",
        "554 Client host rejected",
    ],
)
def test_a_sender_who_is_refused_at_rcpt_is_no_refused_recipient(server, make_mail, lines, answer):
    server.answers["ada@example.org"].append(answer)
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: server.addresses == ["ada@example.org"])
    assert f"try 1: SenderRefused {answer[:3]}" in lines()
    assert "the mail server refuses the sender: see MAIL_FROM" in lines()
    assert "dropped" not in lines()


@pytest.mark.parametrize(
    "answer",
    [
        "550 5.1.1 No such user",
        "550 5.4.1 Recipient address rejected: Access denied",
        "552 5.2.2 Mailbox full",
        "553 5.3.0 No such user here",
        "556 5.1.10 Domain takes no mail",
        "551 User not local",
    ],
)
def test_a_recipient_is_told_from_a_sender_by_the_code(server, make_mail, lines, answer):
    server.answers["nobody@example.org"].append(answer)
    post = make_mail(url(server))

    post.send("nobody@example.org", LETTER, soon())

    assert wait_until(lambda: post.queued == 0)
    assert f"dropped: refused with {answer[:3]}" in lines()
    assert "the sender" not in lines()


def test_a_server_that_refuses_the_sender_is_asked_less_and_less_often(server, make_mail):
    server.answers["ada@example.org"].extend(["550 5.7.1 Sender rejected"] * 6)
    post = make_mail(url(server), first_delay_seconds=0.02, longest_delay_seconds=0.02)
    began_at = time.monotonic()

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: server.addresses == ["ada@example.org"])
    # At least half of 0.02 s, 0.04 s and so on, and not six times 0.02 s.
    assert time.monotonic() - began_at > 0.6


def test_a_sender_who_is_refused_at_once_is_tried_again(server, make_mail, lines):
    server.sender_answer = "550 5.7.1 Sender rejected"
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, soon())
    assert wait_until(lambda: "try 1: SenderRefused 550" in lines())
    server.sender_answer = None

    assert wait_until(lambda: server.addresses == ["ada@example.org"])


@pytest.mark.parametrize(
    ("answer", "is_sent"),
    [
        ("550 5.7.60 Client does not have permissions to send as this sender", True),
        ("550 5.1.7 Invalid sender", True),
        ("554 5.7.1 Message contains spam", False),
        ("550 5.6.0 Message refused", False),
    ],
)
def test_a_sender_who_is_refused_with_the_text_is_tried_again(server, make_mail, answer, is_sent):
    server.data_answer = answer
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, soon())
    if is_sent:
        assert wait_until(lambda: server.tried["ada@example.org"] > 1)
        server.data_answer = None

    assert wait_until(lambda: post.queued == 0)
    assert server.addresses == ["ada@example.org"] * is_sent


@pytest.mark.parametrize(
    ("sender", "greeting"),
    [
        ("noreply@example.org", "example.org"),
        ("noreply@bücher.example", "xn--bcher-kva.example"),
        ("noreply@localhost", "[127.0.0.1]"),
    ],
)
def test_a_server_is_greeted_by_the_senders_domain(server, outbox, sender, greeting):
    post = Mail(url(server), sender, outbox)

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    assert server.greetings == [greeting]


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("noreply@example.org", "墨 & “Ink”, Inc."),
        ("Ink <noreply@example.org>", "Ink"),
    ],
)
def test_a_sender_without_a_name_has_the_applications(make_mail, outbox, sender, name):
    post = Mail(None, sender, outbox, sender_name="墨 & “Ink”, Inc.")

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    [file] = outbox.glob("*.eml")
    [sender] = message_from_bytes(file.read_bytes(), policy=SMTP_POLICY)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "noreply@example.org")


def test_a_mail_that_ran_out_is_not_sent(server, make_mail, held_clock, lines):
    post = make_mail(url(server))

    post.send("ada@example.org", LETTER, clock.now())

    assert wait_until(lambda: post.queued == 0)
    assert server.addresses == []
    assert lines() == "mail to a***@example.org dropped: it is no longer good"


def test_a_mail_is_tried_while_it_is_good_and_then_dropped(make_mail, held_clock, lines):
    post = make_mail(f"smtp://127.0.0.1:{free_port()}")
    post.send("ada@example.org", LETTER, clock.now() + timedelta(minutes=10))
    held_clock.advance(minutes=9, seconds=59)
    assert wait_until(lambda: "try 3" in lines())
    assert post.queued == 1

    held_clock.advance(seconds=1)

    assert wait_until(lambda: post.queued == 0)
    assert lines().count("dropped") == 1


def test_retries_come_at_growing_distances_up_to_the_longest(server, make_mail, held_clock):
    server.answers["ada@example.org"].extend(["451 Later"] * 200)
    post = make_mail(url(server), first_delay_seconds=0.02, longest_delay_seconds=0.1)
    started_at = time.monotonic()

    post.send("ada@example.org", LETTER, soon())

    # Eleven tries: the same distance every time takes 0.2 s, one that never stops growing 15 s.
    assert wait_until(lambda: server.tried["ada@example.org"] == 11, 6)
    assert time.monotonic() - started_at > 0.4


class Failing:
    """A transport that takes no mail; knows the ids of what it was given."""

    def __init__(self):
        self.ids = []

    def deliver(self, message, name):
        self.ids.append(message["Message-ID"])
        raise ConnectionRefusedError


def test_every_try_has_the_same_message_id(make_mail):
    post = make_mail()
    post._transport = failing = Failing()
    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: len(failing.ids) == 3)
    assert len(set(failing.ids)) == 1


@pytest.mark.parametrize("goodbye", ["hang", "500 What?"])
def test_a_failed_goodbye_does_not_send_a_mail_twice(server, make_mail, goodbye):
    server.quit_answer = goodbye
    post = make_mail(url(server), timeout_seconds=0.5)

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: post.queued == 0)
    time.sleep(0.1)
    assert server.addresses == ["ada@example.org"]


def test_other_mails_go_on_while_one_hangs_and_one_fails(server, make_mail):
    server.answers["slow@example.org"].append("hang")
    server.answers["bad@example.org"].extend(["451 Later"] * 1000)
    post = make_mail(url(server), timeout_seconds=10)
    post.send("slow@example.org", LETTER, soon())
    post.send("bad@example.org", LETTER, soon())
    others = {f"user{number}@example.org" for number in range(20)}

    for address in others:
        post.send(address, LETTER, soon())

    assert wait_until(lambda: set(server.addresses) == others and post.queued == 2)


class Held:
    """A transport that takes no mail to Ada before it may; knows who was tried, in order."""

    def __init__(self):
        self.tried = []
        self.may_take = threading.Event()

    def deliver(self, message, name):
        self.tried.append((message["To"], message["Subject"]))
        if "ada@" in message["To"].lower():
            self.may_take.wait(15)


def test_mails_to_one_address_are_tried_one_at_a_time_in_their_order(make_mail):
    post = make_mail()
    post._transport = held = Held()
    for number, address in enumerate(["ada@example.org", "Ada@example.org"] * 4):
        post.send(address, Letter(f"{number}", "", ""), soon())

    post.send("bob@example.org", LETTER, soon())

    assert wait_until(lambda: ("bob@example.org", LETTER.subject) in held.tried)
    assert len(held.tried) == 2
    held.may_take.set()
    assert post.drain(15) == 0
    assert [subject for to, subject in held.tried if to != "bob@example.org"] == list("01234567")


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_letter_is_sent_only_while_it_is_wanted(server, make_mail, is_wanted):
    post = make_mail(url(server))
    server.answers["ada@example.org"].append("451 Later")
    asked = []
    letter = Letter("", "", "", lambda: not asked.append(1) and (is_wanted or len(asked) < 2))

    post.send("ada@example.org", letter, soon())

    assert wait_until(lambda: post.queued == 0)
    assert len(asked) == 2
    assert len(server.addresses) == is_wanted


def test_a_full_queue_drops_the_newest_and_says_so(make_mail, lines):
    server = SMTPServer()
    post = make_mail(url(server), capacity=2)
    for name in ("ada", "bob", "eve"):
        post.send(f"{name}@example.org", LETTER, soon())
    assert post.queued == 2
    assert "mail to e***@example.org dropped: the queue is full" in lines()

    server.start()

    assert post.drain(15) == 0
    assert sorted(server.addresses) == ["ada@example.org", "bob@example.org"]
    server.stop()


def test_drain_sends_what_is_queued(server, make_mail):
    post = make_mail(url(server))
    for number in range(30):
        post.send(f"user{number}@example.org", LETTER, soon())

    assert post.drain(30) == 0
    assert len(server.received) == 30


def test_drain_tries_at_once_what_waits_for_a_retry(make_mail, lines):
    server = SMTPServer()
    post = make_mail(url(server), first_delay_seconds=60, longest_delay_seconds=60)
    post.send("ada@example.org", LETTER, soon())
    assert wait_until(lambda: "try 1" in lines())
    server.start()

    assert post.drain(15) == 0
    assert server.addresses == ["ada@example.org"]
    server.stop()


def test_a_failure_while_draining_is_soon_tried_again(server, make_mail):
    server.answers["ada@example.org"].extend(["451 Later"] * 7)
    post = make_mail(url(server), first_delay_seconds=0.05, longest_delay_seconds=60)
    post.send("ada@example.org", LETTER, soon())
    assert wait_until(lambda: server.tried["ada@example.org"] == 6)

    assert post.drain(1.5) == 0


def test_drain_stops_in_time_and_counts_what_is_left(hanging_server, make_mail, lines):
    post = make_mail(url(hanging_server), timeout_seconds=10)
    for number in range(7):
        post.send(f"user{number}@example.org", LETTER, soon())

    started_at = time.monotonic()

    assert post.drain(0.2) == 7
    assert 0.15 < time.monotonic() - started_at < 5
    assert post.drain(0) == 7
    assert "mails left unsent: 7" in lines()


def test_mail_can_be_sent_after_a_drain(server, make_mail):
    post = make_mail(url(server))
    post.drain(0)

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    assert server.addresses == ["ada@example.org"]


def test_starttls_with_user_and_password(start_server, make_mail, certificate, trusting):
    server = start_server(certificate, auth=True)
    post = make_mail(url(server, LOGIN, "?starttls=1"), ssl_context=trusting)

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    assert server.logins == [(USER, PASSWORD, True)]
    assert [(r.was_tls, r.user) for r in server.received] == [(True, USER)]


@pytest.mark.parametrize("options", ["", "?starttls=1"])
def test_tls_with_user_and_password(start_server, make_mail, certificate, trusting, options):
    server = start_server(certificate, is_tls=True, auth=True)
    post = make_mail(url(server, LOGIN, options, "smtps"), ssl_context=trusting)

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    assert server.logins == [(USER, PASSWORD, True)]
    assert [(r.was_tls, r.user) for r in server.received] == [(True, USER)]


# Python's own: of a connection that is reset before the handshake it forgets the socket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("scheme", "options"), [("smtps", ""), ("smtp", "?starttls=1")])
def test_a_certificate_that_nobody_vouches_for_gets_no_mail_and_no_password(
    start_server, make_mail, certificate, lines, scheme, options
):
    server = start_server(certificate, is_tls=scheme == "smtps", auth=True)
    post = make_mail(url(server, LOGIN, options, scheme))

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: "SSLCertVerificationError" in lines())
    assert server.logins == []
    assert server.received == []


def test_starttls_that_is_demanded_and_not_offered_sends_nothing(server, make_mail, lines):
    post = make_mail(url(server, options="?starttls=1"))

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: "SMTPNotSupportedError" in lines())
    assert server.tried == {}


def test_starttls_is_used_with_another_host_that_offers_it(
    start_server, make_mail, certificate, trusting
):
    server = start_server(certificate, auth=True)
    post = make_mail(url(server, LOGIN, host=ANOTHER_HOST), ssl_context=trusting)

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    assert server.logins == [(USER, PASSWORD, True)]


def test_starttls_is_left_alone_on_this_machine_and_when_it_is_switched_off(
    start_server, make_mail, certificate
):
    server = start_server(certificate)

    for post in (
        make_mail(url(server)),
        make_mail(url(server, host=ANOTHER_HOST, options="?starttls=0")),
    ):
        post.send("ada@example.org", LETTER, soon())
        assert post.drain(15) == 0

    assert [received.was_tls for received in server.received] == [False, False]


def test_a_password_never_goes_in_the_clear(start_server, make_mail, lines):
    server = start_server(auth=True, auth_in_the_clear=True)
    post = make_mail(url(server, LOGIN, host=ANOTHER_HOST))

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: "InTheClear" in lines())
    assert server.logins == []
    with pytest.raises(ConfigError, match=r"^SMTP_URL "):
        make_mail(url(server, LOGIN, "?starttls=0", host=ANOTHER_HOST))


def test_a_password_may_go_to_this_machine_without_tls(start_server, make_mail):
    server = start_server(auth=True, auth_in_the_clear=True)
    post = make_mail(url(server, LOGIN))

    post.send("ada@example.org", LETTER, soon())

    assert post.drain(15) == 0
    assert server.logins == [(USER, PASSWORD, False)]


@pytest.mark.parametrize(
    ("smtp_url", "port"),
    [
        ("smtp://mail.example.org", 25),
        ("smtp://mail.example.org?starttls=1", 587),
        ("smtps://mail.example.org", 465),
        ("smtp://mail.example.org:2525?starttls=1", 2525),
    ],
)
def test_the_port_follows_from_the_url(make_mail, smtp_url, port):
    assert make_mail(smtp_url)._transport._port == port


def test_a_wrong_password_is_tried_again(start_server, make_mail, certificate, trusting, lines):
    server = start_server(certificate, auth=True)
    post = make_mail(url(server, "someone:else@", "?starttls=1"), ssl_context=trusting)

    post.send("ada@example.org", LETTER, soon())

    assert wait_until(lambda: "SMTPAuthenticationError 535" in lines())
    assert post.queued == 1


def test_settings_that_make_no_sense_stop_the_start(make_mail, outbox):
    with pytest.raises(ConfigError, match=r"^SMTP_URL "):
        make_mail("smtps://mailer:%E5%AF%86@mail.example.org")
    for sender in ("Somebody", "a@example.org\nBcc: b@example.org", "=?utf-8?q?x?= <a@b.org>"):
        with pytest.raises(ConfigError, match=r"^MAIL_FROM "):
            Mail(None, sender, outbox)


def test_without_a_server_a_mail_becomes_a_file(make_mail, outbox, held_clock):
    post = make_mail()
    for number in range(20):
        post.send(f"user{number}@example.org", LETTER, soon())

    assert post.drain(15) == 0
    paths = sorted(outbox.iterdir())
    assert all(re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z-\d{6}-\w{16}\.eml", p.name) for p in paths)
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    messages = [message_from_bytes(path.read_bytes(), policy=SMTP_POLICY) for path in paths]
    assert [m["To"] for m in messages] == [f"user{number}@example.org" for number in range(20)]
    assert "271828" in messages[0].get_body(("plain",)).get_content()


def test_a_full_disk_leaves_no_half_mail_in_the_outbox(outbox):
    run_python(
        """
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, most))
        post.send("ada@example.org", LETTER, clock.now() + timedelta(minutes=10))
        assert post.drain(0.5) == 1
        assert list(outbox.glob("*.part")) and not list(outbox.glob("*.eml"))

        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert post.drain(15) == 0
        """,
        None,
        outbox,
    )

    (path,) = outbox.iterdir()
    assert path.suffix == ".eml"
    assert path.read_bytes().rstrip().endswith(b"--")


def test_an_outbox_that_cannot_be_written_is_tried_again(make_mail, outbox):
    outbox.parent.mkdir()
    outbox.write_text("in the way")
    post = make_mail()
    post.send("ada@example.org", LETTER, soon())
    time.sleep(0.1)
    assert post.queued == 1

    outbox.unlink()

    assert wait_until(lambda: len(list(outbox.glob("*.eml"))) == 1)


def test_the_console_shows_a_mail_only_to_somebody_who_is_trying_it_out(tmp_path, capfd):
    """Neither SMTP_URL nor DATABASE_URL is set."""
    dead_server = f"smtp://127.0.0.1:{free_port()}"
    shown = []
    for smtp_url, database_url, seconds in [
        (None, None, 60),
        (None, "postgres://localhost/runtime", 60),
        (dead_server, None, 0.1),
    ]:
        app = make_app(tmp_path, SMTP_URL=smtp_url, DATABASE_URL=database_url)
        with app.app_context():
            mail.send("ada@example.org", LETTER, clock.now() + timedelta(seconds=seconds))
            assert mail.drain(15) == 0
        shown.append("".join(capfd.readouterr()))

    assert LETTER.text.strip() in shown[0]
    assert len(re.findall("^-{72}$", shown[0], re.MULTILINE)) == 2
    assert not any("271828" in text for text in shown[1:])


def test_a_log_line_has_nothing_of_a_mail_but_its_masked_address(
    start_server, make_mail, held_clock, lines
):
    server = start_server()
    for address in ("late@example.org", "never@example.org"):
        answer = f"<{address}> {LETTER.subject.encode()} 271828"
        server.answers[address].extend([f"451 {answer}", f"550 {answer}"])
    dead = make_mail(f"smtp://user:sesame@127.0.0.1:{free_port()}", capacity=1)
    post = make_mail(url(server))

    for name in ("ada", "late", "never"):
        post.send(f"{name}@example.org", LETTER, soon())
        dead.send(f"{name}@example.org", LETTER, soon())
    assert wait_until(lambda: post.queued == 0 and "ConnectionRefusedError" in lines())
    dead.drain(0)
    held_clock.advance(hours=1)
    assert wait_until(lambda: dead.queued == 0)

    text = lines()
    for line in ("sent", "failed, try 1", "refused with 550", "no longer good", "full", "left"):
        assert line in text
    for secret in ("271828", "token", LETTER.subject, "ada@", "late@", "never@", "sesame", "验证"):
        assert secret not in text


def test_every_line_about_a_mail_has_the_id_of_the_request_that_queued_it(
    server, make_mail, capsys
):
    server.answers["ada@example.org"].append("451 Later")
    logs.init_app(None)
    post = make_mail(url(server))
    for name in ("ada", "bob"):
        logs.request_id.set(f"request-of-{name}")
        post.send(f"{name}@example.org", LETTER, soon())
    logs.request_id.set(None)

    assert post.drain(15) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = {(line["event"], line.get("request_id")) for line in told}
    assert lines == {
        ("mail to a***@example.org failed, try 1: SMTPRecipientsRefused", "request-of-ada"),
        ("mail to a***@example.org sent", "request-of-ada"),
        ("mail to b***@example.org sent", "request-of-bob"),
    }


@pytest.mark.parametrize(
    "address",
    [
        "=?utf-8?q?a=0d=0aBcc:_eve?=@example.org",
        "=?utf-8?q?x?=@example.org",
        "ada@=?utf-8?q?a=0aBcc:_eve?=",
        "ada@example.org\r\nBcc: eve@example.org",
        "ada@example.org\n",
        "ada@example.org\x00",
        "ada@example.org\x7f",
        "ada@example.org, eve@example.org",
        "Ada <ada@example.org>",
        "ada@example.org> SIZE=1",
        '"ada\r\n"@example.org',
        "ádá@example.org",
        "ada@[127.0.0.1]",
        "ada@" + "a" * 60 + ".example" * 30,
        "ada",
        "@example.org",
        "ada@",
        "",
    ],
)
def test_what_is_not_one_plain_address_gets_no_mail(make_mail, address):
    post = make_mail()

    with pytest.raises(ValueError, match="not an address"):
        post.send(address, LETTER, soon())

    assert post.queued == 0


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?a=0d=0aBcc:_eve=40example=2Eorg?=",
        "Hello\r\nBcc: eve@example.org",
        "Hello\nworld",
        "Hello\u2028world",
    ],
)
def test_a_subject_cannot_carry_another_header(make_mail, subject):
    post = make_mail()

    with pytest.raises(ValueError, match="not a text for a header"):
        post.send("ada@example.org", Letter(subject, "text", "html"), soon())


def test_the_encoded_word_that_is_refused_is_one_this_python_may_break_a_header_with():
    """Shows why `=?` is refused: old CPythons write the line break, patched ones raise."""
    message = EmailMessage(policy=SMTP_POLICY)
    message["Subject"] = "=?utf-8?q?a=0d=0aBcc:_eve=40example=2Eorg?="

    try:
        is_broken = b"\r\nBcc:" in message.as_bytes()
    except Exception:
        is_broken = False

    assert is_broken or "\n" in message["Subject"] or "Bcc" in message["Subject"]


def test_an_international_domain_is_mailed_as_idna(server, make_mail):
    post = make_mail(url(server))

    post.send("ada@bücher.example", LETTER, soon())

    assert post.drain(15) == 0
    assert server.addresses == ["ada@xn--bcher-kva.example"]
    assert mailable("o'Neil+x_1%y@Example.ORG") == "o'Neil+x_1%y@Example.ORG"
    assert masked("ada@example.org") == "a***@example.org"


def test_nothing_runs_before_the_first_mail(make_mail):
    before = threading.active_count()

    make_mail(f"smtp://127.0.0.1:{free_port()}")

    assert threading.active_count() <= before


@pytest.mark.parametrize("idle_seconds", [10, 0.01])
def test_a_mail_goes_at_once_whether_its_senders_wait_or_have_ended(
    server, make_mail, idle_seconds
):
    post = make_mail(url(server), idle_seconds=idle_seconds)

    for number in range(1, SENDERS + 3):
        post.send("ada@example.org", LETTER, soon())
        assert wait_until(lambda count=number: len(server.received) == count, 2)
        time.sleep(0.05)


def test_a_process_that_ends_sends_its_queue_first(server, outbox):
    run_python(
        """
        for number in range(20):
            post.send(f"user{number}@example.org", LETTER, clock.now() + timedelta(minutes=10))
        """,
        url(server),
        outbox,
    )

    assert len(server.received) == 20


def test_a_forked_child_sends_its_own_mail_and_none_of_its_parents(server, outbox):
    server.answers["parent@example.org"].append("451 Later")

    run_python(
        """
        good_until = clock.now() + timedelta(minutes=10)
        post.send("parent@example.org", LETTER, good_until)
        while not post._waiting:
            time.sleep(0.01)
        if os.fork() == 0:
            assert post.queued == 0
            post.send("child@example.org", LETTER, good_until)
            sys.exit()
        assert os.wait()[1] == 0
        assert post.queued == 1
        """,
        url(server),
        outbox,
        delay=30,
    )

    assert sorted(server.addresses) == ["child@example.org", "parent@example.org"]
    assert server.tried == {"parent@example.org": 2, "child@example.org": 1}


def test_init_app_puts_the_mail_of_the_settings_behind_the_proxy(tmp_path):
    app = make_app(tmp_path)

    with app.app_context():
        mail.send("ada@example.org", LETTER, soon())
        assert mail.drain(15) == 0

    assert len(list((tmp_path / "outbox").glob("*.eml"))) == 1
    assert app.extensions["mail"].queued == 0


def make_app(folder, **settings):
    app = Flask("test")
    app.config.update(
        {
            "SMTP_URL": None,
            "DATABASE_URL": None,
            "MAIL_FROM": "noreply@localhost",
            "APP_NAME": "Runtime API",
            "INSTANCE_PATH": str(folder),
            **settings,
        }
    )
    init_app(app)
    return app


def run_python(body, smtp_url, outbox, delay=0.05):
    """Run `body` in a process of its own that ends when the body does."""
    head = f"""
    import os, sys, time
    from datetime import timedelta
    from pathlib import Path
    from runtime import clock
    from runtime.mail.layout import Letter
    from runtime.mail.queue import Mail
    LETTER = Letter("Subject", "text", "html")
    outbox = Path({str(outbox)!r})
    post = Mail({smtp_url!r}, "noreply@example.org", outbox, first_delay_seconds={delay})
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body)],
        cwd=ROOT,
        check=True,
        timeout=30,
    )

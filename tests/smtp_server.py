"""A small real SMTP server for tests: aiosmtpd on a thread, with the moods a server can have."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult

from tests.ports import free_port

USER = "mailer@example.org"
PASSWORD = "p@ss:w/rd%41"


@dataclass(frozen=True)
class Received:
    """One mail that the server took, and how it came."""

    recipients: list[str]
    message: EmailMessage
    raw: bytes
    was_tls: bool
    user: str | None


class SMTPServer:
    """Listens on 127.0.0.1 between `start` and `stop`; the port stays the same.

    `certificate` makes it offer STARTTLS, or speak TLS from the first byte when `is_tls`.
    `auth` demands USER and PASSWORD, and with `auth_in_the_clear` would take them without TLS.
    """

    def __init__(
        self,
        certificate: Path | None = None,
        *,
        is_tls: bool = False,
        auth: bool = False,
        auth_in_the_clear: bool = False,
    ):
        self.port = free_port()
        self.received: list[Received] = []
        # Answers to RCPT, by address, each given once; "hang" says nothing any more.
        self.answers: dict[str, deque[str]] = defaultdict(deque)
        self.sender_answer: str | None = None
        self.data_answer: str | None = None
        self.quit_answer: str | None = None
        # What clients call themselves.
        self.greetings: list[str] = []
        self.tried: Counter[str] = Counter()
        self.logins: list[tuple[str, str, bool]] = []
        self._context = certificate and _server_context(certificate)
        self._is_tls = is_tls
        self._auth = auth
        self._auth_in_the_clear = auth_in_the_clear
        self._transports: list[asyncio.Transport] = []
        self._thread: threading.Thread | None = None

    @property
    def addresses(self) -> list[str]:
        """Everybody who has got a mail, in the order they got it."""
        return [address for each in self.received for address in each.recipients]

    def start(self) -> "SMTPServer":
        """Accept mail from now on."""
        listener = socket.create_server(("127.0.0.1", self.port))
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(listener, ready), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self) -> None:
        """Be dead: refuse connections until the next `start`."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None

    def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.new_event_loop()
        server = self._loop.run_until_complete(
            self._loop.create_server(
                self._session,
                sock=listener,
                ssl=self._context if self._is_tls else None,
            )
        )
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._hang_up(server))
        self._loop.close()

    async def _hang_up(self, server: asyncio.Server) -> None:
        """End every connection.

        What was accepted a moment ago is let in first: asyncio loses the sockets of those that
        it has not begun with when the server closes.
        """
        for listener in server.sockets:
            self._loop.remove_reader(listener.fileno())
        await asyncio.sleep(0.01)
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0.01)

    def _session(self) -> SMTP:
        return _Session(
            self._transports,
            self,
            hostname="localhost",
            loop=self._loop,
            tls_context=None if self._is_tls else self._context,
            auth_required=self._auth,
            # aiosmtpd takes a session that was TLS from the start for one in the clear.
            auth_require_tls=not (self._auth_in_the_clear or self._is_tls),
            authenticator=self._authenticate,
        )

    def _authenticate(self, server, session, envelope, mechanism, login) -> AuthResult:
        user, password = login.login.decode(), login.password.decode()
        self.logins.append((user, password, _is_tls(server)))
        session.user = user
        return AuthResult(success=(user, password) == (USER, PASSWORD), handled=False)

    async def handle_EHLO(self, server, session, envelope, hostname, responses) -> list[str]:
        session.host_name = hostname
        self.greetings.append(hostname)
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options) -> str:
        if self.sender_answer:
            return self.sender_answer
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:
        self.tried[address] += 1
        answers = self.answers[address]
        answer = answers.popleft() if answers else "250 OK"
        if answer == "hang":
            await asyncio.sleep(3600)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, session, envelope) -> str:
        if self.data_answer:
            return self.data_answer
        self.received.append(
            Received(
                list(envelope.rcpt_tos),
                message_from_bytes(envelope.content, policy=SMTP_POLICY),
                envelope.content,
                _is_tls(server),
                getattr(session, "user", None),
            )
        )
        return "250 OK"

    async def handle_QUIT(self, server, session, envelope) -> str:
        if self.quit_answer == "hang":
            await asyncio.sleep(3600)
        return self.quit_answer or "221 Bye"


class _Session(SMTP):
    """Remembers its transports, the one under STARTTLS too, which aiosmtpd may leave open."""

    def __init__(self, transports: list[asyncio.Transport], *args, **options):
        super().__init__(*args, **options)
        self._transports = transports

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transports.append(transport)
        super().connection_made(transport)


class HangingServer:
    """Lets everybody connect and never says a word."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._socket.getsockname()[1]

    def stop(self) -> None:
        """Be dead; does no harm a second time."""
        self._socket.close()


def _is_tls(server: SMTP) -> bool:
    return server.transport.get_extra_info("ssl_object") is not None


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate and its key in one file, for localhost; skips without openssl.

    0.0.0.0 reaches this machine too, but is no loopback address: it stands for a remote host.
    """
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command to make a certificate")
    path = folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", path),
            *("-out", folder / "public.pem"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:0.0.0.0"),
        ],
        check=True,
        capture_output=True,
    )
    with path.open("a") as file:
        file.write((folder / "public.pem").read_text())
    return path


def wait_until(condition, seconds: float = 15) -> bool:
    """Whether `condition()` comes true within the time."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())

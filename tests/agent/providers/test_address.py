"""Where a model's server is asked, and what it is shown: addresses as people copy them."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message
from runtime.agent.providers.address import Address, Proxies
from runtime.agent.providers.openai import OpenAIProvider
from runtime.agent.providers.provider import ProviderError
from runtime.agent.stop import Stop
from tests.agent.completions_server import CompletionsServer, Reply, answer, plain

KEY = "sk-0123456789"


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with CompletionsServer(answer("Hi")) as server:
        yield server


def ask(base_url: str, key: str | None = KEY, **how: Any) -> list:
    provider = OpenAIProvider(base_url, key, "m-1", attempts=2, backoff_seconds=0.01, **how)
    bounds = {"deadline": time.monotonic() + 10, "silence_seconds": 5, "stop": Stop()}
    return list(provider.stream([Message("user", "Hello")], [], **bounds))


def failure(base_url: str, key: str | None = KEY, **how: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(base_url, key, **how)
    return caught.value


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1#x", "/v1/chat/completions"),
        ("/v1?a=b", "/v1/chat/completions?a=b"),
        ("/v1/chat/completions?a=b#x", "/v1/chat/completions?a=b"),
        ("", "/chat/completions"),
    ],
)
def test_an_address_may_be_copied_whole(server: CompletionsServer, written: str, path: str) -> None:
    ask(server.url.removesuffix("/v1") + written)
    assert server.requests[0].path == path
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_an_address_may_name_the_other_dialect(server: CompletionsServer) -> None:
    with pytest.raises(ProviderError):  # this server does not speak it
        ask(f"{server.url}/responses")
    assert server.requests[0].path == "/v1/responses"


def test_azure_is_asked_for_its_version_and_shown_the_key_in_its_header(
    server: CompletionsServer,
) -> None:
    root = server.url.removesuffix("/v1") + "/openai/deployments/d"
    ask(f"{root}?api-version=2024-10-21")
    [request] = server.requests
    assert request.path == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == KEY
    assert "Authorization" not in request.headers


def test_a_user_in_the_address_is_sent_and_in_no_message(server: CompletionsServer) -> None:
    url = server.url.replace("http://", "http://ada:pass%3Aw0rd@")
    server.script(plain({"error": {"message": "no, pass:w0rd"}}, 400))
    message = failure(url, None).message
    # base64 of "ada:pass:w0rd"
    assert server.requests[0].headers["Authorization"] == "Basic YWRhOnBhc3M6dzByZA=="
    assert "ada" not in message


@pytest.mark.parametrize(
    ("url", "key", "name"),
    [
        ("ftp://host/v1", KEY, "OPENAI_BASE_URL"),
        ("http:///v1", KEY, "OPENAI_BASE_URL"),
        ("http://ada:S3cret@host/v1", KEY, "OPENAI_BASE_URL"),
        ("http://host/v1", "sk-\u00e9", "OPENAI_API_KEY"),
        ("http://host/v1", "sk 1", "OPENAI_API_KEY"),
    ],
)
def test_what_cannot_be_asked_is_one_line_that_names_the_setting(
    url: str, key: str, name: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} ") as refusal:
        Address.read(url, key)
    assert "S3cret" not in str(refusal.value) and key not in str(refusal.value)


def test_a_server_is_named_without_its_secrets() -> None:
    address = Address.read("https://ada:S3cret@host:8443/v1?code=S3cret#x", None)
    assert address.name("/chat/completions") == "host:8443/v1/chat/completions"
    assert "S3cret" not in repr(address.headers) + address.root


def moved(location: str) -> Reply:
    return Reply((), 308, {"Location": location, "Content-Length": "0"})


@pytest.mark.parametrize(
    ("path", "reply", "words"),
    [
        ("/v1", plain({"error": "no"}, 401), ("401", "OPENAI_API_KEY")),
        ("/v1", plain({"error": "pay"}, 402), ("402", "pay", "paid for")),
        ("/v1", plain({"error": "no model m-1"}, 404), ("404", "no model m-1", "AGENT_MODEL")),
        ("/v1", plain({"error": "API key not valid. Pass one."}, 400), ("400", "OPENAI_API_KEY")),
        ("/v1", plain({"error": "Model Not Exist"}, 400), ("400", "AGENT_MODEL")),
        ("/v1", plain({"error": "Invalid model name: m-1"}, 400), ("400", "AGENT_MODEL")),
        ("/v1", plain({"error": "who are you?"}, 407), ("407", "HTTP_PROXY")),
        ("", plain({"error": "no"}, 404), ("404", "end with /v1")),
        ("/v1", moved("https://n:pw@other.test/v1?k=v"), ("308", "https://other.test/v1")),
        ("/v1", plain({"error": {"code": "insufficient_quota"}}, 429), ("429",)),
    ],
)
def test_a_wrong_setting_is_told_to_the_operator_after_one_request(
    server: CompletionsServer, path: str, reply: Reply, words: tuple[str, ...]
) -> None:
    server.script(reply)
    url = server.url.removesuffix("/v1") + path
    error = failure(url)
    host = url.removeprefix("http://")
    assert error.code == ErrorCode.PROVIDER_MISCONFIGURED
    assert error.message.startswith(f"m-1 on {host}/chat/completions: ")
    assert all(word in error.message for word in words), error.message
    assert "pw" not in error.message and KEY not in error.message
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_named(server: CompletionsServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        error = failure(f"http://{host}/v1")
    assert error.code == ErrorCode.PROVIDER_UNAVAILABLE
    assert host in error.message and "does a server run at OPENAI_BASE_URL" in error.message


@pytest.mark.parametrize(
    "message",
    [
        "The response was filtered due to the prompt triggering the content management policy",
        "Your input was flagged by the moderation endpoint",
    ],
)
@pytest.mark.parametrize("status", [400, 403])
def test_a_filter_is_told_from_a_wrong_setting(
    server: CompletionsServer, message: str, status: int
) -> None:
    server.script(plain({"error": {"message": message}}, status))
    assert failure(server.url).code == ErrorCode.REQUEST_FILTERED


def test_a_server_is_asked_through_a_proxy(server: CompletionsServer) -> None:
    proxy = server.url.removesuffix("/v1").replace("http://", "http://ada:pw@")
    ask("http://model.test/v1", proxies=Proxies(http=proxy))
    [request] = server.requests
    assert request.path == "http://model.test/v1/chat/completions"
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["proxy-authorization"] == "Basic YWRhOnB3"


def test_a_host_that_needs_no_proxy_is_asked_directly(server: CompletionsServer) -> None:
    proxies = Proxies(http="http://127.0.0.1:9", no="example.org, 127.0.0.1")
    ask(server.url, proxies=proxies)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "no", "proxy"),
    [
        ("http://a.test/v1", "", "http://p"),
        ("https://a.test/v1", "", "http://s"),
        ("https://a.test/v1", "a.test", None),
        ("https://b.a.test/v1", ".a.test", None),
        ("https://b.a.test/v1", "a.test", None),
        ("https://ba.test/v1", "a.test", "http://s"),
        ("https://a.test/v1", "*", None),
    ],
)
def test_a_proxy_is_for_a_scheme_and_not_for_all_hosts(
    url: str, no: str, proxy: str | None
) -> None:
    assert Proxies("http://p", "http://s", no).between(url) == proxy


def test_a_server_with_tls_is_asked_through_a_tunnel() -> None:
    asked: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(1000).split(b"\r\n")[0])
                connection.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
                connection.recv(1000)  # the beginning of TLS, which nothing here speaks

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        error = failure("https://model.test/v1", proxies=Proxies(https=proxy))
    assert error.code == ErrorCode.PROVIDER_UNAVAILABLE
    assert [line.split()[:2] for line in asked] == [[b"CONNECT", b"model.test:443"]] * 2

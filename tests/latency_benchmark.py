"""How long readers of a run wait: `python -m tests.latency_benchmark`.

Two processes on one Postgres, beside a model that answers at once, one request at a time:

- the first word through the service, beside the first word from the model itself, in turns;
- from a stop, asked of the other process, until the model's connection is closed;
- from coming back, on either process, until the first event that was missed is there.

And how many deltas of a model that does not pause a core passes on, with the journal written,
beside a bare relay of the same bytes.

Set TEST_DATABASE_URL to a Postgres that a database may be made on.
"""

import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from app import create_app
from tests.agent.completions_server import DONE, HANG, CompletionsServer, Drip, finish, stream, text
from tests.benchmark import people, scratch_database
from tests.servers import Client, Service
from tests.streaming import Listener, until

ROUNDS = 200
FIRST_WORD_MS, STOP_MS = 2, 200
ANSWERS, DELTAS = 8, 40_000
DELTAS_A_SECOND = 30_000


def first_word_of_model(url: str) -> float:
    """Seconds until the model's first word, asked directly."""
    began = time.monotonic()
    connection = HTTPConnection(urlsplit(url).netloc)
    body = json.dumps({"model": "test", "stream": True, "messages": []})
    connection.request("POST", f"{urlsplit(url).path}/chat/completions", body)
    answer = connection.getresponse()
    while b"Hello" not in answer.read1(65536):
        pass
    connection.close()
    return time.monotonic() - began


def first_word_of_service(port: int, token: str) -> float:
    """Seconds until the first word of a new run."""
    listener = Listener(token)
    began = time.monotonic()
    listener.listen(port, until(lambda: listener.text))
    return time.monotonic() - began


def stop_from_elsewhere(one: Service, other: Service, token: str, model: CompletionsServer):
    """Seconds from a stop asked of another process until the connection to the model is closed."""
    model.left.clear()
    listener = Listener(token)
    listener.listen(one.port, until(lambda: listener.text))
    path = listener.where.removeprefix("/api/v1").removesuffix("/events")
    client, began = Client(other.port), time.monotonic()
    assert client.post(f"{path}/cancel", None, token).status == 200
    assert model.left.wait(1)
    return model.left_at - began


def come_back(one: Service, port: int, token: str) -> float:
    """Seconds from coming back to a run that goes on until the first event that was missed."""
    listener = Listener(token)
    listener.listen(one.port, until(lambda: listener.text))
    time.sleep(0.1)
    seen, began = listener.last, time.monotonic()
    listener.listen(port, until(lambda: listener.last > seen))
    seconds = time.monotonic() - began
    path = listener.where.removeprefix("/api/v1").removesuffix("/events")
    assert Client(one.port).post(f"{path}/cancel", None, token).status == 200
    return seconds


def deltas_a_core(service: Service, hear: Callable[[], object]) -> float:
    """How many deltas a second of processor time, of all processes of the service, passes on."""
    used = service.cpu_seconds()
    with ThreadPoolExecutor(ANSWERS) as threads:
        for heard in [threads.submit(hear) for _ in range(ANSWERS)]:
            heard.result()
    return ANSWERS * DELTAS / (service.cpu_seconds() - used)


def hear_run(port: int, token: str) -> None:
    listener = Listener(token)
    listener.listen(port)
    assert listener.text == "word " * DELTAS


def hear_relay(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/relay", "{}")
    assert connection.getresponse().read().count(b"word ") == DELTAS
    connection.close()


def line(name: str, seconds: list[float], target: str = "") -> None:
    ms = sorted(each * 1000 for each in seconds)
    at_99 = ms[min(len(ms) - 1, len(ms) * 99 // 100)]
    print(f"{name:44} median {statistics.median(ms):7.1f} ms   99 % {at_99:7.1f} ms  {target}")


def main() -> None:
    with (
        scratch_database() as url,
        tempfile.TemporaryDirectory() as folder,
        CompletionsServer() as model,
    ):
        settings = {
            "DATABASE_URL": url,
            "SECRET_KEY": "a-key-for-the-benchmark-" * 2,
            "RATE_LIMITS": "off",
            "OPENAI_BASE_URL": model.url,
            "AGENT_MODEL": "test",
            "AGENT_MAX_OUTPUT_CHARS": str(10 * DELTAS),
        }
        app = create_app({**settings, "INSTANCE_PATH": folder})
        logging.getLogger("runtime").setLevel(logging.WARNING)
        token = people(app, 1)[0]["access"]
        one, other = (Service(Path(folder) / name, settings) for name in ("one", "other"))
        relay = Service(Path(folder) / "relay", settings, "tests.benchmark_floor:app")
        with one, other, relay:
            model.script(stream(text("Hello"), finish(), DONE))
            direct, through = [], []
            for _ in range(ROUNDS):
                direct.append(first_word_of_model(model.url))
                through.append(first_word_of_service(one.port, token))
            line("first word, asking the model", direct)
            line("first word, through the service", through)
            added = statistics.median(through) - statistics.median(direct)
            print(f"{'added at the median':44} {added * 1000:14.1f} ms  (target {FIRST_WORD_MS})")
            model.script(stream(text("Hello"), HANG))
            stops = [stop_from_elsewhere(one, other, token, model) for _ in range(ROUNDS)]
            line("stop, until the model's connection is closed", stops, f"(target {STOP_MS})")
            model.script(stream(Drip(f"data: {json.dumps(text('word '))}\n\n", 0.02)))
            for name, service in (("the same process", one), ("another process", other)):
                backs = [come_back(one, service.port, token) for _ in range(ROUNDS // 2)]
                line(f"coming back, {name}", backs)
            model.script(stream(*[text("word ")] * DELTAS, finish(), DONE))
            relayed = deltas_a_core(relay, lambda: hear_relay(relay.port))
            passed_on = deltas_a_core(one, lambda: hear_run(one.port, token))
            print(
                f"{'deltas a second of a core':44} {passed_on:14.0f}     (target {DELTAS_A_SECOND};"
                f" a bare relay {relayed:.0f})"
            )


if __name__ == "__main__":
    main()

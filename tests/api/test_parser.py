"""Our reading of JSON, where it is finer than what a route shows."""

import gc
import json
import tracemalloc
from contextlib import suppress
from io import BytesIO
from random import Random

import pytest

from runtime.api.json_body import MAX_DEPTH, decode
from runtime.database.base import db
from tests.conftest import Person, at_once

SCRAPS = ["{", "}", "[", "]", ",", ":", '"', '"a"', "\\", "\\u", "d800", "1", "e", "-", ".", "null"]


def nested(depth: int) -> bytes:
    """An object with so many levels in all."""
    return b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_json_can_say_is_read_as_it_is_meant(ascii_only: bool):
    value = {"": None, "é\n😀\u2028\0": [True, -1, 0.1, 1e300, {}, [], "x", {"a": {"b": "\\"}}]}

    assert decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize("seed", range(20))
def test_nothing_crashes_it(seed: int):
    random = Random(seed)
    for _ in range(200):
        text = "".join(random.choices(SCRAPS, k=random.randrange(20)))
        for body in (random.randbytes(random.randrange(40)), text.encode(), f"{{{text}}}".encode()):
            try:
                assert isinstance(decode(body), dict)
            except ValueError as error:
                assert str(error) in ("not_json", "not_an_object", "repeated_field")


def test_values_may_be_nested_as_deep_as_anything_here_needs():
    decode(nested(MAX_DEPTH))

    with pytest.raises(ValueError, match="not_json"):
        decode(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("digits", ["0", "-0", "9" * 18, "-" + "9" * 18, "1.5e300", "5e-324"])
def test_numbers_that_fit_are_read(digits: str):
    assert decode(b'{"a": %s}' % digits.encode()) == {"a": json.loads(digits)}


@pytest.mark.parametrize("digits", ["9" * 19, "-" + "9" * 19, "9" * 5000, "1e309", "-1e309"])
def test_numbers_that_do_not_are_refused(digits: str):
    with pytest.raises(ValueError, match="not_json"):
        decode(b'{"a": %s}' % digits.encode())


@pytest.mark.parametrize("text", ["\\ud83d\\ude00", "\\u00e9", "e\\u0301", "\\uffff", "\\u0000"])
def test_escapes_that_mean_a_character_are_read(text: str):
    assert decode(b'{"a": "%s"}' % text.encode()) == {"a": json.loads(f'"{text}"')}


@pytest.mark.parametrize(
    "body", [b'{"a": 1, "a": 1}', b'{"b": {"a": 1, "a": 2}}', b'{"a": 1, "\\u0061": 2}']
)
def test_a_name_may_stand_in_an_object_once(body: bytes):
    with pytest.raises(ValueError, match="repeated_field"):
        decode(body)


ROOM = 256 * 1024 // 5


@pytest.mark.parametrize("value", [[], [0], {}, "ab"], ids=json.dumps)
def test_of_long_bodies_one_is_read_at_a_time(value: object):
    """Some take thirty times their length in memory before they are refused."""
    body = json.dumps({"a": [value] * ROOM}).encode()

    def read() -> None:
        with suppress(ValueError):
            decode(body)

    def most_held(readers: int) -> int:
        tracemalloc.start()
        at_once(*[read] * readers)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert most_held(8) < 3 * most_held(1)


def test_a_body_that_was_refused_is_let_go_of_at_once(alice: Person):
    """Not when the collector comes by: by then a dozen are held, ten times as long as they came."""
    body = b'{"message":[%s]}' % b",".join([b'"ab"'] * 200_000)

    def refused() -> None:
        answer = alice.post("/agent-chats", data=body, content_type="application/json")
        assert answer.status_code == 422

    refused()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            refused()
        assert tracemalloc.get_traced_memory()[0] < 20 * 1024 * 1024
    finally:
        tracemalloc.stop()
        gc.enable()


class Watched(BytesIO):
    """A body that notes, while it is read, whether that thread holds a connection."""

    held: bool | None = None

    def readinto(self, buffer: bytearray) -> int:
        self.held = not db.is_closed()
        return super().readinto(buffer)


@pytest.mark.in_process("the request is watched while it is read")
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_long_body_is_read_without_a_connection_to_the_database(alice: Person, is_chunked: bool):
    """Sixteen that wait for their turn would have all of the pool's."""
    body = Watched(json.dumps({"message": "x" * 100_000}).encode())
    length = {} if is_chunked else {"CONTENT_LENGTH": str(len(body.getvalue()))}
    answer = alice.client.open(
        "/api/v1/agent-chats",
        method="POST",
        headers={"Authorization": f"Bearer {alice.tokens['access_token']}"},
        content_type="application/json",
        environ_overrides={"wsgi.input": body, "wsgi.input_terminated": True, **length},
    )

    assert answer.status_code == 422
    assert body.held is False

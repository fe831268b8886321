"""What is overridden in urllib3 and http.client: an upgrade that moves it turns these red."""

import time
from http.client import HTTPResponse

import pytest

from runtime.agent.providers.read_deadline import ReadDeadline, deadline_pool
from tests.agent.completions_server import DONE, CompletionsServer, finish, stream, text


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxy", [None, "http://ada:pw@127.0.0.1:9"])
def test_every_connection_reads_its_answers_with_a_deadline(scheme: str, proxy: str | None) -> None:
    pool = deadline_pool(1, proxy).connection_from_url(f"{scheme}://model.test")
    kind = pool.ConnectionCls.response_class
    assert issubclass(kind, HTTPResponse) and kind is not HTTPResponse
    connection = pool._new_conn()
    assert (type(connection), connection.response_class) == (pool.ConnectionCls, kind)


def test_the_body_is_read_through_the_deadline_chunks_together() -> None:
    with CompletionsServer(stream(*[text("x")] * 200, finish(), DONE)) as server:
        deadline = ReadDeadline(5, time.monotonic() + 5)
        with deadline.applied():
            url = f"{server.url}/chat/completions"
            answer = deadline_pool(1).request("POST", url, json={}, preload_content=False)
        response = answer._original_response
        assert response.fp is deadline.reader.buffered
        assert response.chunked and response.chunk_left is None
        pieces = []
        while piece := answer.read1(1 << 16):
            pieces.append(piece)
        assert b"".join(pieces).count(b"data:") == 202
        assert len(pieces) < 100

"""Any server that speaks a dialect of OpenAI's: asked, asked in another way, asked again."""

import hashlib
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import ModuleType
from typing import Any

from urllib3.exceptions import HTTPError

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, chars_of, cut_history
from runtime.agent.providers import completions, responses
from runtime.agent.providers.address import Address, Proxies
from runtime.agent.providers.context_length import (
    MAX_CUTS,
    bytes_of,
    is_too_long,
    share_that_fits,
    speaks_of_length,
)
from runtime.agent.providers.failures import connection_failure, hint
from runtime.agent.providers.fallbacks import (
    IDS,
    MAX_CHANGES,
    RESPONSES,
    fallback_for,
    may_be_quoted,
    may_teach,
)
from runtime.agent.providers.known_limits import BELIEVED_SECONDS, KnownLimits
from runtime.agent.providers.provider import Chunk, ProviderError
from runtime.agent.providers.read_deadline import ReadDeadline
from runtime.agent.providers.request import StepRequest
from runtime.agent.providers.server_error import ServerError
from runtime.agent.providers.streaming import Reader, chunks
from runtime.agent.providers.strict_history import for_server
from runtime.agent.providers.transport import Transport
from runtime.agent.stop import Stop
from runtime.agent.tools.tool import Tool

log = logging.getLogger(__name__)


class OpenAIProvider:
    """One model on one server. Safe for many threads: they share a pool of connections.

    `base_url` is read as `Address.read` says; `api_key` may be None for a local server. `dialect`
    is "completions", "responses", or None: what the URL ends with, else chat completions, until the
    server asks for the other one. `proxies` may stand before the server; `options` are merged into
    every request.

    A request that fails before anything of the answer was passed on is made up to `attempts` times
    within the run's deadline; `backoff_seconds` doubles each time, and a server's Retry-After goes
    before it. What the server was found to refuse is believed for `believed_seconds`. Raises
    ValueError, which names the setting, when URL or key cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        model: str,
        *,
        options: Mapping[str, Any] | None = None,
        dialect: str | None = None,
        proxies: Proxies | None = None,
        attempts: int = 4,
        backoff_seconds: float = 0.5,
        max_connections: int = 64,
        believed_seconds: float = BELIEVED_SECONDS,
    ) -> None:
        self.model = model
        self.options = dict(options or {})
        address = Address.read(base_url, api_key)
        is_other = address.path == responses.PATH
        self.dialect = dialect or (RESPONSES if is_other else None)
        proxy = (proxies or Proxies()).between(address.root)
        self.transport = Transport(address, proxy, max_connections)
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        self.known = KnownLimits(believed_seconds)

    @property
    def name(self) -> str:
        """The model and its server, for an operator."""
        return f"{self.model} on {self.transport.address.name('')}"

    @property
    def refused(self) -> str:
        """What the server is believed to refuse, for an operator."""
        return ", ".join(sorted(self.known.fallbacks()))

    def stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        deadline: float,
        silence_seconds: float,
        stop: Stop,
        max_output_tokens: int | None = None,
        may_repeat: bool = True,
    ) -> Iterator[Chunk]:
        """One step of the model; see `Provider.stream`.

        What arrives together is given together: the deltas of one read are joined.
        """
        request = StepRequest(self.model, messages, tools, max_output_tokens, self.options)
        step = _Step(self, request)
        attempt = 1
        while True:
            read_deadline = ReadDeadline(silence_seconds, deadline)
            try:
                with stop.waking(read_deadline.abandon):
                    yield from step.attempt(read_deadline)
                return
            except ProviderError as failure:
                stop.check()  # A connection that was closed for it looks like a failure.
                if step.falls_back(failure):
                    continue
                is_accepted = failure.code == ErrorCode.PROVIDER_INTERRUPTED
                is_final = attempt == self._attempts or (is_accepted and not may_repeat)
                if is_final or not failure.is_transient:
                    raise
                self._wait(failure, attempt, deadline, stop)
                attempt += 1

    def _wait(self, failure: ProviderError, attempt: int, deadline: float, stop: Stop) -> None:
        """Sleep until the next attempt is due. Raises the failure if that is too late, Stopped."""
        # Many runs fail at the same moment; they should not all come back at the same moment.
        seconds = self._backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1)
        if failure.retry_after is not None:
            seconds = failure.retry_after
        if time.monotonic() + seconds >= deadline:
            raise failure
        log.info("provider: %s; again in %.1f s", failure, seconds)
        stop.wait(seconds)


class _Step:
    """One step: the request, and how it changes after each refusal."""

    def __init__(self, provider: OpenAIProvider, request: StepRequest) -> None:
        self._provider = provider
        self._said = request.messages
        self._messages = provider.known.fit(request.messages)
        self._asked = request
        self._changes: set[str] = set()
        self._tries, self._cuts, self._most = 0, 0, 0
        self._dialect: ModuleType = completions
        self._body: dict[str, Any] = {}

    def attempt(self, deadline: ReadDeadline) -> Iterator[Chunk]:
        """Ask once. Raises ProviderError, whose `server_error` may be answered: `falls_back`."""
        self._write()
        transport, reader = self._provider.transport, self._dialect.StepReader()
        is_accepted = False
        try:
            with closing(transport.post(self._dialect.PATH, self._body, deadline)) as response:
                is_accepted = True
                yield from chunks(response, reader, deadline)
        except ProviderError as failure:
            yield from self._vendor(reader)
            raise self._explained(failure) from failure
        except HTTPError as error:
            if not reader.finish_reason:
                yield from self._vendor(reader)
                failure = connection_failure(error, transport.address.host, is_accepted)
                failure.is_transient = failure.is_transient and not reader.has_begun
                if deadline.seconds_left <= 0:
                    failure.code, failure.is_transient = ErrorCode.OUT_OF_TIME, False
                raise self._explained(failure) from error
        yield from reader.last()
        self._remember()
        yield from self._vendor(reader)
        yield reader.finished()

    def _write(self) -> None:
        fallbacks = self._provider.known.fallbacks() | self._changes
        is_other = RESPONSES in fallbacks or self._provider.dialect == RESPONSES
        self._dialect = responses if is_other else completions
        has_tools = bool(self._asked.tools)
        messages = for_server(self._messages, self._origin, fallbacks, has_tools=has_tools)
        self._asked = replace(self._asked, messages=messages, fallbacks=fallbacks)
        self._body = self._dialect.body(self._asked)

    @property
    def _origin(self) -> str:
        """Names the server, the model and the dialect, and tells none of them."""
        provider = self._provider
        names = f"{provider.transport.address.root} {self._dialect.PATH} {provider.model}"
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def _vendor(self, reader: Reader) -> Iterator[Chunk]:
        members = reader.vendor()
        if reader.has_begun and (members.message or members.calls):
            yield replace(members, origin=self._origin)

    def _explained(self, failure: ProviderError) -> ProviderError:
        """The failure for the log: where it happened, what the server said, what may be wrong."""
        transport = self._provider.transport
        where = f"{self._provider.model} on {transport.address.name(self._dialect.PATH)}"
        question = hint(failure, transport.address)
        said = transport.for_log(failure.message)
        failure.message = f"{where}: {said}" + (f" ({question})" if question else "")
        return failure

    def falls_back(self, failure: ProviderError) -> bool:
        """Whether there is another way to ask after this failure, which the next attempt takes.

        A conversation that stays too long is called so.
        """
        error = failure.server_error
        if error is None or self._tries == MAX_CHANGES:
            return False
        self._tries += 1
        if is_too_long(error):
            if self._is_cut(share_that_fits(error)):
                return True
            failure.code, failure.is_transient = ErrorCode.CONVERSATION_TOO_LONG, False
            return False
        change = fallback_for(error, self._asked, self._body, self._dialect)
        if change is None or not self._may_change(change, error):
            return False
        # Of two lengths of ids the later one counts; what Responses do not take is found anew.
        is_moot = IDS if change.startswith(IDS) else "" if change == RESPONSES else change
        self._changes = {each for each in self._changes if not each.startswith(is_moot)} | {change}
        return True

    def _may_change(self, name: str, error: ServerError) -> bool:
        if name == RESPONSES:
            return self._provider.dialect is None
        if name in self._dialect.BOUNDS and not error.places:
            # A server that ignores what it does not know would answer without a bound.
            return not may_be_quoted(self._said, self._asked.tools, [name])
        return True

    def _is_cut(self, share: float) -> bool:
        if self._cuts == MAX_CUTS:
            return False
        self._cuts += 1
        chars = chars_of(self._messages)
        self._most = int(bytes_of(self._messages) * share)
        self._messages = cut_history(self._messages, int(chars * share))
        return chars_of(self._messages) < chars

    def _remember(self) -> None:
        """Remember what the server took at last, unless a user may have caused the refusal."""
        provider, found = self._provider, sorted(self._changes)
        if not (found or self._cuts) or not may_teach(self._said, self._asked.tools, found):
            return
        provider.known.learn(found)
        if self._cuts and not any(speaks_of_length(each) for each in self._said):
            provider.known.learn_length(self._most)
            found.append(f"more than {self._most} bytes of conversation")
        if found:
            named = provider.model, provider.transport.address.host, ", ".join(found)
            log.warning(
                "%s on %s refuses %s: asked otherwise for %.0f s", *named, provider.known.seconds
            )

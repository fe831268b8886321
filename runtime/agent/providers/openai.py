"""Any server that speaks a dialect of OpenAI's: asked, asked otherwise, asked again."""

import hashlib
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import ModuleType
from typing import Any

from urllib3.exceptions import HTTPError, ReadTimeoutError

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, cut_history
from runtime.agent.providers import completions, responses
from runtime.agent.providers.address import Address, Proxies
from runtime.agent.providers.answer import Reader, chunks
from runtime.agent.providers.hints import hint
from runtime.agent.providers.history import for_server
from runtime.agent.providers.patience import Patience
from runtime.agent.providers.provider import Chunk, ProviderError
from runtime.agent.providers.refusal import Refusal
from runtime.agent.providers.refusals import (
    BELIEVED_SECONDS,
    IDS,
    MAX_CHANGES,
    RESPONSES,
    Learnt,
    may_be_quoted,
    may_teach,
    remedy,
)
from runtime.agent.providers.request import StepRequest
from runtime.agent.providers.room import (
    MAX_CUTS,
    Room,
    bytes_of,
    chars_of,
    is_too_long,
    share_that_fits,
    speaks_of_room,
)
from runtime.agent.providers.transport import Transport, in_words
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
        connect_seconds: float = 5.0,
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
        self.transport = Transport(address, proxy, connect_seconds, max_connections)
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        self.learnt = Learnt(believed_seconds)
        self.room = Room(believed_seconds)

    @property
    def name(self) -> str:
        """The model and its server, for an operator."""
        return f"{self.model} on {self.transport.address.name('')}"

    @property
    def refused(self) -> str:
        """What the server is believed to refuse, for an operator."""
        return ", ".join(sorted(self.learnt.names()))

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
        step = _Step(self, messages, tools, max_output_tokens)
        attempt = 1
        while True:
            patience = Patience(silence_seconds, deadline)
            try:
                with stop.waking(patience.abandon):
                    yield from step.attempt(patience)
                return
            except ProviderError as failure:
                stop.check()  # A connection that was closed for it looks like a failure.
                if step.is_put_otherwise(failure):
                    continue
                is_accepted = failure.code == ErrorCode.PROVIDER_INTERRUPTED
                if not failure.is_transient or (is_accepted and not may_repeat):
                    raise
                if attempt == self._attempts:
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

    def explained(self, failure: ProviderError, dialect: ModuleType) -> str:
        """The failure for the log: where it happened, what the server said, what may be wrong."""
        address = self.transport.address
        question = hint(failure, address)
        said = self.transport.for_log(failure.message)
        where = f"{self.model} on {address.name(dialect.PATH)}"
        return f"{where}: {said}" + (f" ({question})" if question else "")

    def origin(self, dialect: ModuleType) -> str:
        """Names the server, the model and the dialect, and tells none of them."""
        names = f"{self.transport.address.root} {dialect.PATH} {self.model}"
        return hashlib.sha256(names.encode()).hexdigest()[:16]


class _Step:
    """One step on its way: what is asked, and how it is put otherwise after each refusal."""

    def __init__(
        self,
        provider: OpenAIProvider,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        max_output_tokens: int | None,
    ) -> None:
        self._provider = provider
        self._said = messages
        self._messages = provider.room.fit(messages)
        self._asked = StepRequest(
            provider.model, (), tools, max_output_tokens, options=provider.options
        )
        self._changes: set[str] = set()
        self._tries, self._cuts, self._most = 0, 0, 0
        self._dialect: ModuleType = completions
        self._body: dict[str, Any] = {}

    def attempt(self, patience: Patience) -> Iterator[Chunk]:
        """Ask once. Raises ProviderError, whose `refusal` may be answered: `is_put_otherwise`."""
        self._write()
        transport, reader = self._provider.transport, self._dialect.StepReader()
        is_accepted = False
        try:
            with closing(transport.post(self._dialect.PATH, self._body, patience)) as response:
                is_accepted = True
                yield from chunks(response, reader, patience)
        except (HTTPError, ProviderError) as error:
            is_whole = isinstance(error, HTTPError) and reader.finish_reason
            if not is_whole:
                yield from self._vendor(reader)
                failure = _failure(error, patience, reader, transport.address.host, is_accepted)
                failure.message = self._provider.explained(failure, self._dialect)
                raise failure from error
        yield from reader.last()
        self._learn()
        yield from self._vendor(reader)
        yield reader.finished()

    def _write(self) -> None:
        otherwise = self._provider.learnt.names() | self._changes
        is_other = RESPONSES in otherwise or self._provider.dialect == RESPONSES
        self._dialect = responses if is_other else completions
        origin = self._provider.origin(self._dialect)
        messages = for_server(self._messages, origin, otherwise, has_tools=bool(self._asked.tools))
        self._asked = replace(self._asked, messages=messages, otherwise=otherwise)
        self._body = self._dialect.body(self._asked)

    def _vendor(self, reader: Reader) -> Iterator[Chunk]:
        members = reader.vendor()
        if reader.has_begun and (members.message or members.calls):
            yield replace(members, origin=self._provider.origin(self._dialect))

    def is_put_otherwise(self, failure: ProviderError) -> bool:
        """Whether there is another way to ask after this failure, which the next attempt takes.

        A conversation that stays too long is called so.
        """
        refusal = failure.refusal
        if refusal is None or self._tries == MAX_CHANGES:
            return False
        self._tries += 1
        if is_too_long(refusal):
            if self._is_cut(share_that_fits(refusal)):
                return True
            failure.code, failure.is_transient = ErrorCode.CONVERSATION_TOO_LONG, False
            return False
        change = remedy(refusal, self._asked, self._body, self._dialect)
        if change is None or not self._may_change(change, refusal):
            return False
        # Of two lengths of ids the later one counts; what Responses do not take is found anew.
        is_moot = IDS if change.startswith(IDS) else "" if change == RESPONSES else change
        self._changes = {each for each in self._changes if not each.startswith(is_moot)} | {change}
        return True

    def _may_change(self, name: str, refusal: Refusal) -> bool:
        if name == RESPONSES:
            return self._provider.dialect is None
        if name in self._dialect.BOUNDS and not refusal.places:
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

    def _learn(self) -> None:
        """Remember what the server took at last, unless a user may have caused the refusal."""
        provider, changes = self._provider, sorted(self._changes)
        if not (changes or self._cuts) or not may_teach(self._said, self._asked.tools, changes):
            return
        found = list(changes)
        provider.learnt.learn(changes)
        if self._cuts and not any(speaks_of_room(each) for each in self._said):
            provider.room.learn(self._most)
            found.append(f"more than {self._most} bytes of conversation")
        if found:
            named = provider.model, provider.transport.address.host, ", ".join(found)
            log.warning(
                "%s on %s refuses %s: asked otherwise for %.0f s", *named, provider.learnt.seconds
            )


def _failure(
    error: HTTPError | ProviderError,
    patience: Patience,
    reader: Reader,
    host: str,
    is_accepted: bool,
) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    message = in_words(error, host)
    if patience.seconds_left <= 0:
        return ProviderError(ErrorCode.OUT_OF_TIME, message)
    if isinstance(error, ReadTimeoutError):
        return ProviderError(ErrorCode.PROVIDER_TIMEOUT, message)
    code = ErrorCode.PROVIDER_INTERRUPTED if is_accepted else ErrorCode.PROVIDER_UNAVAILABLE
    return ProviderError(code, message, is_transient=not reader.has_begun)

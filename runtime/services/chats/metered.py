"""The provider as a run of one user has it: what it uses is counted, and paid for."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from uuid import UUID

from runtime import logs
from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, Usage
from runtime.agent.providers.finish_reasons import meaning_of
from runtime.agent.providers.provider import Chunk, Provider, ProviderError, StepFinished
from runtime.agent.tools.tool import Tool
from runtime.database.base import discard, release
from runtime.database.outages import is_outage
from runtime.services.chats.budgets import Budget, Payment, most_input

# The model has used nothing for whom it refused, or who did not reach it.
REFUSALS = (
    ErrorCode.PROVIDER_REJECTED,
    ErrorCode.PROVIDER_MISCONFIGURED,
    ErrorCode.REQUEST_FILTERED,
    ErrorCode.PROVIDER_BUSY,
    ErrorCode.PROVIDER_UNAVAILABLE,
    ErrorCode.CONVERSATION_TOO_LONG,
)


class Metered:
    """The provider as one user's run has it: what it uses is counted, and paid for."""

    def __init__(self, provider: Provider, budget: Budget, user_id: UUID):
        self._provider = provider
        self._budget = budget
        self._user_id = user_id

    def stream(self, messages: Sequence[Message], tools: Sequence[Tool], **how) -> Iterator[Chunk]:
        """One step of the model; see `Provider.stream`.

        Raises ProviderError also when the tokens do not suffice for the step, or for its end.
        """
        payment = self._pay(messages, tools)
        most = payment.output_tokens if payment else self._budget.max_output
        # One payment is for one request that the model accepts.
        step = self._provider.stream(
            messages, tools, max_output_tokens=most, may_repeat=payment is None, **how
        )
        usage, is_out_of_tokens = Usage(), False
        try:
            with closing(step):
                for chunk in step:
                    if isinstance(chunk, StepFinished):
                        usage = chunk.usage or Usage()
                        is_cut_off = (
                            most is not None and meaning_of(chunk.finish_reason) == "length"
                        )
                        is_out_of_tokens = is_cut_off and most < self._budget.max_output
                    yield chunk
            if is_out_of_tokens:
                raise ProviderError(ErrorCode.OUT_OF_TOKENS, f"cut off after {most} tokens")
        except ProviderError as error:
            if error.code in REFUSALS:
                usage = Usage(0, 0)
            raise
        finally:
            if payment:
                self._settle(payment, usage)

    def _pay(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Payment | None:
        try:
            if not self._budget.daily:
                return None
            return self._budget.pay(self._user_id, most_input(messages, tools))
        finally:
            release()

    def _settle(self, payment: Payment, usage: Usage) -> None:
        """Nobody is worse off if it fails than by a call that breaks off."""
        try:
            self._budget.settle(self._user_id, payment, usage)
        except Exception as error:
            logs.event("tokens_not_settled", level=logging.WARNING, reason=type(error).__name__)
            if is_outage(error):
                discard()
        finally:
            release()

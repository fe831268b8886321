"""Tokens: how many a user's runs may use in a day.

A call to the model is paid for before it is made, with the most that it could use; what it did not
use is given back afterwards. Each is one guarded statement: any number of runs in any
number of processes never use more than there is. A call that is stopped, breaks off or dies with
its process does not tell what it has used, and stays paid for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from flask import current_app
from peewee import Case, IntegrityError

from runtime import clock, metrics
from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, Usage
from runtime.agent.providers.completions import body
from runtime.agent.providers.provider import ProviderError
from runtime.agent.providers.request import StepRequest
from runtime.agent.tools.tool import Tool
from runtime.errors import OutOfTokens
from runtime.models.spendings import Spending
from runtime.models.users import User

# What one call may write where there is a budget and no other bound.
MAX_OUTPUT_TOKENS = 4096
# More than a server's template adds to a request, where JSON adds nothing.
TEMPLATE_TOKENS = 256


@dataclass(frozen=True)
class Payment:
    """What one call to the model was paid for with, and on which day."""

    day: date
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Today:
    """What a user may use in the day and what is left of it; None where there is no bound."""

    limit: int | None
    left: int | None
    resets_at: datetime


class Budget:
    """What each user may use: `daily` tokens in a UTC day, input and output together.

    Of these a step may write `max_output`. Either may be None, which is no bound.
    """

    def __init__(self, daily: int | None, max_output: int | None):
        self.daily = daily
        self.max_output = max_output or (MAX_OUTPUT_TOKENS if daily else None)

    def demand(self, user: User, messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        """Raises OutOfTokens unless these messages and one token of an answer can be paid for."""
        if self.daily and self.left(user.id) <= most_input(messages, tools):
            metrics.limits_reached.labels("tokens-per-day").inc()
            raise OutOfTokens((tomorrow() - clock.now()).total_seconds())

    def left(self, user_id: UUID) -> int:
        """How many tokens the user has left today."""
        today = (Spending.user == user_id) & (Spending.day >= Spending.today())
        return max(0, self.daily - (Spending.select(Spending.tokens).where(today).scalar() or 0))

    def pay(self, user_id: UUID, input_tokens: int) -> Payment:
        """Pay for a call with so much input, and as much output as there may be, where `daily` is.

        Raises ProviderError when nothing is left for an output, and when there is no such user any
        more.
        """
        output_tokens = self.max_output
        while output_tokens > 0:
            day = self._spend(user_id, input_tokens + output_tokens)
            if day:
                return Payment(day, input_tokens, output_tokens)
            output_tokens = min(self.max_output, self.left(user_id) - input_tokens)
        raise ProviderError(ErrorCode.OUT_OF_TOKENS, "not enough tokens are left for another call")

    def _spend(self, user_id: UUID, tokens: int) -> date | None:
        """Spend so many, if there are; returns the day they were spent on."""
        today = Spending.today()
        is_over = Spending.day < today
        spent = (
            Spending.insert(user=user_id, day=today, tokens=tokens)
            .on_conflict(
                conflict_target=[Spending.user],
                update={
                    Spending.day: Case(None, [(is_over, today)], Spending.day),
                    Spending.tokens: Case(None, [(is_over, tokens)], Spending.tokens + tokens),
                    Spending.chars: Case(None, [(is_over, 0)], Spending.chars),
                },
                where=is_over | (Spending.tokens + tokens <= self.daily),
            )
            .returning(Spending.day)
        )
        try:
            rows = list(spent.execute()) if tokens <= self.daily else []
        except IntegrityError as error:
            raise ProviderError(ErrorCode.STOPPED, "the account was erased") from error
        return rows[0].day if rows else None

    def settle(self, user_id: UUID, payment: Payment, usage: Usage) -> None:
        """Give back what a call was paid for and did not use; what is unknown was all used."""
        unused = sum(
            paid - used
            for paid, used in (
                (payment.input_tokens, usage.input_tokens),
                (payment.output_tokens, usage.output_tokens),
            )
            if used is not None
        )
        # Of another day nothing can be given back: it is forgotten.
        of_that_day = (Spending.user == user_id) & (Spending.day == payment.day)
        Spending.update(tokens=Spending.tokens - unused).where(of_that_day).execute()


def most_input(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """More tokens than a request's input can have.

    No tokenizer makes more of a text than it has bytes in UTF-8, and what JSON puts around each
    message and each tool has more than any template.
    """
    text = json.dumps(body(StepRequest("", messages, tools)), ensure_ascii=False)
    return len(text.encode("utf-8", "replace")) + TEMPLATE_TOKENS


def today(user: User) -> Today:
    """What this user may use today."""
    budget: Budget = current_app.extensions["agent"].budget
    return Today(budget.daily, budget.left(user.id) if budget.daily else None, tomorrow())


def tomorrow() -> datetime:
    """When the day is over."""
    return datetime.combine(clock.now() + timedelta(days=1), time(), UTC)

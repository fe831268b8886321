"""What one step asks of a model, and what of it is the same in both dialects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.agent.messages import Message
from runtime.agent.tools.argument_fields import JsonSchema
from runtime.agent.tools.foreign import with_choices_in_words
from runtime.agent.tools.tool import Tool

# The names that a bound on the answer goes by; each dialect writes the one it has.
BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Options that servers refuse where no tools are offered.
NEED_TOOLS = ("tool_choice", "parallel_tool_calls")


@dataclass(frozen=True)
class StepRequest:
    """A step as it is asked for.

    `options` are the operator's own, merged over the rest; None among them leaves a member out.
    `fallbacks` has the names of those that are in use, see the module `fallbacks`.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    max_output_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: frozenset[str] = frozenset()

    @property
    def is_streamed(self) -> bool:
        """Whether a stream is asked for."""
        return "stream" not in self.fallbacks

    @property
    def offered(self) -> Sequence[Tool]:
        """The tools that the model is told of."""
        return () if "tools" in self.fallbacks else self.tools

    @property
    def bound(self) -> int | None:
        """How many tokens the answer may have: the least that is said anywhere."""
        said = [self.max_output_tokens, *(self.options.get(name) for name in BOUNDS)]
        return min((each for each in said if type(each) is int), default=None)

    def function(self, tool: Tool) -> dict[str, Any]:
        """A tool as it is offered, its schema as the server takes it."""
        is_refused = "enum" in self.fallbacks
        schema = with_choices_in_words(tool.parameters) if is_refused else tool.parameters
        return {"name": tool.name, "description": tool.description, "parameters": schema}

    def body(
        self,
        conversation: Mapping[str, Any],
        *,
        optional: Mapping[str, Any],
        tools: Sequence[JsonSchema],
        without_reasoning: Mapping[str, Any],
        bounds: Sequence[str],
    ) -> dict[str, Any]:
        """The body of the request, of what a dialect writes in its own way.

        `optional` are members that the server may not know, `without_reasoning` says that the model
        is not to think, `bounds` are the names that the bound may go by.
        """
        made = {"model": self.model, **conversation, "stream": self.is_streamed}
        made |= {n: v for n, v in optional.items() if n not in self.fallbacks}
        if tools:
            made["tools"] = tools
            made |= without_reasoning if "reasoning_effort" in self.fallbacks else {}
        if self.bound is not None and (name := self._name_of_bound(bounds)):
            made[name] = self.bound
        made |= {n: v for n, v in self.options.items() if n not in BOUNDS}
        is_moot = () if tools else NEED_TOOLS
        return {n: v for n, v in made.items() if v is not None and n not in is_moot}

    def _name_of_bound(self, names: Sequence[str]) -> str | None:
        """Which of these names the bound goes by: the operator's, or the first that is not refused.

        None if the operator has said null to all of them.
        """
        taken = [name for name in names if self.options.get(name, 0) is not None]
        chosen = [name for name in taken if name in self.options]
        known = [name for name in [*chosen, *taken] if name not in self.fallbacks]
        return next(iter([*known, *taken]), None)

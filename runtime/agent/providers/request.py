"""What one step asks of a model, whatever the dialect of its server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.agent.messages import Message
from runtime.agent.tools.foreign import with_choices_in_words
from runtime.agent.tools.parameters import JsonSchema
from runtime.agent.tools.tool import Tool

# The names that a bound on the answer goes by; each dialect writes the one it has.
BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Options that servers refuse where no tools are offered.
NEED_TOOLS = ("tool_choice", "parallel_tool_calls")


@dataclass(frozen=True)
class StepRequest:
    """A step as it is asked for.

    `options` are the operator's own, merged over the rest; None among them leaves a member out.
    `otherwise` names what the server was found to refuse, see `refusals`.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    max_output_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    otherwise: frozenset[str] = frozenset()

    @property
    def bound(self) -> int | None:
        """How many tokens the answer may have: the least that is said anywhere."""
        said = [self.max_output_tokens, *(self.options.get(name) for name in BOUNDS)]
        return min((each for each in said if type(each) is int), default=None)

    def name_of_bound(self, names: Sequence[str]) -> str | None:
        """Which of these names the bound goes by: the operator's, or the first that is not refused.

        None if the operator has said null to all of them.
        """
        taken = [name for name in names if self.options.get(name, 0) is not None]
        chosen = [name for name in taken if name in self.options]
        known = [name for name in [*chosen, *taken] if name not in self.otherwise]
        return next(iter([*known, *taken]), None)

    def schema(self, tool: Tool) -> JsonSchema:
        """The schema of a tool's parameters, as the server takes it."""
        is_refused = "enum" in self.otherwise
        return with_choices_in_words(tool.parameters) if is_refused else tool.parameters

    def merged(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the operator's options, but for the bound, which has its place already."""
        merged = body | {n: v for n, v in self.options.items() if n not in BOUNDS}
        is_moot = NEED_TOOLS if "tools" not in body else ()
        return {n: v for n, v in merged.items() if v is not None and n not in is_moot}

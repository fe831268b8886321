"""One run of an agent: a model that answers, calls tools, and answers again.

Knows neither Flask nor a database. `run` is the whole of it: messages in, AG-UI events out.
"""

from runtime.agent.events import ErrorCode, Event, RunError, RunFinished, RunStarted, compact
from runtime.agent.loop import Bounds, run
from runtime.agent.messages import (
    Call,
    Message,
    Step,
    Thought,
    ToolCall,
    ToolResult,
    Usage,
    cut_history,
    from_events,
    steps_of,
    unanswered,
)
from runtime.agent.results import cut
from runtime.agent.stop import Stop, Stopped
from runtime.agent.text import clean
from runtime.agent.tools import Context, Tool, ToolError, foreign, load_tools, tool

__all__ = [
    "Bounds",
    "Call",
    "Context",
    "ErrorCode",
    "Event",
    "Message",
    "RunError",
    "RunFinished",
    "RunStarted",
    "Step",
    "Stop",
    "Stopped",
    "Thought",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "Usage",
    "clean",
    "compact",
    "cut",
    "cut_history",
    "foreign",
    "from_events",
    "load_tools",
    "run",
    "steps_of",
    "tool",
    "unanswered",
]

"""One run of an agent: a model that answers, calls tools, and answers again.

Knows neither Flask nor a database: messages go in, AG-UI events come out (`loop.run`). What is
imported here is for the authors of tools.
"""

from runtime.agent.tools.tool import Context, ToolError, tool

__all__ = ["Context", "ToolError", "tool"]

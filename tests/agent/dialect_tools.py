"""The tools that the servers of `dialects_server` call."""

from runtime.agent.tools.tool import tool


@tool
def now() -> str:
    """Tell the time."""
    return "noon"


@tool
def add(expression: str) -> str:
    """Add numbers."""
    return str(sum(map(int, expression.split("+"))))


@tool
def nothing() -> str:
    """Give no text."""
    return ""


@tool
def blanks() -> str:
    """Give blanks."""
    return " \n "

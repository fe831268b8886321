"""The built-in tools: the time in a zone, arithmetic, one's own profile."""

from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from runtime.agent.tools.arithmetic import evaluate
from runtime.agent.tools.tool import Context, ToolError, tool


@tool
def current_time(
    context: Context | None,
    zone: Annotated[str, 'an IANA time zone such as "Asia/Shanghai"'] = "UTC",
) -> dict[str, str]:
    """The current date and time in a time zone."""
    now = (context.now() if context else datetime.now(UTC)).astimezone(_zone(zone))
    return {
        "zone": zone,
        "time": now.isoformat(sep=" ", timespec="seconds"),
        "weekday": f"{now:%A}",
    }


def _zone(name: str) -> tzinfo:
    # A machine without tzdata still knows UTC.
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ToolError(
            f"{name[:80]!r} is no known time zone. Use an IANA name such as Asia/Shanghai, "
            "Europe/Paris or America/New_York."
        ) from error


@tool
def calculate(
    expression: Annotated[str, 'for example "12 * (3 + 4)" or "sqrt(2) / 2"'],
) -> int | float:
    """Evaluate arithmetic: + - * / // % **, parentheses, sqrt, round, abs, min, max."""
    try:
        return evaluate(expression)
    except ValueError as error:
        raise ToolError(str(error)) from error


@tool
def my_profile(
    context: Context | None,
    with_email: Annotated[bool, "true only if the user asks for their email address"] = False,
) -> dict[str, Any]:
    """The profile of the user who is asking: their name and what they say of themselves."""
    if context is None:
        raise ToolError("Nobody is signed in, so there is no profile.")
    # What a tool gives goes to the model's server, which need not know an address.
    return {n: v for n, v in context.profile().items() if with_email or n != "email"}

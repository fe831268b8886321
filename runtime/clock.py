"""The time, read in one place so that tests can hold it."""

from datetime import UTC, datetime, timedelta

_held: datetime | None = None


def now() -> datetime:
    """The present instant in UTC, with its zone."""
    return _held or datetime.now(UTC)


def hold(instant: datetime | None) -> None:
    """Stand still at `instant` (aware), or run again with None."""
    global _held
    _held = instant


def advance(**duration: float) -> None:
    """Move a held clock by a `timedelta`'s arguments; negative sets it back."""
    hold(now() + timedelta(**duration))

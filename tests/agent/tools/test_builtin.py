"""The built-in tools as a model calls them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from runtime.agent.tools.builtin import calculate, current_time, my_profile
from runtime.agent.tools.tool import ToolError


class AdaAtNoon:
    """The context of a run that Ada asked for, at noon."""

    def __init__(self, **more: str) -> None:
        self._more = more

    def profile(self) -> dict[str, Any]:
        return {"username": "ada", "bio": "first 程序员", **self._more}

    def now(self) -> datetime:
        return datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def test_the_time_is_told_in_a_zone() -> None:
    result = json.loads(current_time.call('{"zone": "Asia/Tokyo"}', AdaAtNoon()))
    assert result == {
        "zone": "Asia/Tokyo",
        "time": "2026-01-02 21:00:00+09:00",
        "weekday": "Friday",
    }


def test_the_time_is_told_in_utc_by_default() -> None:
    assert json.loads(current_time.call("", AdaAtNoon()))["time"] == "2026-01-02 12:00:00+00:00"


@pytest.mark.parametrize("zone", ["Mars", "Europe", "../../etc/passwd", "", "\0", "x" * 9999])
def test_an_unknown_zone_is_explained(zone: str) -> None:
    with pytest.raises(ToolError, match="Asia/Shanghai") as caught:
        current_time.call(json.dumps({"zone": zone}), AdaAtNoon())
    assert len(str(caught.value)) < 300


def test_a_sum_is_worked_out() -> None:
    assert calculate.call('{"expression": "12*(3+4)"}') == "84"


def test_the_profile_is_the_one_of_who_asks() -> None:
    result = my_profile.call("{}", AdaAtNoon())
    assert result == '{"username": "ada", "bio": "first 程序员"}'


def test_the_profile_has_an_email_address_only_if_it_is_asked_for() -> None:
    context = AdaAtNoon(email="ada@example.org")
    assert "email" not in my_profile.call("{}", context)
    assert "ada@example.org" in my_profile.call('{"with_email": true}', context)


def test_without_a_context_there_is_no_profile() -> None:
    with pytest.raises(ToolError, match="no profile"):
        my_profile.call("{}")

"""What Accept-Language says, and what it may cost to find out."""

import time

import pytest

from runtime import i18n


def cost(header: str) -> float:
    """The least processor time that a look at it takes."""

    def once() -> float:
        began_at = time.thread_time()
        i18n.choose(i18n.accepted_in(header))
        return time.thread_time() - began_at

    return min(once() for _ in range(5))


@pytest.mark.parametrize("tag", ["a,", "en-a;q=0.1,", "*,", '"'])
def test_a_long_row_of_languages_costs_no_more_than_a_short_one(tag: str):
    assert cost(tag * 15_000) < 5 * cost(tag * 400)


@pytest.mark.parametrize("first", ["en", "en-GB, zh;q=0.5", "en, zh;q=0.9"])
def test_the_first_of_many_languages_are_read(first: str):
    assert i18n.choose(i18n.accepted_in(first + ", fr;q=0.1" * 3000)) == "en"

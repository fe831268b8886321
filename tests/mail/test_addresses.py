import pytest

from runtime.mail.addresses import tidy


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("ada@example.org", "ada@example.org"),
        ("  ada@example.org ", "ada@example.org"),
        ("ada＠example.org", "ada@example.org"),
        ("ada@example。org", "ada@example.org"),
        ("ada@example．org", "ada@example.org"),
        ("ada@example｡org", "ada@example.org"),
    ],
)
def test_an_address_is_understood_as_a_chinese_keyboard_types_it(typed: str, address: str):
    assert tidy(typed) == address


@pytest.mark.parametrize(
    "text",
    [
        "a da@example.org",
        "ada@example.org\n",
        "ada@example.org\u00a0",
        "ａda@example.org",
        "ada@example.org\u200b",
        "àda@exämple.org",
    ],
)
def test_what_is_wrong_with_it_otherwise_stays(text: str):
    assert tidy(text) == text

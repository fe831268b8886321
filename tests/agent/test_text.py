"""Text that can be stored, however it comes in."""

from runtime.agent.text import TextCleaner, clean


def test_good_text_stays_as_it_is() -> None:
    assert clean("Grüße, 你好, 😀") == "Grüße, 你好, 😀"


def test_nul_is_dropped_and_a_lone_surrogate_replaced() -> None:
    assert clean("a\0b\ud83dc\ude00") == "ab\ufffdc\ufffd"


def test_a_surrogate_pair_split_over_two_pieces_survives() -> None:
    cleaner = TextCleaner()
    assert cleaner.clean("a\ud83d") + cleaner.clean("\ude00b") == "a😀b"

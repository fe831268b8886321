"""What a mail server refuses for good: this one mail, or all of this sender's.

A server that objects to `MAIL_FROM` or to this client often says so at RCPT (Postfix waits for it
by default). That is no fault of the recipient, and passes when the configuration is mended.
"""

import re

_ENHANCED = re.compile(rb"\s*[245]\.(\d{1,3})\.(\d{1,3})\b")
# RFC 5321 §4.2.3 and RFC 7504: the mailbox is not there, not local, full, or its name is wrong.
_MAILBOX = {550, 551, 552, 553, 556}
# RFC 3463 §3.2: the sender's mailbox is malformed, or its domain is not there.
_SENDER_DETAILS = {7, 8}
_ADDRESS, _PROTOCOL, _POLICY = 1, 5, 7
# What servers that send no enhanced code say when they mean the sender.
_SENDER_WORDS = re.compile(rb"\bsender|\brelay|\bauthenticat", re.IGNORECASE)


def is_about_recipient(code: int, reply: bytes) -> bool:
    """Whether a 5xx to RCPT is about the recipient, so that another try is of no use.

    It is not when its enhanced code (RFC 3463) is of the sender's address, of the protocol, or of
    policy; without one, when the code is none for a mailbox or the words are of the sender.
    """
    enhanced = _ENHANCED.match(reply)
    if enhanced:
        return int(enhanced[1]) not in (_PROTOCOL, _POLICY) and not _is_senders(enhanced)
    return code in _MAILBOX and not _SENDER_WORDS.search(reply)


def is_about_text(code: int, reply: bytes) -> bool:
    """Whether a 5xx to DATA is about what the mail says, and not about who sends it.

    Policy is about the text here, as a filter's verdict is, unless the words are of the sender.
    """
    enhanced = _ENHANCED.match(reply)
    if enhanced and _is_senders(enhanced):
        return False
    is_policy = enhanced is None or int(enhanced[1]) == _POLICY
    return not (is_policy and _SENDER_WORDS.search(reply))


def _is_senders(enhanced: re.Match) -> bool:
    return int(enhanced[1]) == _ADDRESS and int(enhanced[2]) in _SENDER_DETAILS


def told(error: Exception) -> str:
    """What a log may have of an error: its class and SMTP code, none of the server's words."""
    code = getattr(error, "smtp_code", None)
    return type(error).__name__ + (f" {code}" if code else "")

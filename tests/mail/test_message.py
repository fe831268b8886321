from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr

import pytest

from runtime.mail.message import POLICY

NAMES = [
    "Ink",
    "墨水 & Co",
    "墨" * 60,
    "🦊" * 60,
    "A" * 60,
    " ".join(["Ünï"] * 15),
    "; ".join(["“Ink” Inc."] * 5),
    " ".join("x" * 30),
    'a "b" \\ c',
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("subject", ["{} 注册验证码", "您的 {} 账号的邮箱已恢复", "Your {} code"])
def test_a_name_of_any_length_arrives_as_it_is(name: str, subject: str):
    message = EmailMessage(policy=POLICY)
    message["From"] = Address(name, addr_spec="noreply@example.org")
    message["Subject"] = subject.format(name)
    message["To"] = "ada@example.org"
    message.set_content("text")

    raw = message.as_bytes()

    for parser in (policy.default, policy.compat32):
        read = message_from_bytes(raw, policy=parser)["Subject"]
        assert str(make_header(decode_header(read.replace("\r\n", "")))) == subject.format(name)
    # policy.default puts spaces of its own between the words of a name.
    sender = message_from_bytes(raw, policy=policy.compat32)["From"].replace("\r\n", "")
    words, address = parseaddr(sender)
    assert str(make_header(decode_header(words))) == name
    assert address == "noreply@example.org"
    assert raw.isascii()
    # RFC 2047 §2: a line with an encoded word has at most 76 characters.
    assert all(len(line) <= 78 for line in raw.split(b"\r\n") if b"=?" in line)

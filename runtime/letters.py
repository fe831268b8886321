"""The mails themselves, in Chinese and English: what they say, not how they travel.

A letter is a list of paragraphs and codes, set once as text and once as HTML. Its subject is
never anybody's text, so that nothing a person typed can reach a header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape


@dataclass(frozen=True)
class Letter:
    """One mail without its envelope; the text says everything that the HTML does."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class MailedCode:
    """A code, the username of the account that it is for, and where it can be used, if anywhere."""

    username: str
    code: str
    link: str | None


_LANG = {"zh": "zh-CN", "en": "en"}

_WORDS = {
    "zh": {
        "verification_subject": "Runtime API 注册验证码",
        "one_waits": "您好！有人正在用这个邮箱地址注册 Runtime API。"
        "如果是您本人，请用下面的验证码完成注册。",
        "several_wait": "您好！有 {count} 个注册请求在等待验证这个邮箱地址，它们互不相关。"
        "请只使用您自己填写的用户名下面的验证码，不要使用其他的：那可能是别人的注册。",
        "username": "用户名：",
        "code": "验证码：",
        "link": "也可以打开这个链接：",
        "good_for": "验证码 {minutes} 分钟内有效，只能使用一次。请不要把它告诉任何人。",
        "ignore_code": "如果您没有注册，请忽略这封邮件，不必做任何操作。",
        "registered_subject": "您的邮箱已注册 Runtime API",
        "registered": "您好！有人想用这个邮箱地址注册 Runtime API，但它已经有账号了。",
        "sign_in": "如果是您本人，请直接登录，无需再次注册。",
        "ignore_registered": "如果不是您本人，请忽略这封邮件：您的账号没有任何变化。",
        "recovery_subject": "Runtime API 重设密码验证码",
        "recovery": "您好！有人要为您的账号设置新密码。如果是您本人，请用下面的验证码设置新密码。",
        "asked_from": "请求来自网络：{network}",
        "ignore_recovery": "如果不是您本人，请忽略这封邮件：您的账号没有任何变化。",
        "new_password_subject": "您的 Runtime API 密码已修改",
        "new_password": "您好！您的账号设置了新密码，其他会话均已结束。",
        "was_not_you_recover": "如果不是您本人，请立即通过“忘记密码”重新设置密码。",
        "new_device_subject": "您的 Runtime API 账号在新设备上登录",
        "new_device": "您好！有人用正确的密码登录了您的账号，所用的设备或网络此前没有登录过。",
        "device": "设备：{device}",
        "unknown_device": "未知",
        "network": "网络：{network}",
        "time": "时间：{at:%Y-%m-%d %H:%M} UTC",
        "was_you": "如果是您本人，请忽略这封邮件。",
        "was_not_you": "如果不是您本人，请立即修改密码，并结束您不认识的会话。",
    },
    "en": {
        "verification_subject": "Your Runtime API verification code",
        "one_waits": "Hello! Somebody is signing up to Runtime API with this email address."
        " If it is you, complete the sign-up with the code below.",
        "several_wait": "Hello! {count} separate sign-ups are waiting for this email address to be"
        " verified. Use only the code under the username that you chose yourself, and none of the"
        " others: they may be somebody else's.",
        "username": "Username: ",
        "code": "Code: ",
        "link": "You can also open this link:",
        "good_for": "A code is good for {minutes} min and can be used once."
        " Do not give it to anybody.",
        "ignore_code": "If you did not sign up, ignore this email; there is nothing to do.",
        "registered_subject": "You already have a Runtime API account",
        "registered": "Hello! Somebody tried to sign up to Runtime API with this email address,"
        " which already has an account.",
        "sign_in": "If it was you, just sign in; there is no need to sign up again.",
        "ignore_registered": "If it was not you, ignore this email: nothing about your account has"
        " changed.",
        "recovery_subject": "Your Runtime API recovery code",
        "recovery": "Hello! Somebody wants to set a new password for your account. If it is you,"
        " set it with the code below.",
        "asked_from": "Asked for from the network {network}",
        "ignore_recovery": "If it was not you, ignore this email: nothing about your account has"
        " changed.",
        "new_password_subject": "Your Runtime API password was changed",
        "new_password": "Hello! A new password was set for your account, and all other sessions"
        " of it have ended.",
        "was_not_you_recover": "If it was not you, set another password now, by way of a"
        " forgotten one.",
        "new_device_subject": "A new device signed in to your Runtime API account",
        "new_device": "Hello! Somebody who knows your password signed in to your account, on a"
        " device or a network that had not signed in before.",
        "device": "Device: {device}",
        "unknown_device": "unknown",
        "network": "Network: {network}",
        "time": "Time: {at:%Y-%m-%d %H:%M} UTC",
        "was_you": "If it was you, ignore this email.",
        "was_not_you": "If it was not you, change your password now, and end the sessions that you"
        " do not know.",
    },
}

# No colours of our own, so that a reader's dark mode has nothing to undo.
_PAGE = """\
<!DOCTYPE html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{subject}</title>
</head>
<body style="margin:0 auto;padding:24px;max-width:560px;font:16px/1.6 sans-serif">
{body}
</body>
</html>
"""
_CODE_STYLE = (
    "margin:4px 0 12px;font:bold 32px/1.4 monospace;letter-spacing:4px;"
    "-webkit-user-select:all;user-select:all"
)


def verification_letter(language: str, codes: Sequence[MailedCode], minutes: int) -> Letter:
    """The code of every sign-up that waits for one address, each with the username it is for.

    `codes` has at least one; `minutes` is how long the one that ends first is still good. A link
    is for GET: whoever serves it consumes nothing.
    """
    words = _words(language)
    waits = words["one_waits"] if len(codes) == 1 else words["several_wait"]
    return _letter(
        language,
        words["verification_subject"],
        [
            waits.format(count=len(codes)),
            *codes,
            words["good_for"].format(minutes=minutes),
            words["ignore_code"],
        ],
    )


def already_registered_letter(language: str) -> Letter:
    """Tells an account's owner that somebody tried to sign up with their address; no code."""
    words = _words(language)
    return _letter(
        language,
        words["registered_subject"],
        [words["registered"], words["sign_in"], words["ignore_registered"]],
    )


def recovery_letter(language: str, code: MailedCode, minutes: int, network: str) -> Letter:
    """The code that sets a new password, good for `minutes`, and where it was asked for."""
    words = _words(language)
    return _letter(
        language,
        words["recovery_subject"],
        [
            words["recovery"],
            code,
            words["good_for"].format(minutes=minutes),
            words["asked_from"].format(network=network),
            words["ignore_recovery"],
        ],
    )


def new_password_letter(language: str, device: str | None, network: str, at: datetime) -> Letter:
    """Tells an account's owner that it has a new password."""
    words = _words(language)
    return _letter(
        language,
        words["new_password_subject"],
        [
            words["new_password"],
            *_origin(words, device, network, at),
            words["was_you"],
            words["was_not_you_recover"],
        ],
    )


def new_device_letter(language: str, device: str | None, network: str, at: datetime) -> Letter:
    """Tells an account's owner that it was signed in to, by a device not seen before."""
    words = _words(language)
    return _letter(
        language,
        words["new_device_subject"],
        [
            words["new_device"],
            *_origin(words, device, network, at),
            words["was_you"],
            words["was_not_you"],
        ],
    )


def _origin(words: dict, device: str | None, network: str, at: datetime) -> list[str]:
    """Who it was, and when."""
    return [
        words["device"].format(device=device or words["unknown_device"]),
        words["network"].format(network=network),
        words["time"].format(at=at),
    ]


def _words(language: str) -> dict[str, str]:
    return _WORDS[_known(language)]


def _known(language: str) -> str:
    return language if language in _WORDS else "zh"


def _letter(language: str, subject: str, parts: Sequence[str | MailedCode]) -> Letter:
    """Set the same parts, each a paragraph or a code, as text and as HTML."""
    words = _words(language)
    body = "\n".join(_part_as_html(part, words) for part in parts)
    return Letter(
        subject=subject,
        text="\n\n".join(_part_as_text(part, words) for part in parts) + "\n",
        html=_PAGE.format(lang=_LANG[_known(language)], subject=escape(subject), body=body),
    )


def _part_as_text(part: str | MailedCode, words: dict[str, str]) -> str:
    if isinstance(part, str):
        return part
    lines = [words["username"] + part.username, words["code"] + part.code]
    if part.link:
        lines += [words["link"], part.link]
    return "\n".join(lines)


def _part_as_html(part: str | MailedCode, words: dict[str, str]) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    lines = [
        f'<p style="margin:20px 0 0">{words["username"]}<strong>{escape(part.username)}</strong>'
        f"<br>{words['code']}</p>",
        f'<p style="{_CODE_STYLE}">{escape(part.code)}</p>',
    ]
    if part.link:
        link = escape(part.link)
        lines.append(f'<p>{words["link"]}<br><a href="{link}">{link}</a></p>')
    return "\n".join(lines)

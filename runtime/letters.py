"""The mails themselves, in Chinese and English: what they say, not how they travel.

A letter is a list of paragraphs and codes, set once as text and once as HTML. Its subject is
never anybody's text, so that nothing a person typed can reach a header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from .callers import Caller


@dataclass(frozen=True)
class Letter:
    """One mail without its envelope; the text says everything that the HTML does."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class MailedCode:
    """A code, the username of the account that it is for, and where it can be used, if anywhere.

    `asker` is who asked for it: what tells its owner from a stranger with the same username.
    """

    username: str
    code: str
    link: str | None
    asker: Caller | None = None


@dataclass(frozen=True)
class WayBack:
    """What takes a change of address back, and where it can be used, if anywhere."""

    token: str
    link: str | None


Part = str | MailedCode | WayBack

_LANG = {"zh": "zh-CN", "en": "en"}

_WORDS = {
    "zh": {
        "verification_subject": "Runtime API 注册验证码",
        "one_waits": "您好！有人正在用这个邮箱地址注册 Runtime API。"
        "如果是您本人，请用下面的验证码完成注册。",
        "several_wait": "您好！有 {count} 个注册请求在等待验证这个邮箱地址，它们互不相关。"
        "请只使用您自己发起的那一个的验证码（请核对用户名、网络、设备和时间），"
        "不要使用其他的：那可能是别人的注册。",
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
        "ignore_recovery": "如果不是您本人，请忽略这封邮件：您的账号没有任何变化。",
        "new_password_subject": "您的 Runtime API 密码已修改",
        "new_password": "您好！您的账号设置了新密码，其他会话均已结束。",
        "no_password_subject": "您的 Runtime API 账号还没有密码",
        "no_password": "您好！账号 {username} 已注册成功。还有一个注册请求用了同样的用户名和这个"
        "邮箱地址，但来自别的网络或用了别的密码。为了不让他人的密码打开您的账号，账号目前没有密码。",
        "set_password": "您已登录的会话照常可用。要设置密码，请使用“忘记密码”。",
        "was_not_you_recover": "如果不是您本人，请立即通过“忘记密码”重新设置密码。",
        "new_address_subject": "Runtime API 邮箱验证码",
        "new_address": "您好！有人要把这个邮箱地址设为自己 Runtime API 账号的邮箱。"
        "如果是您本人，请在已登录的应用中输入下面的验证码。",
        "ignore_new_address": "如果不是您本人，请忽略这封邮件，也不要把验证码告诉任何人。",
        "address_in_use_subject": "您的邮箱已注册 Runtime API",
        "address_in_use": "您好！有人想把这个邮箱地址设为另一个 Runtime API 账号的邮箱，"
        "但它已经有账号了。",
        "email_change_subject": "您的 Runtime API 账号正在更换邮箱",
        "email_change": "您好！有人用正确的密码要求把您账号的邮箱换成 {email}。",
        "email_changed_subject": "您的 Runtime API 账号已更换邮箱",
        "email_changed": "您好！您账号的邮箱已换成 {email}。",
        "way_back": "如果不是您本人，请在 7 天内用下面的撤销码恢复原来的邮箱：所有会话都会结束，"
        "密码也会作废，之后请通过“忘记密码”设置新密码。",
        "way_back_token": "撤销码：",
        "keep_way_back": "请不要把它告诉任何人。",
        "email_restored_subject": "您的 Runtime API 账号的邮箱已恢复",
        "email_restored": "您好！更换邮箱的操作已撤销，账号的邮箱是 {email}。所有会话均已结束，"
        "密码已作废。",
        "recover_now": "请通过“忘记密码”设置新密码，然后登录。",
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
        " verified. Use only the code of the one that you began yourself: check the username, the"
        " network, the device and the time. The others may be somebody else's.",
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
        "ignore_recovery": "If it was not you, ignore this email: nothing about your account has"
        " changed.",
        "new_password_subject": "Your Runtime API password was changed",
        "new_password": "Hello! A new password was set for your account, and all other sessions"
        " of it have ended.",
        "no_password_subject": "Your Runtime API account has no password yet",
        "no_password": "Hello! Your account {username} is ready. There was a second sign-up with"
        " this email address and the same username, from another network or with another password."
        " So that somebody else's password cannot open your account, it has no password for now.",
        "set_password": "You stay signed in where you entered the code. To set a password, choose"
        ' "Forgot password".',
        "was_not_you_recover": "If it was not you, set another password now, by way of a"
        " forgotten one.",
        "new_address_subject": "Your Runtime API email code",
        "new_address": "Hello! Somebody wants to use this email address for their Runtime API"
        " account. If it is you, enter the code below where you are signed in.",
        "ignore_new_address": "If it was not you, ignore this email; there is nothing to do.",
        "address_in_use_subject": "You already have a Runtime API account",
        "address_in_use": "Hello! Somebody tried to use this email address for another Runtime API"
        " account, but it already has one.",
        "email_change_subject": "Your Runtime API account is to have another address",
        "email_change": "Hello! Somebody who knows your password asked to change the email address"
        " of your account to {email}.",
        "email_changed_subject": "Your Runtime API account has another address",
        "email_changed": "Hello! The email address of your account was changed to {email}.",
        "way_back": "If it was not you, take it back within 7 days with the key below: all sessions"
        " end, and the password is void, so that you set another one by way of a forgotten one.",
        "way_back_token": "Key: ",
        "keep_way_back": "Do not give it to anybody.",
        "email_restored_subject": "Your Runtime API account has its address back",
        "email_restored": "Hello! The change of address was taken back: the account's address is"
        " {email}. All its sessions have ended, and its password is void.",
        "recover_now": "Set another one by way of a forgotten one, and sign in.",
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


def no_password_letter(language: str, username: str) -> Letter:
    """Tells the owner of a new account why it has no password, and how to set one."""
    words = _words(language)
    return _letter(
        language,
        words["no_password_subject"],
        [words["no_password"].format(username=username), words["set_password"]],
    )


def recovery_letter(language: str, code: MailedCode, minutes: int) -> Letter:
    """The code that sets a new password, good for `minutes`."""
    words = _words(language)
    return _letter(
        language,
        words["recovery_subject"],
        [
            words["recovery"],
            code,
            words["good_for"].format(minutes=minutes),
            words["ignore_recovery"],
        ],
    )


def new_password_letter(language: str, device: str | None, network: str, at: datetime) -> Letter:
    """Tells an account's owner that it has a new password."""
    return _told("new_password", "was_not_you_recover", language, device, network, at)


def new_address_letter(language: str, code: MailedCode, minutes: int) -> Letter:
    """The code that proves an account's new address, good for `minutes`."""
    words = _words(language)
    return _letter(
        language,
        words["new_address_subject"],
        [
            words["new_address"],
            code,
            words["good_for"].format(minutes=minutes),
            words["ignore_new_address"],
        ],
    )


def address_in_use_letter(language: str) -> Letter:
    """Tells an account's owner that another account was to have their address; no code."""
    words = _words(language)
    return _letter(
        language,
        words["address_in_use_subject"],
        [words["address_in_use"], words["ignore_registered"]],
    )


def email_change_letter(language: str, email: str, way_back: WayBack) -> Letter:
    """Tells an account's address that another one is to replace it."""
    return _letter_to_old(language, "email_change", email, way_back)


def email_changed_letter(language: str, email: str, way_back: WayBack) -> Letter:
    """Tells the address that an account had that another one has replaced it."""
    return _letter_to_old(language, "email_changed", email, way_back)


def _letter_to_old(language: str, what: str, email: str, way_back: WayBack) -> Letter:
    words = _words(language)
    return _letter(
        language,
        words[f"{what}_subject"],
        [
            words[what].format(email=email),
            words["was_you"],
            words["way_back"],
            way_back,
            words["keep_way_back"],
        ],
    )


def email_restored_letter(language: str, email: str) -> Letter:
    """Tells both addresses that the account has its old one back."""
    words = _words(language)
    return _letter(
        language,
        words["email_restored_subject"],
        [words["email_restored"].format(email=email), words["recover_now"]],
    )


def new_device_letter(language: str, device: str | None, network: str, at: datetime) -> Letter:
    """Tells an account's owner that it was signed in to, by a device not seen before."""
    return _told("new_device", "was_not_you", language, device, network, at)


def _told(
    what: str, otherwise: str, language: str, device: str | None, network: str, at: datetime
) -> Letter:
    """What was done, who it was and when, and what to do if it was not its reader."""
    words = _words(language)
    return _letter(
        language,
        words[f"{what}_subject"],
        [
            words[what],
            *_asker(Caller(network, device, at=at), words),
            words["was_you"],
            words[otherwise],
        ],
    )


def _asker(asker: Caller, words: dict[str, str]) -> list[str]:
    """Who it was, and when."""
    return [
        words["device"].format(device=asker.device or words["unknown_device"]),
        words["network"].format(network=asker.network),
        words["time"].format(at=asker.at),
    ]


def _words(language: str) -> dict[str, str]:
    return _WORDS[_known(language)]


def _known(language: str) -> str:
    return language if language in _WORDS else "zh"


def _letter(language: str, subject: str, parts: Sequence[Part]) -> Letter:
    """Set the same parts, each a paragraph, a code or a way back, as text and as HTML."""
    words = _words(language)
    body = "\n".join(_part_as_html(part, words) for part in parts)
    return Letter(
        subject=subject,
        text="\n\n".join(_part_as_text(part, words) for part in parts) + "\n",
        html=_PAGE.format(lang=_LANG[_known(language)], subject=escape(subject), body=body),
    )


def _part_as_text(part: Part, words: dict[str, str]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, WayBack):
        lines = [words["way_back_token"] + part.token]
    else:
        lines = [words["username"] + part.username, words["code"] + part.code]
        lines += _asker(part.asker, words) if part.asker else []
    if part.link:
        lines += [words["link"], part.link]
    return "\n".join(lines)


def _part_as_html(part: Part, words: dict[str, str]) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, WayBack):
        lines = [f"<p>{words['way_back_token']}<br><code>{escape(part.token)}</code></p>"]
    else:
        lines = [
            f'<p style="margin:20px 0 0">{words["username"]}'
            f"<strong>{escape(part.username)}</strong><br>{words['code']}</p>",
            f'<p style="{_CODE_STYLE}">{escape(part.code)}</p>',
        ]
        if part.asker:
            lines.append(f"<p>{'<br>'.join(map(escape, _asker(part.asker, words)))}</p>")
    if part.link:
        link = escape(part.link)
        lines.append(f'<p>{words["link"]}<br><a href="{link}">{link}</a></p>')
    return "\n".join(lines)

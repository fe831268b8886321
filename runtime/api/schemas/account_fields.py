"""The fields of an account: its address, name and passwords, and the codes mailed to it."""

from runtime.api.schemas.fields import String
from runtime.mail.addresses import tidy
from runtime.security.passwords import normalized

_ATOM = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_TOP_LABEL = r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])"


class Email(String):
    """An address of ASCII letters, in the form that mail servers really take.

    In a request it may be as people type it: see `addresses.tidy`.
    """

    def __init__(self, **kwargs):
        super().__init__(
            high=254,
            pattern=rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_TOP_LABEL}",
            mismatch="not_an_email",
            example="ada@example.org",
            metadata={"format": "email"},
            **kwargs,
        )

    def _deserialize(self, value, attr, data, **kwargs) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        # To look at each character of what a body may hold takes long, and it is refused anyway.
        return tidy(text) if len(text) <= 1000 else text


class MailedSecret(String):
    """A code or a key out of a mail; ASCII spaces around it are taken away, as for an address."""

    def _deserialize(self, value, attr, data, **kwargs) -> str:
        return super()._deserialize(value, attr, data, **kwargs).strip(" ")


class Username(String):
    """3 to 30 ASCII letters, digits and underscores."""

    def __init__(self, **kwargs):
        super().__init__(
            low=3,
            high=30,
            pattern=r"[A-Za-z0-9_]+",
            mismatch="not_a_username",
            example="ada",
            **kwargs,
        )


class Password(String):
    """6 to 128 characters, whichever, as they were typed."""

    LOW, HIGH = 6, 128
    # What any one character comes apart into, at most (Unicode's NFD).
    PARTS = 4

    def __init__(self, **kwargs):
        super().__init__(
            example="correct horse",
            metadata={"format": "password", "minLength": self.LOW, "maxLength": self.HIGH},
            check=self._fault_of,
            **kwargs,
        )

    def _fault_of(self, password: str) -> str | None:
        # As it is hashed: the same password for every keyboard is as long for every keyboard. Only
        # what may be short enough: a long row of accents takes the square of its length to order,
        # half a minute for what a body may hold, and no other thread runs meanwhile.
        may_fit = len(password) <= self.HIGH * self.PARTS
        length = len(normalized(password) if may_fit else password)
        if length < self.LOW:
            return f"too_short {self.LOW}"
        return f"too_long {self.HIGH}" if length > self.HIGH else None


class NewPassword(Password):
    """A password to set; `credentials.demand_strong` says which may be."""

    def __init__(self, **kwargs):
        super().__init__(
            description="不能是最常见的密码（不分大小写）；也不能是自己的用户名或邮箱，前后加上数字或"
            "符号也不行；`PASSWORD_MIN_LENGTH` 可要求更长。",
            **kwargs,
        )

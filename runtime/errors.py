"""Everything that can go wrong on purpose, on one page.

A failure has a `code` (the name of its sentence in `runtime.i18n`) and the evidence its reader
needs. It knows nothing of HTTP; `runtime.api.register.problems` gives each its status.
"""

import math
from dataclasses import dataclass

# What the framework or the server refuses has a code too, by its status. Codes are part of the API:
# clients tell failures apart by them, so that none is ever renamed.
HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "content_too_large",
    414: "uri_too_long",
    417: "expectation_failed",
    431: "header_fields_too_large",
    500: "server_error",
    501: "not_implemented",
}


class Failure(Exception):
    """What a person is told about."""

    code: str


class StoreUnavailable(Exception):
    """Redis does not answer, or did not a moment ago; nobody is told, others do its work."""


class EmailTaken(Exception):
    """An account has this address; operators are told, and nobody else."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one parameter.

    `where` is a JSON pointer into the body (RFC 6901, `#/email`) or a parameter's name, whatever
    that begins with; `message` is a sentence's code, followed by the numbers for its places:
    `too_long 30`.
    """

    where: str
    message: str
    is_in_body: bool = True

    @property
    def code(self) -> str:
        """The sentence's code alone, for programs."""
        return self.message.partition(" ")[0]


class InvalidParameters(Failure):
    """The request's parameters are wrong; `faults` says which and how."""

    code = "invalid_parameters"

    def __init__(self, *faults: Fault):
        super().__init__(*faults)
        self.faults = faults


class UsernameTaken(InvalidParameters):
    """An account has this name, in whatever case."""

    code = "username_taken"

    def __init__(self):
        super().__init__(Fault("#/username", "username_taken"))


class UsernameTakenMeanwhile(UsernameTaken):
    """The name was free at sign-up and is not at verification: the sign-up is over."""

    code = "username_taken_meanwhile"

    def __init__(self):
        InvalidParameters.__init__(self, Fault("#/email", "username_taken_meanwhile"))


class NotAuthenticated(Failure):
    """Nobody in particular asks: there is no access token."""

    code = "not_authenticated"


class InvalidAccessToken(Failure):
    """The access token means nothing, has run out, or its session is over."""

    code = "invalid_access_token"


class WrongCredentials(Failure):
    """No account has this address and password together."""

    code = "wrong_credentials"


class WrongPassword(InvalidParameters):
    """Who is signed in gave another password than the account's."""

    code = "wrong_password"

    def __init__(self):
        super().__init__(Fault("#/current_password", "wrong_password"))


class CommonPassword(InvalidParameters):
    """The password is one of those that are tried first."""

    code = "common_password"

    def __init__(self):
        super().__init__(Fault("#/password", self.code))


class OwnNameAsPassword(InvalidParameters):
    """The password is the account's name or address, or little more."""

    code = "own_name_as_password"

    def __init__(self):
        super().__init__(Fault("#/password", self.code))


class InvalidCode(Failure):
    """The code is not the one that was mailed, or no longer good."""

    code = "invalid_code"


class CodeUsedUp(InvalidCode):
    """All tries at the code are spent: who asked for it must begin again."""

    code = "code_used_up"


class InvalidEmailCode(InvalidParameters):
    """Who is signed in gave another code than the one mailed to the address, or it has run out."""

    code = "invalid_code"

    def __init__(self):
        super().__init__(Fault("#/token", self.code))


class EmailCodeUsedUp(InvalidEmailCode):
    """All tries at the code for an address are spent: who asked for it must begin again."""

    code = "code_used_up"


class NothingToResend(InvalidParameters):
    """What the asker began cannot be completed any more: they must begin again."""

    code = "code_used_up"

    def __init__(self):
        super().__init__(Fault("#/email", self.code))


class NoPassword(InvalidParameters):
    """The account of who is signed in has no password to give; a recovery sets one."""

    code = "no_password"

    def __init__(self):
        super().__init__(Fault("#/current_password", self.code))


class InvalidRefreshToken(Failure):
    """The refresh token means nothing or its session is over."""

    code = "invalid_refresh_token"


class Forbidden(Failure):
    """The user is known, and may not."""

    code = "forbidden"


class SessionNotFound(Failure):
    """There is no such session of this user's, or it is over."""

    code = "session_not_found"


class UserNotFound(Failure):
    code = "user_not_found"


class ChatNotFound(Failure):
    """There is no such chat of this user's."""

    code = "chat_not_found"


class RunNotFound(Failure):
    """There is no such run in this chat of this user's."""

    code = "run_not_found"


class IdempotencyKeyReused(InvalidParameters):
    """The key was used before, with another body."""

    code = "idempotency_key_reused"

    def __init__(self):
        super().__init__(Fault("Idempotency-Key", "idempotency_key_reused", is_in_body=False))


class NothingNew(InvalidParameters):
    """The chat has all of the messages already, and nothing in it waits to be answered."""

    code = "nothing_new"

    def __init__(self):
        super().__init__(Fault("#/messages", "nothing_new"))


class ChatBusy(Failure):
    """Another run in this chat has not ended."""

    code = "chat_busy"


class TooManyRequests(Failure):
    """A limit is reached; asking again makes sense after `retry_after` seconds."""

    code = "too_many_requests"

    def __init__(self, retry_after: float):
        super().__init__(retry_after)
        self.retry_after = retry_after

    @property
    def seconds_to_wait(self) -> int:
        """`retry_after` in whole seconds, at least one."""
        return max(1, math.ceil(self.retry_after))


class OutOfTokens(TooManyRequests):
    """The user's tokens of the day are used up."""

    code = "out_of_tokens"


class DayFull(TooManyRequests):
    """The user has written as much as they may in a day."""

    code = "day_full"


class TooManyChats(InvalidParameters):
    """The user has as many chats as an account may have; one that is erased makes room."""

    code = "too_many_chats"


class Overloaded(TooManyRequests):
    """More hashes are asked for than the cores can do soon."""

    code = "overloaded"


class Unavailable(Failure):
    """Something this service stands on is away."""

    code = "unavailable"
    seconds_to_wait = 1

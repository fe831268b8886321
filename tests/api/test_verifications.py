"""/auth/verifications"""

import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from flask import Flask

from runtime.models.allowances import Allowance
from runtime.models.codes import SignUp
from runtime.models.sessions import Session
from runtime.models.tables import MODELS
from runtime.models.users import User
from runtime.security.passwords import Passwords
from runtime.services import purge
from runtime.services.accounts import erasures, users
from tests.conftest import PASSWORD, Log, Outbox, Person, at_once
from tests.quick import BusyPasswords, quick_hash

EMAIL = "ada@example.org"
OWNER, STRANGER, THIRD = "198.51.100.10", "203.0.113.66", "192.0.2.30"
WRONG = "验证码无效或已过期"
USED_UP = "验证码已输错太多次，不再有效，请重新开始"


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


@pytest.fixture
def redirects(settings: dict) -> None:
    """Asked for before `app`."""
    settings["REDIRECT_ALLOWLIST"] = "https://app.example.org, http://localhost:3000"


@pytest.fixture
def owner(app: Flask) -> Person:
    """Who reads the mails to EMAIL."""
    return Person(app.test_client(), OWNER)


def at(app: Flask, network: str) -> Person:
    """Somebody on another network."""
    return Person(app.test_client(), network)


def sign_up(person: Person, username="ada", email=EMAIL, password=PASSWORD, **more):
    body = {"username": username, "email": email, "password": password, **more}
    return person.post("/auth/verifications", body)


def resend(person: Person, email=EMAIL):
    return person.post("/auth/verifications/resend", {"email": email})


def verify(person: Person, code: str, email=EMAIL):
    return person.post("/auth/verifications/verify", {"email": email, "token": code})


def sign_in(person: Person, email=EMAIL, password=PASSWORD):
    return person.post("/auth/sessions", {"email": email, "password": password})


def codes(outbox: Outbox, email=EMAIL) -> dict[str, str]:
    """The newest code of each username, out of all mails to the address."""
    text = "\n".join(outbox.texts(email))
    return dict(re.findall(r"(?:用户名：|Username: )(\w+)\s+(?:验证码：|Code: )(\d{6})", text))


def other_than(*known: str) -> str:
    """A code that is none of these."""
    return next(code for code in map("{:06}".format, range(10)) if code not in known)


def everything_but_ids(answer, email: str) -> tuple:
    headers = [(name, value) for name, value in answer.headers if name != "X-Request-ID"]
    return answer.status_code, headers, answer.text.replace(email, "…")


# The way it is meant to go


def test_a_mailed_code_makes_the_account_and_signs_in(owner: Person, outbox: Outbox):
    asked = sign_up(owner, "Ada_L", "Ada@Example.org", "  pass wörd 密码 ")
    answer = verify(owner, outbox.code("Ada@Example.org"), "ada@example.ORG")

    assert (asked.status_code, asked.json) == (202, {"email": "Ada@Example.org"})
    assert answer.status_code == 200
    assert answer.json.keys() == {
        "access_token",
        "refresh_token",
        "expires_in",
        "token_type",
        "user",
    }
    assert (answer.json["expires_in"], answer.json["token_type"]) == (3600, "bearer")
    owner.tokens = answer.json
    me = owner.get("/users/me").json
    assert me["username"] == "Ada_L"
    assert answer.json["user"] == {"id": me["id"], "email": "Ada@Example.org"}
    assert sign_in(owner, password="  pass wörd 密码 ").status_code == 200
    assert sign_in(owner, password="pass wörd 密码").status_code == 401


def test_nothing_is_an_account_before_its_code(app: Flask, owner: Person, alice: Person):
    sign_up(owner)

    assert sign_in(owner).status_code == 401
    assert alice.get("/users/ada").status_code == 404
    assert sign_up(at(app, STRANGER), "ada", "another@example.org").status_code == 202


NONSENSE = [
    ({"username": "ab"}, "#/username"),
    ({"username": "a" * 31}, "#/username"),
    ({"username": "a.b.c"}, "#/username"),
    ({"username": "ada\n"}, "#/username"),
    ({"username": None}, "#/username"),
    ({"email": "ada"}, "#/email"),
    ({"email": "ada@localhost"}, "#/email"),
    ({"email": "ada@example.org\n"}, "#/email"),
    ({"email": "=?utf-8?q?x?=@example.org"}, "#/email"),
    ({"email": "a" * 250 + "@example.org"}, "#/email"),
    ({"email": "ädä@example.org"}, "#/email"),
    ({"email": "a@example.org,b@example.org"}, "#/email"),
    ({"password": "12345"}, "#/password"),
    ({"password": "x" * 129}, "#/password"),
    ({"password": 123456}, "#/password"),
    ({"redirect_to": "https://elsewhere.example"}, "#/redirect_to"),
    ({"redirect_to": "javascript:alert(1)"}, "#/redirect_to"),
    ({"admin": True}, "#/admin"),
]


def test_a_sign_up_that_makes_no_sense_is_refused(owner: Person, outbox: Outbox):
    for change, pointer in NONSENSE:
        answer = sign_up(owner, **change)

        assert answer.status_code == 422, change
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert outbox.mails() == []


@pytest.mark.parametrize(
    "token", ["12345", "1234567", "12345a", "１２３４５６", "123456\n", 123456, None]
)
def test_a_code_that_is_no_code_is_refused_and_not_counted(owner: Person, token):
    for _ in range(12):
        answer = verify(owner, token)

    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "#/token"


def test_a_wrong_code_is_said_to_be_wrong(owner: Person, app: Flask):
    answer = verify(owner, "123456")

    assert (answer.status_code, answer.json["detail"]) == (401, WRONG)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("length", [6, 128])
def test_a_password_may_be_short_or_long(owner: Person, outbox: Outbox, length: int):
    sign_up(owner, password="密" * length)
    verify(owner, outbox.code(EMAIL))

    assert sign_in(owner, password="密" * length).status_code == 200


# Nobody learns whether an address has an account


@pytest.mark.parametrize("taken", ["alice", "ALICE"])
@pytest.mark.parametrize("email", ["new@example.org", "alice@example.org"])
def test_a_taken_name_is_refused_for_every_address(owner, alice: Person, taken: str, email: str):
    answer = sign_up(owner, taken, email)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["#/username"]


@pytest.fixture
def kinds(app: Flask, alice: Person, member) -> dict[str, Person]:
    """Addresses of every kind, equally long, each asked for from a network of its own."""
    sign_up(at(app, THIRD), "waits", "waits@example.org")
    for name in ("shut_", "gone_"):
        member(name)
    with app.app_context():
        users.disable(User.find_by_email("shut_@example.org"))
        erasures.erase(User.find_by_email("gone_@example.org"))
        User.update(password_hash=quick_hash(PASSWORD)).execute()
    names = ["alice", "waits", "nobdy", "shut_", "gone_"]
    return {f"{name}@example.org": at(app, f"192.0.2.{n}") for n, name in enumerate(names)}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/auth/verifications", {"username": "new_name", "password": PASSWORD}, 202),
        ("/auth/verifications", {"username": "x", "password": PASSWORD}, 422),
        ("/auth/verifications/resend", {}, 204),
        ("/auth/verifications/verify", {"token": "123456"}, 401),
        ("/auth/sessions", {"password": "not the password"}, 401),
    ],
)
def test_all_addresses_get_the_same_answer(kinds: dict, path, body, status):
    answers = [
        everything_but_ids(person.post(path, {"email": email, **body}), email)
        for email, person in kinds.items()
    ]

    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == status


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/auth/verifications", {"username": "new_name", "password": PASSWORD}, [202] * 8),
        ("/auth/verifications/resend", {}, [204]),
        ("/auth/verifications/verify", {"token": "123456"}, [401] * 3),
        ("/auth/sessions", {"password": "not the password"}, [401] * 10),
    ],
)
def test_all_addresses_meet_the_same_limits(kinds: dict, path, body, expected):
    assert kinds
    for email, person in kinds.items():
        answers = [person.post(path, {"email": email, **body}) for _ in [*expected, 1, 2]]

        assert [answer.status_code for answer in answers] == [*expected, 429, 429]
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers[-2:])


def test_all_addresses_meet_the_same_limits_with_a_sign_up_of_ones_own(kinds: dict):
    def story(email: str, person: Person) -> list[int]:
        answers = [sign_up(person, "new_name", email)]
        answers += [verify(person, "123456", email) for _ in range(12)]
        answers += [resend(person, email) for _ in range(2)]
        answers += [verify(person, "123456", email) for _ in range(2)]
        return [answer.status_code for answer in answers]

    stories = [story(email, person) for email, person in kinds.items()]

    assert all(each == stories[0] for each in stories)
    assert stories[0] == [202, *[401] * 12, 422, 422, 401, 401]


def test_all_addresses_answer_the_same_once_a_code_has_run_out(kinds: dict, clock, ground):
    """Whether it was renewed, which is not done for an account, shows in no answer."""

    def story(email: str, person: Person) -> list[str]:
        sign_up(person, "new_name", email)
        clock.advance(minutes=11)
        assert resend(person, email).status_code == 204
        ground.settle()
        return [details_of(verify(person, "123456", email)) for _ in range(6)]

    stories = [story(email, person) for email, person in kinds.items()]

    assert all(each == stories[0] for each in stories)
    assert stories[0] == [WRONG] * 4 + [USED_UP] * 2


def details_of(answer) -> str:
    return answer.json["detail"]


def test_all_addresses_meet_the_same_limits_from_many_networks(app, alice: Person):
    def story(number: int, email: str) -> list[int]:
        everybody = [at(app, f"10.{number}.0.{host}") for host in range(1, 26)]
        answers = [sign_up(person, "new_name", email) for person in everybody]
        answers += [verify(person, "123456", email) for person in everybody]
        answers += [verify(at(app, f"10.{number}.1.1"), "123456", email) for _ in range(7)]
        return [answer.status_code for answer in answers]

    stories = [story(n, email) for n, email in enumerate(("alice@example.org", "n@example.org"))]

    assert stories[0] == stories[1]
    assert stories[0][:25] == [202] * 8 + [429] * 17


class CountingPasswords(Passwords):
    """The real ones, counted."""

    count = 0

    def _run(self, network: str, function, *arguments):
        self.count += 1
        return super()._run(network, function, *arguments)


@pytest.mark.in_process("counts the hashes")
@pytest.mark.parametrize("ask", [sign_up, sign_in, resend])
def test_an_unknown_address_costs_as_many_hashes(app: Flask, owner, alice, strong, ask):
    app.extensions["passwords"] = passwords = CountingPasswords(2)

    def cost(**arguments) -> int:
        before = passwords.count
        ask(owner, **arguments)
        return passwords.count - before

    spent = {cost(email="alice@example.org"), cost(email="nobody@example.org")}

    assert spent == ({0} if ask is resend else {1})


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sign up", "resend", "verify", "sign in"])
def test_time_does_not_tell_either(no_limits, app: Flask, member, owner: Person, what: str):
    """Of two requests, one for a known address, either is the longer one about as often."""
    ask = {
        "sign up": lambda email: sign_up(owner, "new_name", email),
        "resend": lambda email: resend(owner, email),
        "verify": lambda email: verify(owner, "123456", email),
        "sign in": lambda email: sign_in(owner, email, "not the password"),
    }[what]
    known = [member(f"known{number:03}").email for number in range(80)]
    unknown = [email.replace("known", "nobdy") for email in known]

    def seconds(email: str) -> float:
        began = time.perf_counter()
        ask(email)
        return time.perf_counter() - began

    pairs = []
    for number, (a, b) in enumerate(zip(known, unknown, strict=True)):
        if number % 2:
            pairs.append((seconds(a), seconds(b)))
        else:
            pairs.append(tuple(reversed((seconds(b), seconds(a)))))
    longer = sum(a > b for a, b in product([a for a, _ in pairs], [b for _, b in pairs]))

    # Mann and Whitney's statistic; its deviation for 80 and 80 is 0.046.
    assert 0.3 < longer / 80**2 < 0.7


def test_the_owner_of_an_account_gets_a_notice_and_no_code(owner, alice: Person, outbox: Outbox):
    sign_up(owner, "new_name", "Alice@example.org")
    resend(owner, "alice@example.org")

    texts = outbox.texts("Alice@example.org") + outbox.texts("alice@example.org")
    assert len(texts) == 2
    for mail in outbox.mails():
        assert not re.search(r"\b\d{6}\b", mail.get_body(("plain",)).get_content())
        assert "已经有账号" in mail.get_body(("plain",)).get_content()


def test_an_address_for_which_nothing_waits_gets_no_mail_again(owner: Person, outbox: Outbox):
    assert resend(owner).status_code == 204
    assert outbox.mails() == []


# A code completes only its own sign-up


@pytest.mark.parametrize("place", [OWNER, STRANGER, THIRD])
@pytest.mark.parametrize("order", ["OS", "SO", "OSO", "SOS", "OOS", "SSO", "OSS", "SOO"])
def test_a_code_completes_only_its_own_sign_up(no_limits, app, outbox, order, place):
    """Whoever asks first, last or again, has the codes mailed again, or types one in where."""
    people = {"O": at(app, OWNER), "S": at(app, STRANGER)}
    for number, resends in enumerate(["", "OS", "S"]):
        email = f"ada{number}@example.org"
        passwords = {}
        for turn, who in enumerate(order):
            username = f"{who}{number}_{turn}"
            passwords[username] = f"password of {username}"
            sign_up(people[who], username, email, passwords[username])
        for who in resends:
            resend(people[who], email)
            outbox.mails()
        mailed = codes(outbox, email)
        assert mailed.keys() == passwords.keys()
        mine = [name for name in mailed if name.startswith("O")]
        chosen = mine[number % len(mine)]

        assert verify(people["S"], other_than(*mailed.values()), email).status_code == 401
        answer = verify(at(app, place), mailed[chosen], email)

        assert answer.status_code in ((200,) if place == OWNER else (200, 401))
        if place == STRANGER:
            assert answer.status_code == 401
        works = [n for n, word in passwords.items() if _opens(app, email, word)]
        assert works == ([chosen] if answer.status_code == 200 else [])
        if answer.status_code == 200:
            left = [verify(people["S"], code, email) for code in mailed.values()]
            assert {answer.status_code for answer in left} <= {401, 429}
            with app.app_context():
                assert User.find_by_email(email).username == chosen
                rest = SignUp.waiting(email)
                assert {row.code_hash + row.password_hash for row in rest} <= {""}


def _opens(app: Flask, email: str, password: str) -> bool:
    with app.app_context():
        user = User.find_by_email(email)
    return bool(user) and app.extensions["passwords"].verify(password, user.password_hash)


def test_a_code_from_another_network_works_too(app: Flask, owner: Person, outbox: Outbox):
    sign_up(owner)

    assert verify(at(app, THIRD), outbox.code(EMAIL)).status_code == 200


def test_strangers_use_up_nothing_that_the_owner_needs(app, owner, outbox: Outbox):
    sign_up(owner)
    openers = [at(app, f"203.0.113.{host}") for host in range(1, 20)]
    for number, stranger in enumerate(openers):
        assert sign_up(stranger, f"stranger{number}").status_code in (202, 429)
    resend(openers[0])
    code = codes(outbox)["ada"]
    wrong = other_than(*codes(outbox).values())
    for stranger in [*openers, *(at(app, f"192.0.2.{host}") for host in range(1, 31))]:
        for _ in range(6):
            assert verify(stranger, wrong).status_code in (401, 429)

    answer = verify(owner, code)

    assert answer.status_code == 200
    assert answer.json["user"]["email"] == EMAIL
    assert _opens(app, EMAIL, PASSWORD)


def test_one_stranger_leaves_the_owner_all_five_tries(app, owner, outbox: Outbox):
    sign_up(owner)
    stranger = at(app, STRANGER)
    for number in range(6):
        sign_up(stranger, f"stranger{number}")
    mailed = codes(outbox)
    wrong = other_than(*mailed.values())
    for _ in range(20):
        verify(stranger, wrong)

    assert [verify(owner, wrong).status_code for _ in range(4)] == [401] * 4
    assert verify(owner, mailed["ada"]).status_code == 200


def test_a_stranger_who_has_codes_mailed_again_leaves_the_owner_theirs(app, owner, outbox: Outbox):
    sign_up(owner)
    stranger = at(app, STRANGER)
    sign_up(stranger, "stranger")
    resend(stranger)
    assert resend(owner).status_code == 429

    assert verify(owner, codes(outbox)["ada"]).status_code == 200


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_a_busy_server_does_not_cost_anybody_their_few_sign_ups(app: Flask, owner: Person):
    app.extensions["passwords"] = passwords = BusyPasswords(2)
    refused = [sign_up(owner) for _ in range(8)]
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.headers["Retry-After"] for answer in refused} == {"2"}

    passwords.busy = False

    assert sign_up(owner).status_code == 202


# How often a code may be tried


def test_a_code_can_be_tried_five_times(owner: Person, outbox: Outbox):
    sign_up(owner)
    code = outbox.code(EMAIL)
    wrong = [verify(owner, other_than(code)) for _ in range(5)]

    assert [answer.status_code for answer in wrong] == [401] * 5
    assert verify(owner, code).status_code == 401


def test_who_used_up_their_tries_is_told_to_begin_again_and_can(owner, outbox: Outbox):
    sign_up(owner)
    code = outbox.code(EMAIL)
    told = [verify(owner, other_than(code)).json["detail"] for _ in range(5)]
    assert told == [WRONG] * 4 + [USED_UP]
    last = verify(owner, code)
    assert (last.status_code, last.json["detail"]) == (401, USED_UP)
    again = resend(owner)
    assert (again.status_code, again.json["detail"]) == (422, USED_UP)
    assert len(outbox.mails()) == 1

    sign_up(owner)
    assert verify(owner, outbox.code(EMAIL)).status_code == 200


def test_five_presses_and_two_typos_leave_the_right_code(owner: Person, outbox: Outbox):
    for _ in range(5):
        assert sign_up(owner).status_code == 202
    code = outbox.code(EMAIL)
    for _ in range(2):
        assert verify(owner, other_than(code)).status_code == 401

    assert verify(owner, code).status_code == 200


def test_a_code_that_has_run_out_costs_no_try(owner: Person, outbox: Outbox, clock):
    sign_up(owner)
    code = outbox.code(EMAIL)
    clock.advance(minutes=11)
    assert {verify(owner, code).json["detail"] for _ in range(6)} == {WRONG}
    resend(owner)

    assert verify(owner, outbox.code(EMAIL)).status_code == 200


def test_a_new_code_gives_no_new_tries(owner: Person, outbox: Outbox):
    sign_up(owner)
    first = outbox.code(EMAIL)
    for _ in range(3):
        verify(owner, other_than(first))
    resend(owner)
    second = outbox.code(EMAIL)
    for _ in range(2):
        verify(owner, other_than(first, second))

    assert verify(owner, second).status_code == 401


def test_a_new_code_makes_the_one_before_worthless(owner: Person, outbox: Outbox):
    sign_up(owner)
    first = outbox.code(EMAIL)
    resend(owner)
    second = outbox.code(EMAIL)

    assert first == second or verify(owner, first).status_code == 401
    assert verify(owner, second).status_code == 200


def test_a_hundred_right_codes_at_once_give_one_session(no_limits, app, owner, outbox):
    sign_up(owner)
    code = outbox.code(EMAIL)
    everybody = [at(app, OWNER) for _ in range(60)] + [at(app, THIRD) for _ in range(40)]

    answers = at_once(*(lambda p=person: verify(p, code) for person in everybody))

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429}
    with app.app_context():
        assert (User.select().count(), Session.select().count()) == (1, 1)


def test_two_right_codes_of_two_sign_ups_at_once_give_one_account(app, owner, outbox):
    for round_ in range(5):
        email = f"ada{round_}@example.org"
        sign_up(owner, f"first{round_}", email)
        sign_up(at(app, THIRD), f"second{round_}", email)
        mailed = codes(outbox, email)

        answers = at_once(
            lambda mailed=mailed, email=email, n=round_: verify(owner, mailed[f"first{n}"], email),
            lambda mailed=mailed, email=email, n=round_: verify(
                at(app, THIRD), mailed[f"second{n}"], email
            ),
        )

        assert sorted(answer.status_code for answer in answers) == [200, 401]


def test_a_code_is_good_for_ten_minutes(no_limits, app, owner, outbox: Outbox, clock):
    sign_up(owner)
    code = outbox.code(EMAIL)
    clock.advance(minutes=10)
    assert verify(owner, code).status_code == 401

    resend(owner)
    code = outbox.code(EMAIL)
    clock.advance(minutes=9, seconds=59)

    assert verify(owner, code).status_code == 200


def test_a_sign_up_waits_for_a_day(no_limits, app, owner, outbox: Outbox, clock):
    sign_up(owner)
    assert len(outbox.mails()) == 1
    clock.advance(hours=23, minutes=59)
    resend(owner)
    assert len(outbox.mails()) == 2
    clock.advance(minutes=2)
    resend(owner)

    assert len(outbox.mails()) == 2
    assert verify(owner, outbox.code(EMAIL)).status_code == 401


def test_a_code_is_good_once(owner: Person, outbox: Outbox):
    sign_up(owner)
    code = outbox.code(EMAIL)

    assert [verify(owner, code).status_code for _ in range(2)] == [200, 401]


def test_neither_code_nor_password_is_in_the_database(app, owner, outbox: Outbox):
    sign_up(owner, password="a password to look for")
    code = outbox.code(EMAIL)

    with app.app_context():
        rows = [row for model in MODELS for row in model.select().tuples()]

    values = [str(value) for row in rows for value in row]
    assert EMAIL in values
    assert code not in values
    assert not [value for value in values if "a password to look for" in value]


def test_neither_code_nor_password_nor_token_is_in_the_log(owner, outbox, log: Log, caplog):
    caplog.set_level(logging.DEBUG)
    sign_up(owner, password="a password to look for")
    code = outbox.code(EMAIL)
    verify(owner, other_than(code))
    owner.tokens = verify(owner, code).json
    owner.get("/users/me")
    owner.tokens = owner.refresh().json
    sign_in(owner, password="a password to look for")

    # What this process would log if it were told to log all, too.
    records = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    lines = "\n".join([log.text, *records])
    assert "user_created" in lines
    for secret in (code, "a password to look for", *owner.tokens.values()):
        assert str(secret) not in lines or secret in (3600, "bearer", owner.tokens["user"])
    for token in ("access_token", "refresh_token"):
        assert owner.tokens[token].rpartition(".")[2] not in lines


# When the name was taken meanwhile


@pytest.mark.parametrize("case", [str, str.upper])
def test_a_name_taken_meanwhile_ends_the_sign_up(app, owner, member, outbox, case):
    sign_up(owner, "ada")
    sign_up(at(app, THIRD), "other_name")
    mailed = codes(outbox)
    with app.app_context():
        User.create(username=case("ada"), email="first@example.org", password_hash="x")

    answer = verify(owner, mailed["ada"])

    assert answer.status_code == 422
    assert answer.json["detail"] == "用户名已被他人占用，请换一个用户名重新注册"
    assert verify(owner, mailed["ada"]).status_code == 401
    assert sign_in(owner).status_code == 401
    assert verify(at(app, THIRD), mailed["other_name"]).status_code == 200


def test_two_sign_ups_for_one_name_at_once_give_it_to_one(app, outbox: Outbox):
    people = [at(app, f"192.0.2.{host}") for host in range(1, 6)]
    emails = [f"ada{number}@example.org" for number in range(5)]
    for person, email in zip(people, emails, strict=True):
        sign_up(person, "ada", email)
    mailed = [outbox.code(email) for email in emails]

    answers = at_once(
        *(
            lambda p=person, c=code, e=email: verify(p, c, e)
            for person, code, email in zip(people, mailed, emails, strict=True)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422, 422]


# Mailing the codes again


def test_a_resend_mails_the_code_of_every_sign_up_with_its_name(app, owner, outbox):
    sign_up(owner, "ada")
    sign_up(at(app, STRANGER), "eve")
    answer = resend(at(app, THIRD))

    assert (answer.status_code, answer.data) == (204, b"")
    text = outbox.texts(EMAIL)[-1]
    assert len(outbox.mails()) == 3
    assert text.index("ada") != text.index("eve")
    assert len(re.findall(r"\b\d{6}\b", text)) == 2
    assert verify(owner, outbox.code(EMAIL, "eve")).status_code == 401
    assert verify(owner, outbox.code(EMAIL, "ada")).status_code == 200


def test_codes_are_mailed_again_once_a_minute_for_an_address(app, owner, alice: Person):
    sign_up(owner)
    for email in (EMAIL, "alice@example.org", "nobody@example.org"):
        assert resend(owner, email).status_code == 204
        for person in (owner, at(app, THIRD)):
            answer = resend(person, email.upper())
            assert answer.status_code == 429
            assert re.fullmatch("请求过于频繁，请 (5.|1) (秒|分钟)后再试", answer.json["detail"])
            assert 50 <= int(answer.headers["Retry-After"]) <= 60


def test_without_limits_there_is_no_waiting(no_limits, owner: Person, outbox: Outbox):
    assert {sign_up(owner).status_code for _ in range(8)} == {202}
    assert {resend(owner).status_code for _ in range(3)} == {204}


@pytest.mark.parametrize(
    "body", [{}, {"email": None}, {"email": "x"}, {"email": EMAIL, "username": "ada"}, [], None]
)
def test_a_resend_that_makes_no_sense_is_refused(owner: Person, body):
    assert owner.post("/auth/verifications/resend", body).status_code == 422


# What the mail says


def test_mails_with_codes_speak_the_language_of_who_asked(owner, outbox: Outbox):
    owner.language = "en-GB,en;q=0.9,zh;q=0.5"
    sign_up(owner)
    resend(owner)
    first, again = outbox.mails()

    assert "Username: ada" in first.get_body(("plain",)).get_content()
    assert "Username: ada" in again.get_body(("plain",)).get_content()
    for mail in (first, again):
        assert not re.search("[一-鿿]", mail.as_string())


def test_the_mail_has_no_link_without_a_redirect(owner: Person, outbox: Outbox):
    owner.post(
        "/auth/verifications",
        {"username": "ada", "email": EMAIL, "password": PASSWORD},
        headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
    )
    resend(owner)

    mails = outbox.mails()
    assert len(mails) == 2
    for mail in mails:
        assert "evil.example" not in mail.as_string()
        assert "http" not in mail.get_body(("plain",)).get_content()


@pytest.mark.parametrize(
    ("redirect_to", "link"),
    [
        ("https://app.example.org", "https://app.example.org?"),
        ("https://app.example.org/verify", "https://app.example.org/verify?"),
        ("https://APP.example.org:443/verify", "https://APP.example.org:443/verify?"),
        ("http://localhost:3000/?a=1&b=%20%ff&c", "http://localhost:3000/?a=1&b=%20%ff&c&"),
        ("https://app.example.org/?e=x", "https://app.example.org/?e=x&"),
    ],
)
def test_the_link_leads_where_redirect_to_says(redirects, owner, outbox, redirect_to, link):
    email = "ada+1@example.org"
    answer = sign_up(owner, email=email, redirect_to=redirect_to + "#/verify?x=1")
    text = outbox.texts(email)[0]

    assert answer.status_code == 202
    found = re.search(r"https?://\S+", text).group()
    code = outbox.code(email)
    assert found == f"{link}email=ada%2B1%40example.org&token={code}#/verify?x=1"
    html = outbox.mails()[0].get_body(("html",)).get_content()
    assert found.replace("&", "&amp;") in html

    resend(owner, email)
    again = outbox.texts(email)[-1]
    assert f"token={outbox.code(email)}#" in again


ELSEWHERE = [
    "https://elsewhere.example/",
    "http://app.example.org/",
    "https://app.example.org:8443/",
    "https://app.example.org:80/",
    "http://localhost/",
    "http://localhost:3001/",
    "https://app.example.org.evil.com/",
    "https://app.example.orgevil.com/",
    "https://evil.com/app.example.org",
    "https://evil.com?https://app.example.org",
    "https://evil.com#https://app.example.org",
    "https://app.example.org@evil.com/",
    "https://app.example.org:443@evil.com/",
    "https://user@app.example.org/",
    "https://app.example.org\\@evil.com/",
    "https://evil.com\\@app.example.org/",
    "https://evil.com\\.app.example.org/",
    "https://app.example.org\t/",
    "https://app.example.org/\r\nBcc: x@evil.com",
    "https:app.example.org",
    "https:/app.example.org",
    "https:///app.example.org",
    "//app.example.org/",
    "/verify",
    "https://app.example.org./",
    "https://аpp.example.org/",
    "https://sub.app.example.org/",
    "data:text/html,x",
    "",
    # Somebody's text in our mails
    "https://app.example.org/\u00a0Your\u00a0account",
    "https://app.example.org/\u2028",
    "https://app.example.org/\u202egro.live",
    "https://app.example.org/密码",
    # Read before what the mail adds
    "https://app.example.org/?email=eve@example.org",
    "https://app.example.org/?TOKEN=123456",
    "https://app.example.org/?a=1;token=123456",
    "https://app.example.org/?%74oken=123456",
    "https://app.example.org/#/verify?restoration=x",
]


def test_a_redirect_elsewhere_is_refused(redirects, owner: Person, outbox: Outbox):
    for redirect_to in ELSEWHERE:
        answer = sign_up(owner, redirect_to=redirect_to)

        assert answer.status_code == 422, redirect_to
        assert [error["pointer"] for error in answer.json["errors"]] == ["#/redirect_to"]
    assert outbox.mails() == []


def test_opening_a_link_consumes_nothing(owner: Person, outbox: Outbox):
    sign_up(owner)
    code = outbox.code(EMAIL)
    query = f"?email={EMAIL}&token={code}"
    for method in ("GET", "HEAD"):
        for path in ("", "/verify", "/resend"):
            answer = owner.request(method, f"/auth/verifications{path}{query}")
            assert answer.status_code == 405
            assert "POST" in answer.headers["Allow"]

    assert verify(owner, code).status_code == 200


def test_a_code_survives_a_new_key(serve, settings: dict, outbox: Outbox):
    old = serve({**settings, "SECRET_KEY": "an-old-key" * 4})
    sign_up(at(old, OWNER))
    code = outbox.code(EMAIL)
    keys = {"SECRET_KEY": "a-newer-key" * 4, "SECRET_KEY_FALLBACKS": "an-old-key" * 4}

    assert verify(at(serve({**settings, **keys}), OWNER), code).status_code == 200


# What stood in the way of these once


def test_nor_once_the_codes_have_run_out(app, outbox: Outbox, clock):
    ends = []
    for email, verifies in (("first@example.org", True), ("second@example.org", False)):
        owner, stranger = at(app, OWNER), at(app, STRANGER)
        sign_up(stranger, f"eve_{verifies}", email)
        sign_up(owner, f"ada_{verifies}", email)
        if verifies:
            assert verify(owner, outbox.code(email), email).status_code == 200
        clock.advance(minutes=11)
        assert resend(stranger, email).status_code == 204
        outbox.mails()
        ends.append([details_of(verify(stranger, "000000", email)) for _ in range(6)])

    assert ends[0] == ends[1] == [WRONG] * 4 + [USED_UP] * 2


def test_who_waits_beside_the_owner_cannot_tell_that_they_have_verified(app, outbox):
    """Their own sign-up waits on as before, and so does the pool of tries it opens to them."""
    ends = []
    for email, verifies in (("first@example.org", True), ("second@example.org", False)):
        owner, stranger, elsewhere = at(app, OWNER), at(app, STRANGER), at(app, THIRD)
        sign_up(stranger, f"eve_{verifies}", email)
        sign_up(owner, f"ada_{verifies}", email)
        if verifies:
            code = codes(outbox, email)[f"ada_{verifies}"]
            assert verify(owner, code, email).status_code == 200
        wrong = other_than(*codes(outbox, email).values())
        while verify(elsewhere, wrong, email).status_code != 429:
            pass
        tries = [verify(stranger, wrong, email).status_code for _ in range(7)]
        ends.append((tries, [resend(stranger, email).status_code for _ in range(2)]))

    assert ends[0] == ends[1]
    assert ends[0][0][0] == 401


@pytest.mark.in_process("writes in the middle of a request")
def test_a_code_from_elsewhere_works_while_others_write(app, outbox):
    """The sign-ups it is compared with are read to the end before the account is written."""
    sign_up(at(app, OWNER), "ada")
    sign_up(at(app, STRANGER), "eve")
    mailed = codes(outbox)
    matches = app.extensions["tokens"].matches_code

    def write_first(*arguments):
        with ThreadPoolExecutor(1) as other:
            other.submit(sign_up, at(app, "192.0.2.99"), "mallory").result()
        return matches(*arguments)

    app.extensions["tokens"].matches_code = write_first
    newest = max(mailed, key=lambda name: name == "eve")
    assert verify(at(app, THIRD), mailed[newest]).status_code == 200


@pytest.mark.parametrize(
    ("limit", "ask"),
    [
        (100, lambda person, n: sign_up(person, f"user{n}", f"u{n}@example.org")),
        (300, lambda person, n: sign_up(person, "alice", f"u{n}@example.org")),
        (100, lambda person, n: resend(person, f"u{n}@example.org")),
        (100, lambda person, n: verify(person, "000000", f"u{n}@example.org")),
        (300, lambda person, n: sign_in(person, f"u{n}@example.org")),
    ],
    ids=["sign-up", "taken name", "resend", "code", "sign-in"],
)
def test_one_network_may_not_ask_at_many_addresses_for_ever(app, alice, limit, ask):
    person = at(app, "192.0.2.77")

    statuses = [ask(person, n).status_code for n in range(limit + 1)]

    assert 429 not in statuses[:-1]
    assert statuses[-1] == 429


def test_what_has_run_out_is_deleted(app, owner: Person, clock):
    sign_up(owner, "ada")
    verify(at(app, THIRD), "000000")
    clock.advance(hours=25)

    sign_up(owner, "eve", "eve@example.org")
    clock.advance(seconds=1)

    with app.app_context():
        purge.purge()
        assert [row.username for row in SignUp.select()] == ["eve"]
        assert Allowance.select().count() == 0

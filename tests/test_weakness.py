import subprocess
import sys

import pytest

from runtime.config import ROOT
from runtime.weakness import is_common, is_like


@pytest.mark.parametrize("password", ["123456", "password1", "PASSWORD1", "qwertyuiop", "iloveyou"])
def test_the_most_common_passwords_are_known_in_whatever_case(password: str):
    assert is_common(password)


@pytest.mark.parametrize(
    "password", ["correct horse", "password1 ", "123456\npassword", "密码密码密码", "", "\n"]
)
def test_others_are_not(password: str):
    assert not is_common(password)


@pytest.mark.parametrize(
    "password", ["ada_l", "ADA_L", "adal", "Ada.L!", "1adal1815", "…ada l…", "ada_l ada_l"[:5]]
)
def test_a_name_with_digits_and_signs_around_it_is_still_that_name(password: str):
    assert is_like(password, "ada_l")


@pytest.mark.parametrize("password", ["ada lovelace", "adalada", "lada", "1815", "", "correct ada"])
def test_a_password_that_has_more_in_it_than_the_name_is_another(password: str):
    assert not is_like(password, "ada_l", "")


@pytest.mark.parametrize(("password", "name"), [("19a87654321", "a12"), ("8x77y1", "x1y")])
def test_a_letter_that_both_have_makes_no_name(password: str, name: str):
    assert not is_like(password, name)


@pytest.mark.parametrize("name", ["12345678", "é1", "josé", "x"])
def test_a_name_is_like_itself(name: str):
    assert is_like(name, name)
    assert is_like("Jose\u0301 1", "jos\u00e9")


def test_the_list_costs_no_start_anything():
    """It is read at the first password that is looked at, and no other code of its package."""
    code = (
        "import sys, app; app.create_app; from runtime import weakness;"
        "assert not weakness._common.cache_info().currsize;"
        "weakness.is_common('x'); assert 'zxcvbn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

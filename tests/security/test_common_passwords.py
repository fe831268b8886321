import subprocess
import sys

import pytest

from runtime.config.settings import ROOT
from runtime.security.common_passwords import is_common, is_like


@pytest.mark.parametrize("password", ["123456", "password1", "PASSWORD1", "qwertyuiop", "iloveyou"])
def test_the_most_common_passwords_are_known_in_whatever_case(password: str):
    assert is_common(password)


CHINESE = """
    woaini1314 iloveyou520 5201314 1314520 a123456 qq123456 woaini520 520woaini wang123456 a5201314
    woaini@520 Woaini1314. Aa123456. wangwei1990 zhangwei123 li123456 7758521 3344520 woaiwojia
    caonima123 wodemima123 laopo520 baobei1314 lx5201314 110110110 12344321 qwe123 123456abc
    147258369a nihao123 520520520 13141314 woaini5201314 iloveyou1314 q123456789 1234qwer zz112233
"""


@pytest.mark.parametrize("password", CHINESE.split())
def test_what_chinese_users_choose_first_is_known(password: str):
    assert is_common(password)


@pytest.mark.parametrize(
    "password",
    [
        *(
            "woaini kafei",
            "zebra47kite",
            "river2041stone",
            "x1y2z3w4",
            "739105",
            "wang84620",
            "8271",
        ),
        *("correct horse battery", "chenjiaxin", "3.14159265", "xk-39-pq", "kd93jf", "he ate 3"),
        *(
            "woaini...1314",
            "520x87kk",
            "19a87654321",
            "limin84620q",
            "我爱你1314",
            "wo" * 64,
            "52" * 63 + "01",
        ),
    ],
)
def test_a_password_with_more_in_it_than_such_words_and_numbers_is_another(password: str):
    assert not is_common(password)


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
        "import sys, app; app.create_app; from runtime.security import common_passwords as common;"
        "lists = (common._leaked, common._words, common._numbers);"
        "assert not any(each.cache_info().currsize for each in lists);"
        "common.is_common('x'); assert 'zxcvbn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

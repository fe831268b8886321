"""Passwords that are guessed first: two lists of common ones, and their owner's own name.

The first list is zxcvbn's, 30,000 passwords of real leaks, the most common first. It has next to
none of those that Chinese users choose. These are the second, as rules: they are put together from
few parts, which are words in pinyin, initials, the first keys of a keyboard, and numbers that mean
something (520 sounds like "I love you", 1314 like "for ever") or need no thought.
"""

import re
from functools import cache
from importlib.metadata import distribution
from runpy import run_path

from runtime.security.passwords import normalized

# Asked for at the start, so that a package which is missing stops it.
_LISTS = distribution("zxcvbn").locate_file("zxcvbn/frequency_lists.py")

# Words that are said, or typed first, and the names that most people have.
_WORDS = """
    woaini woaiwo niaiwo aini aiwo woai wo ai ni ta xiangni xiangnian woxiangni wohenaini
    yongyuan yiqi yibeizi yishengyishi baobei baobao qinaide laopo laogong xingfu kuaile pingan
    jiankang facai nihao nishishui woshishui woshini woshiwo wojiushiwo buzhidao wobuzhidao
    bugaosuni mima wodemima wangjile woaimama woaibaba mama baba jiejie gege didi meimei
    woaijia woaiwojia woaizhongguo woaixuexi nishizhu zhangsan lisi wangwu woailaopo
    woailaogong woaiqian zhongguo beijing shanghai guangzhou shenzhen tianshi tiankong xiaoxiao
    xiaobai xiaohei xiaoyu xiaomei xiaoming xiaolong xiaoqiang tiantian dandan lili feifei
    longlong yangyang mingming haohao tingting tangtang doudou niuniu caonima wocao shabi
    hundan zhang wang liu chen yang zhao huang zhou wu xu sun hu zhu gao lin he guo luo li ma
    zhangwei wangwei wangfang liwei lina zhangmin lijing wangjing liuwei zhangli wangjun liyang
    wanglei zhangjing lijun zhanglei wangqiang liqiang zhangyong wangyong zhangjie liming
    wangli zhangtao liuyang zhangyang lei wei jun qiang yong jie tao ming juan fang min jing
    taobao alipay weixin tencent baidu qqmima admin root user test guest password passwd
    iloveyou iloveu ilove loveyou love loveu lovely you hello ilovechina qwer qwert qwerty
    qwertyuiop asdf asdfg asdfgh asdfghjkl zxcv zxcvb zxcvbn zxcvbnm qaz wsx edc qazwsx
    qazwsxedc abcd abcde abcdef abcdefg qweasd qweasdzxc asdasd qweqwe
"""
_MEANT = """
    520 521 1314 5201314 1314520 1314521 3344 53770 7758 7758258 7758521 584 530 5257 59420 258
    168 1688 518 5188 666 888 999 110 119 120 147 258369 147258 147258369 159 357 159357 789456
    789456123 123654 123654789 963852741 741852963 100200 0 00 01 007 12 11 22 33 44 55 66 77
    88 99 123 1234 12345 123456 321 4321 654321 111 000 222
"""
_YEAR = "(?:19[4-9][0-9]|20[0-4][0-9])"
_KEYS_IN_ORDER = ("01234567890", "09876543210")
# Runs of letters and of digits in a password; with more it is no longer among the first tried.
_MOST_RUNS = 3
_RUN = re.compile(r"[a-z]+|[0-9]+")
# A sign or two at an end or in between is what a rule asks for that demands one.
_SIGNS = re.compile(r"[!#$%&*+,.?@_~-]{0,2}")
# Letters that are too few to be a word, and the digits beside them that make them common.
_INITIALS = 3
_MANY_DIGITS = 3
# `19a87654321` is not the name `a12`, though without their digits both are `a`.
TELLING_CHARS = 3


def is_common(password: str) -> bool:
    """Whether a password is on one of the lists, in any case."""
    word = normalized(password).casefold()
    if "\n" in word:
        return False
    return f"\n{word}\n" in _leaked() or _is_common_in_chinese(word)


def is_like(password: str, *names: str) -> bool:
    """Whether a password is one of these names and nothing more.

    Case, all that is neither letter nor digit, and digits at either end make no difference: for
    `ada_l` those are `ADA_L`, `adal`, `Ada.L!` and `1adal1815`. What is left without the digits
    counts if it has TELLING_CHARS.
    """
    likenesses = {likeness for name in names for likeness in _likenesses(name)}
    return not likenesses.isdisjoint(_likenesses(password))


def _likenesses(text: str) -> set[str]:
    folded = normalized(text).casefold()
    bare = "".join(character for character in folded if character.isalnum())
    stripped = re.sub(r"^\d+|\d+$", "", bare)
    return {folded, bare, stripped if len(stripped) >= TELLING_CHARS else ""} - {""}


def _is_common_in_chinese(word: str) -> bool:
    """Whether it is made of common words and numbers alone, and at most two signs.

    `woaini1314`, `5201314`, `qq123456`, `wang@1990`.
    """
    runs = _RUN.findall(word)
    if not 1 <= len(runs) <= _MOST_RUNS or not _SIGNS.fullmatch(_RUN.sub("", word)):
        return False
    has_many_digits = any(len(run) >= _MANY_DIGITS for run in runs if run.isdigit())
    return all(_is_common_run(run, has_many_digits) for run in runs)


def _is_common_run(run: str, has_many_digits: bool) -> bool:
    if run.isdigit():
        return _is_plain(run) or bool(_numbers().fullmatch(run))
    if len(run) <= _INITIALS and has_many_digits:
        return True
    return len(set(run)) == 1 or bool(_words().fullmatch(run))


def _is_plain(digits: str) -> bool:
    """Whether no thought was needed: 123456, 888888, 123123, 112233, 12344321, 987654321."""
    half = len(digits) // 2
    return (
        any(digits in keys for keys in _KEYS_IN_ORDER)
        or bool(re.fullmatch(r"(\d{1,4})\1+\d?", digits))
        or bool(re.fullmatch(r"(?:(\d)\1)+", digits) and _is_plain(digits[::2]))
        or (half > 1 and digits == digits[::-1] and _is_plain(digits[:half]))
    )


@cache
def _words() -> re.Pattern:
    return re.compile(f"(?:{'|'.join(_WORDS.split())}){{1,4}}")


@cache
def _numbers() -> re.Pattern:
    """Up to three numbers in a row that mean something, a year among them."""
    return re.compile(f"(?:{'|'.join(_MEANT.split())}|{_YEAR}){{1,3}}")


@cache
def _leaked() -> str:
    """zxcvbn's list as one text, a line each: a set of its words would take ten times the memory.

    It is read from that package's data file alone, when it is first needed: importing the package
    would make tables of all its lists, which take 10 MB.
    """
    lists = run_path(str(_LISTS))["FREQUENCY_LISTS"]
    return "\n".join(["", *lists["passwords"], ""])

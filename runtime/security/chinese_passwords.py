"""The common passwords of Chinese users, as rules: the list of `weakness` has next to none of them.

They are put together from few parts: words in pinyin, initials, the first keys of a keyboard, and
numbers that mean something (520 sounds like "I love you", 1314 like "for ever") or need no thought.
"""

import re
from functools import cache

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
_KEYS_IN_ORDER = ("01234567890", "09876543210")
_YEAR = "(?:19[4-9][0-9]|20[0-4][0-9])"
# Runs of letters and of digits in a password; with more it is no longer among the first tried.
_MOST_RUNS = 3
_RUN = re.compile(r"[a-z]+|[0-9]+")
# A sign or two at an end or in between is what a rule asks for that demands one.
_SIGNS = re.compile(r"[!#$%&*+,.?@_~-]{0,2}")
# Letters that are too few to be a word, and the digits beside them that make them common.
_INITIALS = 3
_MANY_DIGITS = 3


def is_common(word: str) -> bool:
    """Whether a password, in lower case, is made of common words and numbers alone.

    `woaini1314`, `5201314`, `qq123456`, `Wang@1990`; two signs in it make no difference.
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

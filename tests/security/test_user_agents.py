"""What a User-Agent is called."""

import re

import pytest

from runtime.security.user_agents import name_of

CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36"
WINDOWS = "Windows NT 10.0; Win64; x64"
ANDROID = "Linux; Android 14; Pixel 8"
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {WEBKIT}"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT}"

NAMES = [
    (CHROME.format(WINDOWS, "142.0.0.0"), "Chrome · Windows"),
    (CHROME.format(ANDROID, "141.0.0.0 Mobile"), "Chrome · Android"),
    (CHROME.format(WINDOWS, "142.0.0.0") + " Edg/142.0.0.0", "Edge · Windows"),
    (CHROME.format(WINDOWS, "128.0.0.0") + " OPR/114.0.0.0", "Opera · Windows"),
    (CHROME.format(ANDROID, "130.0.0.0") + " MicroMessenger/8.0.50", "WeChat · Android"),
    (CHROME.format("X11; CrOS x86_64 14541.0.0", "141.0.0.0"), "Chrome · ChromeOS"),
    (f"{IPHONE} Version/18.1 Mobile/15E148 Safari/604.1", "Safari · iPhone"),
    (f"{IPHONE} CriOS/131.0 Mobile/15E148 Safari/604.1", "Chrome · iPhone"),
    (f"{MAC} Version/18.1 Safari/605.1.15", "Safari · macOS"),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0", "Firefox · Linux"),
    ("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8)", "Dalvik · Android"),
    ("curl/8.5.0", "curl"),
    ("python-requests/2.32.3", "python-requests"),
    ("Notes/1.2 CFNetwork/1490 Darwin/23.6.0", "Notes"),
    ("okhttp", "okhttp"),
    ("com.example.Notes/1.2 CFNetwork/1490 Darwin/23.6.0", "com-example-Notes"),
    ("My%20Notes/7 CFNetwork/1490 Darwin/23.6.0", "My-Notes"),
    ("node.js/22.1.0", "node-js"),
    ("Notes2.0.1", "Notes"),
    ("curl-8.5.0/1", "curl"),
    ("7zip/1.0", "7zip"),
    ("Notes+Sync/1.0 (Android)", "Notes-Sync · Android"),
    ("1.0/2.0", None),
    ("Mozilla/5.0", None),
    ("", None),
]


@pytest.mark.parametrize(("user_agent", "name"), NAMES)
def test_a_device_has_a_readable_name(user_agent: str, name: str | None):
    assert name_of(user_agent) == name


def test_an_update_makes_no_other_device():
    names = {name_of(CHROME.format(WINDOWS, f"{version}.0.0.0")) for version in range(100, 150)}

    assert names == {"Chrome · Windows"}


NASTY = [
    "Visit evil.example now",
    "evil.example/1.0",
    "http://evil.example/",
    "https://evil.example/ (Windows)",
    "您的账号已被盗/1.0",
    "<b>Chrome</b>/1.0",
    "x\r\nTo: everybody@example.org",
    "  curl/8.5.0",
]


@pytest.mark.parametrize("user_agent", NASTY)
def test_what_a_caller_wrote_is_no_part_of_the_name(user_agent: str):
    name = name_of(user_agent)

    assert name in (None, "Chrome", "Windows", "Visit", "evil-example")


@pytest.mark.parametrize("user_agent", [*NASTY, "a.b" * 100, "x%0d%0aTo:/1", "a%2Eexample/1"])
def test_a_name_is_no_link_and_no_second_line(user_agent: str):
    assert re.fullmatch(r"[A-Za-z0-9_ ·-]{0,64}", name_of(user_agent) or "")


def test_a_name_fits_its_column():
    assert len(name_of("a" * 300 + "/1.0 (Android)")) <= 64
    assert len(name_of("a" * 40 + "/1.0 (Harmony)")) <= 64
    assert name_of("curl/8.5.0 " + "x" * 100_000) == "curl"

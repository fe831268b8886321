"""Origins as browsers send them."""

import pytest

from runtime.config.load import load
from runtime.config.origins import host_to_ascii, normalized
from runtime.config.settings import ConfigError


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://app.example.org", "https://app.example.org"),
        ("HTTPS://App.Example.org:443/", "https://app.example.org"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://localhost:080", "http://localhost"),
        ("http://example.org:443", "http://example.org:443"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("http://192.0.2.1", "http://192.0.2.1"),
        ("https://my_app.example.org", "https://my_app.example.org"),
        ("https://example.org.", "https://example.org."),
        ("https://-a.example.org", "https://-a.example.org"),
        # What Chromium 156 makes of these.
        ("https://München.example", "https://xn--mnchen-3ya.example"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ("https://例え.テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("https://例子。中国", "https://xn--fsqu00a.xn--fiqs8s"),
        ("https://faß.de", "https://xn--fa-hia.de"),
        ("https://рф.example:8443", "https://xn--p1ai.example:8443"),
        ("https://💩.la", "https://xn--ls8h.la"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://", "app://"),
        ("app://-", "app://-"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("Capacitor://localhost:8080", "capacitor://localhost:8080"),
    ],
)
def test_an_origin_is_taken_as_browsers_send_it(written: str, sent: str):
    assert load({"CORS_ORIGINS": written})["CORS_ORIGINS"] == [sent]
    assert normalized(sent) == sent


@pytest.mark.parametrize(
    "written",
    [
        "https://*.example.org",
        "*.example.org",
        "https://*",
        "app.example.org",
        "localhost:5173",
        "https:app.example.org",
        "https://",
        "https:///",
        "https://app.example.org/path",
        "https://app.example.org?x",
        "https://app.example.org#x",
        "https://user@app.example.org",
        "https://app.example.org:port",
        "https://app.example.org:0",
        "https://app.example.org:70000",
        "https://a..b",
        "https://a b.example.org",
        "https://a%20b.example.org",
        "https://exa<mple.org",
        "https://" + "a" * 64 + ".org",
        "https://1.2.3",
        "https://1.2.3.256",
        "https://0x7f.1",
        "https://[::1",
        "https://[::g]",
        "https://[::1%25eth0]",
        "https://‮example.org",
        "null",
        "file:",
        "javascript://x",
        "wss://app.example.org",
        "1app://x",
        "app://a/b",
        "app://a b",
        "app://lo<calhost",
        "https://good.example.org,https://*.example.org",
    ],
)
def test_what_no_browser_sends_stops_the_start_with_one_line(written: str):
    with pytest.raises(ConfigError, match=r"\ACORS_ORIGINS [^\n]+\Z"):
        load({"CORS_ORIGINS": written})


def test_several_origins_may_be_named_and_any():
    named = load({"CORS_ORIGINS": "https://a.example.org, tauri://localhost"})

    assert named["CORS_ORIGINS"] == ["https://a.example.org", "tauri://localhost"]
    assert load({"CORS_ORIGINS": " * "})["CORS_ORIGINS"] == ["*"]


def test_a_host_may_be_as_long_as_names_are():
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])

    assert host_to_ascii(longest) == longest
    with pytest.raises(ValueError, match="too long"):
        host_to_ascii(longest + ".ee")

"""Names of variables that are almost a setting's."""

import pytest

from runtime.config.misspelt import misspelt
from runtime.config.settings import SETTINGS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OPENAI_APIKEY", "OPENAI_API_KEY"),
        ("OPEN_AI_API_KEY", "OPENAI_API_KEY"),
        ("OPENAI_KEY", "OPENAI_API_KEY"),
        ("openai_api_key", "OPENAI_API_KEY"),
        ("OPENAI_API_BASE", "OPENAI_BASE_URL"),
        ("SMTP_URI", "SMTP_URL"),
        ("SMPT_URL", "SMTP_URL"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("SECRET_KEY_FALLBACK", "SECRET_KEY_FALLBACKS"),
        ("RATELIMITS", "RATE_LIMITS"),
    ],
)
def test_a_name_that_is_almost_a_settings_is_told(name: str, meant: str):
    assert list(misspelt({name: "x"})) == [(name, meant)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_no_misspelt_one(setting: str):
    assert list(misspelt({setting: "x"})) == []


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "SHELL", "TERM", "EDITOR", "PYTHONPATH", "DYNO", "HTTP_PROXY"),
        *("REDIS_TLS_URL", "OPENAI_ORG_ID", "SMTP_HOST", "AWS_SECRET_ACCESS_KEY"),
        "DATABASE_POOL_SIZE",
    ],
)
def test_what_others_use_is_left_alone(name: str):
    assert list(misspelt({name: "x"})) == []


def test_nothing_is_told_when_the_setting_is_there_too():
    assert list(misspelt({"SMTP_URI": "x", "SMTP_URL": "smtp://localhost"})) == []

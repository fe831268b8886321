"""Settings: what is taken, what stops the start."""

import os
import subprocess
import sys
import threading

import pytest

from app import create_app
from runtime.config.load import load
from runtime.config.secret_keys import keep_secret_keys
from runtime.config.settings import ROOT, ConfigError


def test_with_nothing_set_everything_has_its_default():
    settings = load({})

    assert settings["DATABASE_URL"] is None
    assert (settings["PORT"], settings["WEB_CONCURRENCY"], settings["WEB_THREADS"]) == (8000, 1, 64)


def test_an_empty_variable_counts_as_unset():
    assert load({"PORT": "", "DATABASE_URL": " "}) == load({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "٣"),
        ("WEB_CONCURRENCY", "-1"),
        ("WEB_THREADS", "1.5"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "sqlite://x"),
        ("DATABASE_URL", "postgres://localhost"),
        ("DATABASE_URL", "postgres://localhost:port/x"),
        ("DATABASE_URL", "postgres://u:pa%zzS3cret@localhost/x"),
        ("DATABASE_URL", "postgres://u:S3cret@localhost/x?sslmod=require"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///runtime.sqlite3?mode=ro"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://u:S3cret@localhost/cache"),
        ("REDIS_URL", "redis://u:S3cret@localhost?socket_timeout=soon"),
        ("REDIS_URL", "redis://u:S3cret@localhost?no_such_option=1"),
        ("REDIS_URL", "rediss://localhost?ssl_cert_reqs=perhaps"),
        ("REDIS_URL", "unix://"),
        ("SECRET_KEY", "\udcff" * 40),
        ("AGENT_INSTRUCTIONS", "not UTF-8: \udcff"),
        ("WEB_THREADS", "9" * 5000),
        ("SMTP_URL", "http://localhost"),
        ("SMTP_URL", "smtp://localhost:99999"),
        ("SMTP_URL", "smtp://localhost?tls=1"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "a@example.org\r\nBcc: b@example.org"),
        ("APP_NAME", "x" * 61),
        ("APP_NAME", "Ink\nBcc: eve@example.org"),
        ("APP_NAME", "=?utf-8?q?Ink?="),
        ("APP_NAME", "Ink\u202e"),
        ("APP_URL", "app.example.org"),
        ("APP_URL", "javascript://app.example.org/%0aalert(1)"),
        ("APP_URL", "https:///path"),
        ("APP_URL", "https://app.example.org:port/"),
        ("APP_URL", "https://app.example.org@evil.example/"),
        ("APP_URL", "https://app.example.org/我"),
        ("APP_URL", 'https://app.example.org/"><b>'),
        ("APP_URL", "https://app.example.org/?token=1"),
        ("APP_URL", "https://app.example.org/#restoration=1"),
        ("APP_URL", "https://app.example.org/?email"),
        ("OPENAI_BASE_URL", "localhost:11434"),
        ("REDIRECT_ALLOWLIST", "app.example.org"),
        ("REDIRECT_ALLOWLIST", "https://app.example.org/a/../b"),
        ("REDIRECT_ALLOWLIST", "https://app.example.org:port"),
        ("CORS_ORIGINS", "https://a.example.org *"),
        ("TRUSTED_PROXIES", "yes"),
        ("RATE_LIMITS", "maybe"),
        ("METRICS_TOKEN", "two words"),
        ("AGENT_MAX_STEPS", "0"),
        ("AGENT_DIALECT", "latin"),
        ("AGENT_OPTIONS", "temperature=1"),
        ("AGENT_OPTIONS", '["temperature"]'),
        ("AGENT_OPTIONS", '{"model": "another"}'),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_in_one_line(name: str, value: str):
    with pytest.raises(ConfigError) as refusal:
        load({"SECRET_KEY": "x" * 32, name: value})

    assert str(refusal.value).startswith(name)
    assert "\n" not in str(refusal.value)
    assert "S3cret" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://u:p@host:5432/name?sslmode=require"),
        ("DATABASE_URL", "postgresql:///name?host=/var/run/postgresql"),
        ("DATABASE_URL", "sqlite:////var/lib/runtime.sqlite3"),
        ("REDIS_URL", "rediss://:secret@host:6380/1"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("REDIS_URL", "rediss://host?ssl_cert_reqs=none"),
        ("SMTP_URL", "smtp://user:p%40ss@host:587?starttls=1"),
        ("SMTP_URL", "smtps://user:pass@host"),
        ("OPENAI_BASE_URL", "http://localhost:11434/v1"),
        ("APP_NAME", "墨 & “Ink”, Inc."),
        ("APP_URL", "https://app.example.org/account?from=mail#top"),
        ("APP_URL", "http://[::1]:3000"),
    ],
)
def test_a_setting_that_makes_sense_is_taken(name: str, value: str):
    others = {"SECRET_KEY": "x" * 32, "MAIL_FROM": "a@example.org", "AGENT_MODEL": "m"}
    assert load({**others, name: value})[name] == value


@pytest.mark.parametrize(
    "smtp_url", ["smtp://mail.example.org", "smtps://u:p@192.0.2.1", "smtp://localhost.example.org"]
)
def test_mail_through_another_machine_demands_a_sender(smtp_url: str):
    with pytest.raises(ConfigError, match=r"^MAIL_FROM must be set"):
        load({"SMTP_URL": smtp_url})

    assert load({"SMTP_URL": smtp_url, "MAIL_FROM": "a@example.org"})["MAIL_FROM"]


@pytest.mark.parametrize(
    "smtp_url", ["", "smtp://localhost", "smtp://127.0.0.1:25", "smtp://[::1]"]
)
def test_mail_that_stays_here_needs_no_sender(smtp_url: str):
    assert load({"SMTP_URL": smtp_url})["MAIL_FROM"] == "noreply@localhost"


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_KEY"])
def test_a_models_server_demands_a_model(name: str):
    with pytest.raises(ConfigError, match=r"^AGENT_MODEL"):
        load({name: "http://localhost:11434/v1"})


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "no_proxy"])
def test_a_proxy_may_be_named_in_small_letters(name: str):
    assert load({name: "http://proxy.test"})[name.upper()] == "http://proxy.test"


def test_a_scheme_may_be_in_capitals():
    assert load({"REDIS_URL": "REDIS://Host/1"})["REDIS_URL"] == "redis://Host/1"


def test_a_database_demands_a_secret_key():
    with pytest.raises(ConfigError, match=r"^SECRET_KEY"):
        load({"DATABASE_URL": "postgres://localhost/x"})


def test_a_secret_key_is_made_once_and_readable_by_its_owner_only(tmp_path):
    [key] = keep_secret_keys(tmp_path / "new")

    assert keep_secret_keys(tmp_path / "new") == [key]
    assert len(key) >= 32
    assert (tmp_path / "new" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_processes_that_start_together_agree_on_one_key(tmp_path):
    start = threading.Barrier(8)
    keys = set()

    def make():
        start.wait()
        keys.update(keep_secret_keys(tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1


SHORT, LONG = "x" * 31, "x" * 32


@pytest.mark.parametrize(
    "settings",
    [
        {"SECRET_KEY": SHORT},
        {"SECRET_KEY": f" {SHORT} "},
        {"SECRET_KEY": LONG, "SECRET_KEY_FALLBACKS": SHORT},
        {"SECRET_KEY": LONG, "SECRET_KEY_FALLBACKS": f"{LONG},{SHORT}, {LONG}"},
    ],
)
def test_a_short_key_stops_the_start(settings: dict):
    with pytest.raises(ConfigError, match=r"^SECRET_KEY\S* must have 32 characters") as failure:
        load(settings)

    assert SHORT not in str(failure.value)


def test_a_key_of_32_characters_is_long_enough():
    settings = load({"SECRET_KEY": LONG, "SECRET_KEY_FALLBACKS": f"{LONG} {LONG}"})

    assert (settings["SECRET_KEY"], settings["SECRET_KEY_FALLBACKS"]) == (LONG, [LONG, LONG])


@pytest.mark.parametrize("name", ["secret_key", "secret_key_fallbacks"])
@pytest.mark.parametrize("kept", [SHORT.encode(), f"{LONG}\n{SHORT}\n".encode(), b"\xff" * 40])
def test_a_short_key_that_is_kept_stops_the_start(tmp_path, name: str, kept: bytes):
    keep_secret_keys(tmp_path)
    (tmp_path / name).write_bytes(kept)

    with pytest.raises(ConfigError, match=r"^SECRET_KEY") as failure:
        create_app({"INSTANCE_PATH": str(tmp_path)})
    assert str(tmp_path / name) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("kept", [b"", b" \n", f"{LONG}\n{LONG}".encode()])
def test_a_file_for_a_key_that_has_not_one_stops_the_start(tmp_path, kept: bytes):
    """An empty one is what a full disk leaves: a new key would sign everybody out."""
    (tmp_path / "secret_key").write_bytes(kept)

    with pytest.raises(ConfigError, match=r"^SECRET_KEY"):
        create_app({"INSTANCE_PATH": str(tmp_path)})
    assert (tmp_path / "secret_key").read_bytes() == kept


@pytest.mark.parametrize("name", ["SECRET_KEY=two words", "SECRET_KEY=a,b"])
def test_a_key_is_one_word_so_that_it_can_be_a_fallback(name: str):
    with pytest.raises(ConfigError, match=r"^SECRET_KEY"):
        load(dict([name.split("=")]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_TOOLS", "no.such.module"),
        ("AGENT_TOOLS", "json"),
        ("OPENAI_API_KEY", "é"),
        ("INSTANCE_PATH", "/dev/null/instance"),
    ],
)
def test_gunicorn_stops_too_and_does_not_try_for_ever(name: str, value: str, tmp_path):
    environ = {**os.environ, "INSTANCE_PATH": str(tmp_path), "PORT": "18765", "AGENT_MODEL": "m"}
    environ[name] = value
    command = [sys.executable, "-m", "gunicorn", "-c", "python:runtime.server", "wsgi:app"]

    started = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )

    assert started.returncode != 0
    assert [line for line in started.stderr.splitlines() if line.startswith(name)]
    assert "Traceback" not in started.stderr


def test_a_service_that_keeps_nothing_on_the_disk_needs_no_folder():
    """Its root is often read-only then."""
    elsewhere = {
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
        "SECRET_KEY": "x" * 40,
        "SMTP_URL": "smtp://localhost",
    }
    folder = {"INSTANCE_PATH": "/proc/instance"}

    assert create_app({**elsewhere, **folder})
    for unset in elsewhere:
        settings = {name: value for name, value in elsewhere.items() if name != unset}
        with pytest.raises(ConfigError):
            create_app({**settings, **folder})


@pytest.mark.parametrize("command", [["-c", "import wsgi"], ["-m", "flask", "routes"]])
def test_the_start_stops_with_one_line(command: list[str], tmp_path):
    environ = {**os.environ, "INSTANCE_PATH": str(tmp_path), "TRUSTED_PROXIES": "many"}

    started = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, text=True
    )

    assert started.returncode != 0
    assert started.stderr == "TRUSTED_PROXIES must be a whole number from 0 to 10\n"

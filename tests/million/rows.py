"""The rows of a service that many accounts use: made by Postgres itself, a minute a million.

For each account there are five sessions, eight security events, a chat, two runs with five events
each, and something of every other table. Instants are in no order, so that an index on them says
nothing of where rows stand; many events have one and the same. One account has far more than all
others.
"""

import os

import psycopg

ACCOUNTS = int(os.environ.get("TEST_ACCOUNTS", "50000"))
# What the account HEAVY has of its own, besides.
SESSIONS, EVENTS, CHATS, RUNS = 1_000, 20_000, 2_000, 1_000
HEAVY = 1

STATEMENTS = (
    # No trigger looks up what a foreign key refers to.
    "SET session_replication_role = replica",
    """INSERT INTO users (id, created_at, username, email, password_hash, is_admin, signed_in_at)
    SELECT md5('user ' || i)::uuid, timezone('utc', now()) - interval '2 years' * random(),
        'user_' || i, 'user_' || i || '@example.org', '{password_hash}', false, now()
    FROM generate_series(1, {accounts}) i""",
    """INSERT INTO sessions
        (id, created_at, user_id, network, generation, is_proven, refreshed_at, ended_at)
    SELECT md5('session ' || i)::uuid, begun,
        md5('user ' || CASE WHEN i <= {sessions} THEN {heavy} ELSE i % {accounts} + 1 END)::uuid,
        '192.0.2.' || i % 250, 1, true,
        least(begun + interval '300 days' * random(), timezone('utc', now())),
        CASE WHEN i % 3 = 0 THEN begun + interval '1 hour' END
    FROM (SELECT i, timezone('utc', now()) - interval '400 days' * random() AS begun
        FROM generate_series(1, 5 * {accounts}) i) AS made""",
    """INSERT INTO security_events (id, created_at, user_id, kind, network)
    SELECT md5('event ' || i)::uuid,
        timezone('utc', now()) - interval '1 day' * CASE WHEN i % 9 = 0 THEN 100
            ELSE 95 * random() END,
        md5('user ' || CASE WHEN i <= {events} THEN {heavy} ELSE i % {accounts} + 1 END)::uuid,
        'signed_in', '192.0.2.1'
    FROM generate_series(1, 8 * {accounts}) i""",
    """INSERT INTO sign_ups (id, created_at, email, username, password_hash, network, code_hash,
        code_expires_at, tries_left)
    SELECT md5('sign-up ' || i)::uuid, at, 'new_' || i || '@example.org', 'new_' || i, '-',
        '192.0.2.1', '-', at, 5
    FROM (SELECT i, timezone('utc', now()) - interval '2 days' * random() AS at
        FROM generate_series(1, {accounts}) i) AS made""",
    """INSERT INTO recoveries (id, created_at, email, network, code_hash, code_expires_at,
        tries_left)
    SELECT md5('recovery ' || i)::uuid, at, 'user_' || i || '@example.org', '192.0.2.1', '-', at, 5
    FROM (SELECT i, timezone('utc', now()) - interval '2 days' * random() AS at
        FROM generate_series(1, {accounts}) i) AS made""",
    """INSERT INTO email_changes (id, created_at, email, network, code_hash, code_expires_at,
        tries_left, user_id, old_email)
    SELECT md5('change ' || i)::uuid, at, 'other_' || i || '@example.org', '192.0.2.1', '-', at, 5,
        md5('user ' || i)::uuid, 'user_' || i || '@example.org'
    FROM (SELECT i, timezone('utc', now()) - interval '14 days' * random() AS at
        FROM generate_series(1, {accounts}) i) AS made""",
    """INSERT INTO allowances (key, spent_until)
    SELECT 'others-tries:' || md5(i::text), extract(epoch FROM now()) + 200000 * (random() - 0.5)
    FROM generate_series(1, {accounts}) i""",
    """INSERT INTO chats (id, created_at, user_id, active_at)
    SELECT md5('chat ' || i)::uuid, at,
        md5('user ' || CASE WHEN i <= {chats} THEN {heavy} ELSE i END)::uuid, at
    FROM (SELECT i, timezone('utc', now()) - interval '1 year' * random() AS at
        FROM generate_series(1, {accounts}) i) AS made""",
    """INSERT INTO runs (id, created_at, chat_id, message, lease_until, finished_at)
    SELECT md5('run ' || i)::uuid, at,
        md5('chat ' || CASE WHEN i <= {runs} THEN 1 ELSE i % {accounts} + 1 END)::uuid,
        'What is ' || i || '?', at, at
    FROM (SELECT i, timezone('utc', now()) - interval '1 year' * random() AS at
        FROM generate_series(1, 2 * {accounts}) i) AS made""",
    """INSERT INTO run_events (run_id, number, data)
    SELECT md5('run ' || i)::uuid, number,
        '{{"run_id":"' || md5('run ' || i)::uuid || '","type":"' || CASE number
        WHEN 1 THEN 'RUN_STARTED' WHEN 5 THEN 'RUN_FINISHED","output":"It is. ' || i
        WHEN 2 THEN 'TEXT_MESSAGE_START","message_id":"' || i
        WHEN 3 THEN 'TEXT_MESSAGE_CONTENT","delta":"It is.","message_id":"' || i
        ELSE 'TEXT_MESSAGE_END","message_id":"' || i END || '"}}'
    FROM generate_series(1, 2 * {accounts}) i, generate_series(1, 5) number""",
    """INSERT INTO former_spendings (owner_hash, day, tokens)
    SELECT md5(i::text), timezone('utc', now()) - interval '2 days' * random(), 1000
    FROM generate_series(1, {accounts}) i""",
    """INSERT INTO spendings (user_id, day, tokens)
    SELECT md5('user ' || i)::uuid, now(), 1000 FROM generate_series(1, {accounts}) i""",
)


def make(url: str, password_hash: str) -> None:
    """Fill the tables of a database, which are empty and migrated; for a superuser."""
    values = {
        "accounts": ACCOUNTS,
        "heavy": HEAVY,
        "sessions": SESSIONS,
        "events": EVENTS,
        "chats": CHATS,
        "runs": RUNS,
        "password_hash": password_hash,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in STATEMENTS:
            connection.execute(statement.format(**values))

"""What the benchmark measures against: as little as can be under the same server."""

import os
import threading
import uuid

import psycopg
import urllib3
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
mine = threading.local()
models = urllib3.PoolManager(maxsize=1000)


def connection() -> psycopg.Connection:
    """A thread's own, as a pool with one for each thread would hand out."""
    if not hasattr(mine, "connection"):
        url = os.environ["DATABASE_URL"].replace("postgres:", "postgresql:", 1)
        mine.connection = psycopg.connect(url, autocommit=True)
    return mine.connection


@app.get("/api/v1/health")
@app.get("/bare")
def bare():
    return jsonify(id="3f1c1a52", username="ada", avatar_url=None, bio=None)


@app.get("/select/<user_id>")
def select(user_id: str):
    query = "SELECT id, username, avatar_url, bio FROM users WHERE id = %s"
    row = connection().execute(query, (user_id,)).fetchone()
    return jsonify(id=str(row[0]), username=row[1], avatar_url=row[2], bio=row[3])


@app.post("/update/<session_id>")
def update(session_id: str):
    query = "UPDATE sessions SET refreshed_at = now() WHERE id = %s RETURNING id, generation"
    row = connection().execute(query, (session_id,)).fetchone()
    return jsonify(id=str(row[0]), generation=row[1])


@app.post("/run/<user_id>/<session_id>")
def run(user_id: str, session_id: str):
    """What a chat run asks of the database: who asks, a chat and a run, the run's six events."""
    database, chat, run = connection(), uuid.uuid4(), uuid.uuid4()
    find = "SELECT * FROM sessions JOIN users ON users.id = user_id WHERE sessions.id = %s"
    database.execute(find, (session_id,)).fetchone()
    claim = """
        WITH chat AS (
            INSERT INTO chats (id, user_id, created_at, active_at) VALUES (%s, %s, now(), now())
            RETURNING id
        )
        INSERT INTO runs (id, chat_id, message, created_at, lease_until)
        SELECT %s, id, %s, now(), now() FROM chat RETURNING id"""
    database.execute(claim, (chat, user_id, run, request.get_json()["message"])).fetchone()
    write = """
        WITH ended AS (UPDATE runs SET finished_at = now() WHERE id = %s RETURNING id)
        INSERT INTO run_events (run_id, number, data)
        SELECT id, number, %s FROM ended, generate_series(1, 6) AS number"""
    database.execute(write, (run, "x" * 150))
    return jsonify(session_id=str(chat), output="x" * 150, events=["x" * 150] * 6)


@app.post("/relay")
def relay():
    """What the model's server says, as it is."""
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    answer = models.request("POST", url, body=request.get_data(), preload_content=False)
    return Response(answer.stream(), mimetype="text/event-stream")

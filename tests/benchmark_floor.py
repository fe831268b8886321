"""What the benchmark measures against: as little as can be under the same server."""

import os
import threading

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


@app.post("/relay")
def relay():
    """What the model's server says, as it is."""
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    answer = models.request("POST", url, body=request.get_data(), preload_content=False)
    return Response(answer.stream(), mimetype="text/event-stream")

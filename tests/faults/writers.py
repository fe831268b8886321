"""Somebody who writes without a rest, and remembers what was acknowledged."""

from uuid import uuid4

import psycopg

from tests.faults.conftest import SignedIn
from tests.servers import Answer, Client

# A sign-up costs a hash, a quarter second of a core: one write in so many.
WRITES_A_SIGN_UP = 40


class Writer:
    """Changes a profile, refreshes, chats, signs up others; one request after another."""

    def __init__(self, person: SignedIn, client: Client):
        self.person = person
        self.client = client
        self.tokens = person.access_token, person.refresh_token
        self.bio = -1
        self.messages: set[str] = set()
        self.sign_ups: set[str] = set()
        self.refreshes = 0

    @property
    def acknowledged(self) -> int:
        return (self.bio >= 0) + len(self.messages) + len(self.sign_ups) + self.refreshes

    def write(self, number: int) -> Answer:
        """The next write; numbers only grow."""
        if number % WRITES_A_SIGN_UP == WRITES_A_SIGN_UP - 1:
            return self._sign_up()
        return (self._change_profile, self._refresh, self._chat)[number % 3](number)

    def _change_profile(self, number: int) -> Answer:
        answer = self.client.ask("PATCH", "/users/me", {"bio": str(number)}, self.tokens[0])
        if answer.status == 200:
            self.bio = number
        return answer

    def _refresh(self, _number: int) -> Answer:
        answer = self.client.post("/auth/sessions/refresh", {"refresh_token": self.tokens[1]})
        if answer.status == 200:
            self.tokens = answer.json["access_token"], answer.json["refresh_token"]
            self.refreshes += 1
        return answer

    def _chat(self, _number: int) -> Answer:
        message = uuid4().hex
        answer = self.client.post("/agent-chats", {"message": message}, self.tokens[0])
        if answer.status == 200:
            self.messages.add(message)
        return answer

    def _sign_up(self) -> Answer:
        name = f"s_{uuid4().hex[:20]}"
        sign_up = {"username": name, "email": f"{name}@example.org", "password": "correct horse"}
        answer = self.client.post("/auth/verifications", sign_up)
        if answer.status == 202:
            self.sign_ups.add(name)
        return answer

    def lost(self, database_url: str) -> list[str]:
        """What was acknowledged and is not there. A later write may be there without that."""
        with psycopg.connect(database_url) as database:
            messages = {row[0] for row in database.execute("SELECT message FROM runs")}
            sign_ups = {row[0] for row in database.execute("SELECT username FROM sign_ups")}
            bio = database.execute("SELECT bio FROM users WHERE id = %s", (self.person.id,))
            lost = [*self.messages - messages, *self.sign_ups - sign_ups]
            if int(bio.fetchone()[0] or -1) < self.bio:
                lost.append(f"bio {self.bio}")
        if self._refresh(0).status != 200:
            lost.append("the session")
        return lost

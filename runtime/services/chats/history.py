"""What the model is told of a chat's earlier runs."""

import json
from collections.abc import Mapping
from itertools import islice
from uuid import UUID

from runtime.agent.messages import Message, cut_history
from runtime.agent.transcript import from_events
from runtime.models.chats import Run
from runtime.services.chats.entries import Entry
from runtime.services.chats.records import newest

# More runs than any model's window holds; what of them is sent is bounded in characters.
RECENT_RUNS = 100


def messages_of(chat_id: UUID, max_chars: int, answers: Mapping[str, str]) -> list[Message]:
    """What was said in ended runs, oldest first: the newest turns that fit in `max_chars`.

    `answers` has, by the call's id, the results that are brought only now.
    """
    turns: list[list[Message]] = []
    left = max_chars
    for run, entries in islice(newest(chat_id, Run.finished_at.is_null(False)), RECENT_RUNS):
        words = [Message("user", run.message)] if run.message else []
        turns.append([*words, *from_events(map(_with_vendor, entries), answers)])
        left -= sum(message.chars for message in turns[-1])
        # Runs that bring results alone belong to the turn of the run with the user's words.
        if left < 0 and run.message:
            break
        answers = run.answers
    return cut_history([message for turn in reversed(turns) for message in turn], max_chars)


def _with_vendor(entry: Entry) -> dict:
    event = entry.event
    if entry.vendor:
        event["vendor"] = json.loads(entry.vendor)
    return event

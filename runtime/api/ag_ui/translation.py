"""The events of a run as AG-UI 1.0 has them: in camelCase, nothing null.

Their order is the agent's (`runtime.agent.loop` and `step`); a message starts with its first delta.

Clients before 1.0, which declare no `protocolVersion`, break off at an outcome that they do not
know; they are sent none.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from uuid import UUID

from runtime import json_text
from runtime.agent.events import ErrorCode
from runtime.api.ag_ui.messages import (
    as_client_has_it,
    instructions_in,
    is_still_open,
    messages_of,
    result_message,
    subject_of,
)
from runtime.models.chats import Run
from runtime.services.chats.entries import Entry, error_sentence, join

PROTOCOL_VERSION = "1.0"
EXAMPLE = (
    'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"7d0e6f0a-6df5-4f4f-9a7c-6f7b0b6b0f7e",'
    '"delta":"现在是 10:15。"}\n\n'
)

FIELDS = {
    "TEXT_MESSAGE_START": {"message_id": "messageId"},
    "TEXT_MESSAGE_CONTENT": {"message_id": "messageId", "delta": "delta"},
    "TEXT_MESSAGE_END": {"message_id": "messageId"},
    "REASONING_START": {"message_id": "messageId"},
    "REASONING_MESSAGE_START": {"message_id": "messageId"},
    "REASONING_MESSAGE_CONTENT": {"message_id": "messageId", "delta": "delta"},
    "REASONING_MESSAGE_END": {"message_id": "messageId"},
    "REASONING_END": {"message_id": "messageId"},
    "TOOL_CALL_START": {
        "tool_call_id": "toolCallId",
        "tool_name": "toolCallName",
        "message_id": "parentMessageId",
    },
    "TOOL_CALL_ARGS": {"tool_call_id": "toolCallId", "delta": "delta"},
    "TOOL_CALL_END": {"tool_call_id": "toolCallId"},
}
# Members that clients demand and that are always the same.
CONSTANTS = {"REASONING_MESSAGE_START": {"role": "reasoning"}}
COUNTS = {"input_tokens": "inputTokens", "output_tokens": "outputTokens"}


class Translation:
    """One run on its way to one client, which knows the chat and the run by ids of its own."""

    def __init__(
        self, run: Run, thread_id: str, run_id: str, *, declares_1_0: bool, language: str
    ) -> None:
        self._run = run
        self._ids = {"threadId": thread_id, "runId": run_id}
        self._declares_1_0 = declares_1_0
        self._language = language
        # What was begun and not ended, by its id, with the events that end it.
        self._open: dict[str, list[dict]] = {}
        self._unanswered: dict[str, None] = {}

    def begin(self) -> str:
        """What a stream begins with; `metadata` names the run as all other routes do."""
        names = {"session_id": str(self._run.chat_id), "run_id": str(self._run.id)}
        return _frame(_started(self._ids, names))

    def resume(
        self,
        entries: list[Entry],
        recorded: Iterable[tuple[Run, list[dict]]],
        held: Mapping[str, dict],
        *,
        is_own: bool = True,
    ) -> str:
        """What a stream begins with when there are entries already: the chat's messages, then
        what of this run is open, once more from its start.

        `recorded` are the chat's runs with their events, `held` the client's messages by id: if one
        says the same as ours it stays as it is, for it may have more than the text. How the run
        ended before is told of the client's own; of another one, what it left to be answered.
        """
        events = [entry.event for entry in join(entries)]
        sent = [self._translated(event) for event in events]
        if entries and entries[-1].is_ending:
            self._open, rest = {}, sent[-1][-1:] if is_own else [self._over(entries[-1])]
        else:
            rest = [_renamed(each) for each in events if is_still_open(each, self._open)]
        messages = []
        for run, its_events in recorded:
            is_this = run.id == self._run.id
            messages += messages_of(run, events if is_this else its_events, self._open)
        messages = [as_client_has_it(message, held) for message in messages]
        return self.begin() + "".join(map(_frame, [_snapshot(messages, held), *rest]))

    def frame(self, entry: Entry) -> str:
        """What is sent for one more entry."""
        return "".join(map(_frame, self._translated(entry.event)))

    def _translated(self, event: dict) -> list[dict]:
        """What is sent for an event; keeps in mind what it begins and ends, asks and answers."""
        match event:
            case {"type": "RUN_FINISHED" | "RUN_ERROR"}:
                return self._ended(event)
            case {"type": "TOOL_CALL_RESULT", "tool_call_id": call_id}:
                self._unanswered.pop(call_id, None)
                message = result_message(self._run, call_id, event["result"])
                return [{"type": "TOOL_CALL_RESULT", "messageId": message.pop("id"), **message}]
            case {"type": "TOOL_CALL_START", "tool_call_id": call_id}:
                self._unanswered[call_id] = None
                self._open[call_id] = [{"type": "TOOL_CALL_END", "toolCallId": call_id}]
            case {"type": "TEXT_MESSAGE_START" | "REASONING_START" | "REASONING_MESSAGE_START"}:
                return []  # No message is empty: it begins with its first text.
            case {"type": "TEXT_MESSAGE_CONTENT", "message_id": its_id} if its_id not in self._open:
                self._open[its_id] = _about(its_id, "TEXT_MESSAGE_END")
                return [*_about(its_id, "TEXT_MESSAGE_START"), _renamed(event)]
            case {"type": "REASONING_MESSAGE_CONTENT", "message_id": its_id} if (
                its_id not in self._open
            ):
                self._open[its_id] = _about(its_id, "REASONING_MESSAGE_END", "REASONING_END")
                begins = _about(its_id, "REASONING_START", "REASONING_MESSAGE_START")
                return [*begins, _renamed(event)]
            case {"type": "REASONING_MESSAGE_END", "message_id": its_id}:
                self._open[its_id] = _about(its_id, "REASONING_END")
            case {"type": "TOOL_CALL_END" | "TEXT_MESSAGE_END" | "REASONING_END"}:
                self._open.pop(subject_of(event), None)
        return [_renamed(event)] if event["type"] in FIELDS else []

    def _ended(self, event: dict) -> list[dict]:
        counts = {COUNTS[name]: count for name, count in event.get("usage", {}).items()}
        usage = {"usage": [counts]} if counts else {}
        error = event.get("error")
        if error is None:
            return [self._finished(result=event["output"], **self._pending(), **usage)]
        if error == ErrorCode.STOPPED and self._declares_1_0:
            # All must be ended before, as the run has done itself unless it was deleted.
            cancelled = self._finished(outcome={"type": "cancelled"}, **usage)
            return [*chain.from_iterable(self._open.values()), cancelled]
        message = error_sentence(error, self._language)
        return [{"type": "RUN_ERROR", "message": message, "code": error, **usage}]

    def _over(self, last: Entry) -> dict:
        """The end of a stream that has only shown what is there."""
        return self._finished(**(self._pending() if last.type == "RUN_FINISHED" else {}))

    def _finished(self, **fields: object) -> dict:
        return {"type": "RUN_FINISHED", **self._ids, **fields}

    def _pending(self) -> dict:
        """The outcome of a run that left calls to the client's tools."""
        if not (self._unanswered and self._declares_1_0):
            return {}
        return {"outcome": {"type": "success", "pendingToolCallIds": list(self._unanswered)}}


def empty_chat(chat_id: UUID, thread_id: str, run_id: str, held: Mapping[str, dict]) -> str:
    """All that is said of a chat that has not begun."""
    ids = {"threadId": thread_id, "runId": run_id}
    started, ended = _started(ids, {"session_id": str(chat_id)}), {"type": "RUN_FINISHED", **ids}
    return "".join(map(_frame, [started, _snapshot([], held), ended]))


def _started(ids: dict, names: dict) -> dict:
    version = {"protocolVersion": PROTOCOL_VERSION}
    return {"type": "RUN_STARTED", **ids, **version, "metadata": names}


def _snapshot(messages: list[dict], held: Mapping[str, dict]) -> dict:
    """The chat's messages, behind the client's instructions: what it lacks the client drops."""
    return {"type": "MESSAGES_SNAPSHOT", "messages": [*instructions_in(held.values()), *messages]}


def _frame(event: dict) -> str:
    return f"data: {json_text.encode(event)}\n\n"


def _renamed(event: dict) -> dict:
    fields = {new: event[old] for old, new in FIELDS[event["type"]].items()}
    return _made(event["type"], fields)


def _about(message_id: str, *types: str) -> list[dict]:
    """The beginnings or ends of a message."""
    return [_made(each, {"messageId": message_id}) for each in types]


def _made(kind: str, fields: dict) -> dict:
    return {"type": kind, **fields, **CONSTANTS.get(kind, {})}

"""The events of a run as chunks of the AI SDK's UI message stream, which `useChat` reads.

A run is one message of the assistant, and each answer of the model a step of it. What is sent can
be sent again from the start: the message has the same id then, and a client replaces what it has.
"""

from collections.abc import Iterable, Iterator
from uuid import UUID

from runtime import json_text
from runtime.agent.events import ErrorCode
from runtime.api.json_body import InvalidJSON, decode
from runtime.models.chats import Run
from runtime.services.chats.entries import Entry, error_sentence, join
from runtime.services.chats.ids import made_of

# What is begun, goes on and ends, each with its name here.
KINDS = {"TEXT_MESSAGE": "text", "REASONING_MESSAGE": "reasoning"}
DONE = "data: [DONE]\n\n"
EXAMPLE = (
    'data: {"type":"text-delta","id":"7d0e6f0a-6df5-4f4f-9a7c-6f7b0b6b0f7e",'
    '"delta":"现在是 10:15。"}\n\n'
)


def answer_id(run_id: UUID) -> str:
    """The id of the message that a run writes; the run's own is its user's message's."""
    return str(made_of(run_id, "answer"))


class Translation:
    """One run on its way to one client, from its first event to its last."""

    def __init__(self, run: Run, language: str) -> None:
        self._run = run
        self._language = language
        # The texts that were begun and not ended, by their ids, with what each is.
        self._open: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._arguments: dict[str, list[str]] = {}
        self._unanswered: dict[str, None] = {}
        self._is_in_step = self._is_answered = False

    def frames(self, entries: Iterable[Entry]) -> str:
        """What is sent for some more entries."""
        frames = []
        for entry in join(entries):
            frames += [f"data: {json_text.encode(chunk)}\n\n" for chunk in self.chunks(entry.event)]
            if entry.is_ending:
                frames.append(DONE)
        return "".join(frames)

    def chunks(self, event: dict) -> Iterator[dict]:
        """What an event is in chunks."""
        kind = event["type"]
        match kind.rpartition("_"):
            case ("RUN", _, "STARTED"):
                yield self._begun()
            case ("RUN", _, "FINISHED" | "ERROR"):
                yield from self._ended(event)
            case (("TEXT_MESSAGE" | "REASONING_MESSAGE") as what, _, "CONTENT"):
                yield from self._text(KINDS[what], event["message_id"], event["delta"])
            case ("TEXT_MESSAGE" | "REASONING_MESSAGE", _, "END"):
                yield from self._close(event["message_id"])
            case ("TOOL_CALL", _, _):
                yield from self._call(kind, event["tool_call_id"], event)

    def _begun(self) -> dict:
        """`metadata` names the run as all other routes do."""
        run = self._run
        names = {"session_id": str(run.chat_id), "run_id": str(run.id), "status": "running"}
        return {"type": "start", "messageId": answer_id(run.id), "messageMetadata": names}

    def _text(self, kind: str, its_id: str, delta: str) -> Iterator[dict]:
        # No text is empty: it begins with its first delta.
        if its_id not in self._open:
            yield from self._step()
            self._open[its_id] = kind
            yield {"type": f"{kind}-start", "id": its_id}
        yield {"type": f"{kind}-delta", "id": its_id, "delta": delta}

    def _close(self, its_id: str) -> Iterator[dict]:
        if kind := self._open.pop(its_id, None):
            yield {"type": f"{kind}-end", "id": its_id}

    def _step(self) -> Iterator[dict]:
        """The step that what comes next belongs to: another one after a result."""
        if self._is_in_step and not self._is_answered:
            return
        if self._is_in_step:
            yield {"type": "finish-step"}
        self._is_in_step, self._is_answered = True, False
        yield {"type": "start-step"}

    def _call(self, kind: str, call_id: str, event: dict) -> Iterator[dict]:
        about = {"toolCallId": call_id}
        # Of all tools we know that it is not the page that runs them.
        ours = {"providerExecuted": True}
        match kind:
            case "TOOL_CALL_START":
                yield from self._step()
                self._names[call_id], self._arguments[call_id] = event["tool_name"], []
                self._unanswered[call_id] = None
                named = {**about, "toolName": event["tool_name"]}
                yield {"type": "tool-input-start", **named, **ours}
            case "TOOL_CALL_ARGS":
                self._arguments[call_id].append(event["delta"])
                yield {"type": "tool-input-delta", **about, "inputTextDelta": event["delta"]}
            case "TOOL_CALL_END":
                text = "".join(self._arguments.pop(call_id))
                named = {**about, "toolName": self._names[call_id], "input": _value(text)}
                yield {"type": "tool-input-available", **named, **ours}
            case "TOOL_CALL_RESULT":
                self._unanswered.pop(call_id, None)
                self._is_answered = True
                yield {"type": "tool-output-available", **about, "output": event["result"], **ours}

    def _ended(self, event: dict) -> Iterator[dict]:
        """How the run ended. A process that died has left open what was open."""
        for its_id in [*self._open]:
            yield from self._close(its_id)
        error = event.get("error")
        sentence = error and error_sentence(error, self._language)
        if error:
            for call_id in self._unanswered:
                yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": sentence}
        if self._is_in_step:
            yield {"type": "finish-step"}
        metadata = {"messageMetadata": _metadata(event, error, sentence)}
        if error is None:
            yield {"type": "finish", "finishReason": "stop", **metadata}
            return
        yield {"type": "message-metadata", **metadata}
        if error == ErrorCode.STOPPED:
            yield {"type": "abort"}
        else:
            yield {"type": "error", "errorText": sentence}


def _metadata(event: dict, error: str | None, sentence: str | None) -> dict:
    """How a run ended, and what it cost if the model has said so."""
    usage = event.get("usage", {})
    if error is None:
        return {"status": "finished", **usage}
    status = "stopped" if error == ErrorCode.STOPPED else "failed"
    return {"status": status, "error": sentence, **usage}


def _value(arguments: str) -> object:
    """What a model has given to a tool; as text if it is no object that every reader takes."""
    try:
        return decode((arguments or "{}").encode())
    except InvalidJSON:
        return arguments

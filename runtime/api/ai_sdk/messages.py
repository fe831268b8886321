"""The messages of a chat as `useChat` holds them: what its stream makes of the journal."""

from collections.abc import Iterable, Mapping

from runtime.api.ai_sdk.translation import Translation, answer_id
from runtime.models.chats import Run
from runtime.services.chats.entries import join
from runtime.services.chats.records import Record


def messages_of(records: Iterable[Record], language: str) -> list[dict]:
    """What was said in some runs, which come in the order they began."""
    return [message for record in records for message in _messages_of(record, language)]


def _messages_of(record: Record, language: str) -> list[dict]:
    said = [each for each in record.run.input_messages if each.tool_call_id is None]
    asked = [
        {"id": each.id, "role": "user", "parts": [{"type": "text", "text": each.text}]}
        for each in said
    ]
    return [*asked, _answer(record, language)]


def _answer(record: Record, language: str) -> dict:
    """The message that a run has written, as far as it came."""
    message = _Message(record.run)
    translation = Translation(record.run, language)
    for event in _with(record.answers, [entry.event for entry in join(record.entries)]):
        for chunk in translation.chunks(event):
            message.take(chunk)
    return {"id": message.id, "role": "assistant", **message.fields}


def _with(answers: Mapping[str, str], events: list[dict]) -> list[dict]:
    """The events of a run, with the results that another client gave after its end."""
    results = [
        {"type": "TOOL_CALL_RESULT", "tool_call_id": call_id, "result": result}
        for call_id, result in answers.items()
    ]
    return [*events[:-1], *results, *events[-1:]] if results else events


class _Message:
    """A message made of chunks, as the AI SDK's `processUIMessageStream` makes it."""

    def __init__(self, run: Run) -> None:
        self.id = answer_id(run.id)
        self.fields: dict = {"metadata": {}, "parts": []}
        self._texts: dict[str, dict] = {}
        self._calls: dict[str, dict] = {}

    def take(self, chunk: dict) -> None:
        """Add what a chunk says."""
        kind, _, what = chunk["type"].rpartition("-")
        if metadata := chunk.get("messageMetadata"):
            self.fields["metadata"] |= metadata
        match kind, what:
            case "start", "step":
                self._add({"type": "step-start"})
            case (("text" | "reasoning"), "start"):
                part = {"type": kind, "text": "", "state": "streaming"}
                self._texts[chunk["id"]] = self._add(part)
            case (("text" | "reasoning"), "delta"):
                self._texts[chunk["id"]]["text"] += chunk["delta"]
            case (("text" | "reasoning"), "end"):
                self._texts.pop(chunk["id"])["state"] = "done"
            case "tool-input", "start":
                self._calls[chunk["toolCallId"]] = self._add(_call(chunk))
            case "tool-input", "available":
                self._change(chunk, "input-available", "input")
            case "tool-output", "available":
                self._change(chunk, "output-available", "output")
            case "tool-output", "error":
                self._change(chunk, "output-error", "errorText")

    def _add(self, part: dict) -> dict:
        self.fields["parts"].append(part)
        return part

    def _change(self, chunk: dict, state: str, name: str) -> None:
        if part := self._calls.get(chunk["toolCallId"]):
            part |= {"state": state, name: chunk[name]}


def _call(chunk: dict) -> dict:
    named = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
    return {**named, "state": "input-streaming", "providerExecuted": True}

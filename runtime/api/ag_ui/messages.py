"""The messages of a chat as AG-UI 1.0 has them."""

from collections.abc import Container, Iterable, Mapping
from uuid import uuid5

from runtime.agent.transcript import Call, Thought, steps_of
from runtime.api.new_messages import text_of
from runtime.models.chats import InputMessage, Run


def subject_of(event: dict) -> str | None:
    """What an event is about: a call, or else a message."""
    return event.get("tool_call_id") or event.get("message_id")


def is_still_open(event: dict, open_ids: Container[str]) -> bool:
    """Whether an event is of an open message or call, and not in the messages so far.

    Of an open text or thought they have the content: clients of 1.0 keep a thought that a snapshot
    lacks, and would have its beginning twice.
    """
    has_content = event["type"] in ("TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT")
    return subject_of(event) in open_ids and not has_content


def messages_of(run: Run, events: Iterable[dict], open_ids: Container[str] = ()) -> list[dict]:
    """What a client must hold of a run: what was said, each step's message, each result.

    Of what is open it has the text, and no call.
    """
    messages = [_input_message(each) for each in run.input_messages]
    for step in steps_of(each for each in events if not is_still_open(each, open_ids)):
        messages += map(_thought, step.thoughts)
        if not (step.text or step.calls):
            continue
        message: dict = {"id": step.message_id, "role": "assistant"}
        if step.text:
            message["content"] = step.text
        if step.calls:
            message["toolCalls"] = [_call(call) for call in step.calls]
        answered = [call for call in step.calls if call.result is not None]
        messages += [message, *(result_message(run, call.id, call.result) for call in answered)]
        messages += map(_thought, step.afterthoughts)
    return messages


def _thought(thought: Thought) -> dict:
    return {"id": thought.id, "role": "reasoning", "content": thought.text}


def _call(call: Call) -> dict:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _input_message(each: InputMessage) -> dict:
    if each.tool_call_id is None:
        return {"id": each.id, "role": "user", "content": each.text}
    return {"id": each.id, "role": "tool", "toolCallId": each.tool_call_id, "content": each.text}


def result_message(run: Run, call_id: str, result: str) -> dict:
    """The message that has a call's result; its id can always be made again."""
    its_id = str(uuid5(run.id, call_id))
    return {"id": its_id, "role": "tool", "toolCallId": call_id, "content": result}


def as_client_has_it(message: dict, held: Mapping[str, dict]) -> dict:
    """The message as the client holds it, if it says the same there."""
    own = held.get(message["id"])
    if own is None or message["role"] == "assistant" or own["role"] != message["role"]:
        return message
    is_same = own.get("toolCallId") == message.get("toolCallId")
    if not is_same or text_of(own) != message["content"]:
        return message
    return {name: value for name, value in own.items() if value is not None}


def instructions_in(messages: Iterable[dict]) -> list[dict]:
    """The system and developer messages among a client's."""
    return [
        {name: each[name] for name in ("id", "role", "content")}
        for each in messages
        if is_instruction(each) and isinstance(each.get("content"), str)
    ]


def is_instruction(message: dict) -> bool:
    """Whether a client's message is one of its own instructions."""
    return message["role"] in ("system", "developer")

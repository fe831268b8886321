"""What is new of the messages that a front end sends: it sends all that it holds, each time.

The chat is the server's: all else in them is a copy, which may be an edited one. Where its user's
messages end otherwise than the chat does, the user has edited a message or wants another answer.
"""

from collections.abc import Iterator
from itertools import islice, takewhile
from uuid import UUID

from runtime.agent.text import clean
from runtime.agent.tools.result_text import cut
from runtime.api.parser import MAX_FAULTS
from runtime.errors import Fault, InvalidParameters
from runtime.models.chats import InputMessage
from runtime.services.chats.chat_state import Brought, ChatState


def ids_at_end(messages: list[dict]) -> set[str]:
    """The ids of the user's messages after the last one of an assistant, and of the one before.

    None of the rest is new, and the one before says what they follow.
    """
    ids, is_before = set(), False
    for message in reversed(messages):
        is_before = is_before or message["role"] == "assistant"
        if message["role"] == "user":
            ids.add(message["id"])
            if is_before:
                break
    return ids


def replaced_run(messages: list[dict], state: ChatState, member: str = "content") -> UUID | None:
    """The run of the chat in whose place the client wants another, if it does.

    The last message must be the user's. If the chat has it with the same text and its run has
    ended, it is to be answered anew; if with another text, it was edited. If it is new and the
    user's message before it is in the chat, it takes the place of the message of the user's that
    follows that one there. In any other case nothing is replaced: a list that has no message that
    the chat knows may be all that a page has which was just loaded.
    """
    if not messages or messages[-1]["role"] != "user":
        return None
    last = messages[-1]
    if known := state.brought.get(last["id"]):
        run = next(run for run in state.recent if run.id == known.run_id)
        is_same = known.text == text_of(last, member)
        return None if is_same and run.is_running else known.run_id
    followed = next(
        (state.brought.get(its_id) for its_id in _older_ids(messages, state)),
        None,
    )
    return followed and _run_after(followed, state)


def _older_ids(messages: list[dict], state: ChatState) -> Iterator[str]:
    """The ids of the user's messages before those that are new at the end, from the end."""
    may_be_new = True
    for message in reversed(messages):
        role, its_id = message["role"], message["id"]
        is_copy = role in ("assistant", "tool") or its_id in state.brought
        may_be_new = may_be_new and not is_copy
        if role == "user" and not may_be_new:
            yield its_id


def _run_after(followed: Brought, state: ChatState) -> UUID | None:
    """The run with what the user said next after a message, if something was."""
    if not followed.is_last:
        return followed.run_id
    later = takewhile(lambda run: run.id != followed.run_id, state.recent)
    said = [run.id for run in later if run.has_words]
    return said[-1] if said else None


def find(messages: list[dict], state: ChatState, member: str = "content") -> list[InputMessage]:
    """What of a client's messages the chat does not have, in their order.

    A result is new when the chat waits for it. What the user wrote is new from the end of the
    list back to the first message that has been answered or is known: an assistant's, a result
    that the chat does not wait for, or an id that the chat has. `member` has a message's text.

    Raises InvalidParameters when something in them cannot be passed on to the model.
    """
    found = [(place, messages[place]) for place in _places(messages, state)][::-1]
    faults = (fault for place, message in found for fault in _faults(place, message, member))
    if first := list(islice(faults, MAX_FAULTS)):
        raise InvalidParameters(*first)
    texts = [(message, text_of(message, member)) for _place, message in found]
    return [
        InputMessage(
            message["id"], text, message["toolCallId"] if message["role"] == "tool" else None
        )
        for message, text in texts
        if text or message["role"] == "tool"
    ]


def _places(messages: list[dict], state: ChatState) -> Iterator[int]:
    """Where in the list the new ones are, from its end."""
    may_be_new = True
    for place in reversed(range(len(messages))):
        message = messages[place]
        role, its_id = message["role"], message["id"]
        if role == "tool" and message.get("toolCallId") in state.unanswered:
            yield place
        elif role in ("assistant", "tool") or its_id in state.brought:
            may_be_new = False
        elif role == "user" and may_be_new:
            yield place


def _faults(place: int, message: dict, member: str) -> Iterator[Fault]:
    """What of a message is more than text, which is all that the model gets."""
    where, content = f"#/messages/{place}", message.get(member)
    if isinstance(content, list):
        for number, part in enumerate(content):
            if not _is_text(part):
                yield Fault(f"{where}/{member}/{number}", "only_text")
    elif not isinstance(content, str | None):
        yield Fault(f"{where}/{member}", "only_text")
    if message["role"] == "tool" and not isinstance(message.get("error"), str | None):
        yield Fault(f"{where}/error", "not_a_string")


def text_of(message: dict, member: str = "content") -> str:
    """What a model can use of a client's message: its text, or else a tool's error."""
    content = message.get(member)
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    text = clean("\n".join(part["text"] for part in parts if _is_text(part)))
    if message["role"] != "tool":
        return text
    error = message.get("error")
    return cut(text or clean(error if isinstance(error, str) else ""))


def _is_text(part: object) -> bool:
    """Whether a part of a message's content is text."""
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )

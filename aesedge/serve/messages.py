"""Messages with roles, as chat clients send them, to one photo, the turns so far and the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aesedge.serve.api_error import ApiError
from aesedge.serve.json_body import check_length

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Message(NamedTuple):
    """One message: its role, its text, and the base64 of the images in it."""

    role: str
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """What a conversation comes to."""

    photo: str | None
    turns: tuple[tuple[str, str], ...]
    text: str


def dialogue(messages: Iterable[Message], *, param: str) -> Dialogue:
    """Put messages into the form of the model: text of the system before the first question, one photo.

    Neighbours of one role become one message.

    Raises:
        ApiError: there are two photos, no question at the end, a role that is not known, or far too much text.
    """
    system, joined, photos = [], list[tuple[str, str]](), list[str]()
    for message in messages:
        role = _ROLES.get(message.role)
        if role is None:
            raise ApiError(
                400, "roles are system, developer, user and assistant; tools are not called", param=param, code="role"
            )
        photos += [photo for photo in message.images if photo not in photos]
        if role == "system":
            system.append(message.text)
        elif joined and joined[-1][0] == role:
            joined[-1] = role, "\n".join(filter(None, [joined[-1][1], message.text]))
        else:
            joined.append((role, message.text))
    if len(photos) > 1:
        raise ApiError(
            400, f"{len(photos)} images were sent; a conversation is about one, so send one request for each",
            param=param, code="too_many_images",
        )  # fmt: skip
    check_length([*system, *(text for _, text in joined)], param=param)
    if not joined or joined[-1][0] != "user":
        raise ApiError(400, "the last message must be the user's question", param=param, code="no_question")
    if joined[0][0] == "assistant":  # a greeting
        joined.insert(0, ("user", ""))
    said = [text for _, text in joined]
    said[0] = "\n\n".join(filter(None, [*system, said[0]]))
    photo = photos[0] if photos else None
    if photo is None and not said[-1].strip():
        raise ApiError(400, "there is neither a text nor an image; ask something", param=param, code="no_question")
    return Dialogue(photo, tuple(zip(said[:-1:2], said[1::2], strict=True)), said[-1])

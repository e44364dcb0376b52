"""What an answer says when something is wrong: a status, a message that says what to do, the field that is meant."""

from __future__ import annotations

from aesedge.errors import (
    AesedgeError,
    ContextFullError,
    ImageError,
    ImageTooLargeError,
    InferenceError,
    MissingExtraError,
    UsageError,
)


class ApiError(Exception):
    """A request that is not answered, in the form that every wire format translates into its own.

    Args:
        status: of HTTP.
        message: what is wrong and what to do, without words of libraries.
        param: the field of the body that is meant.
        code: a short name for programs.
        retry_after_s: when to try again; None where trying again cannot help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """The name that OpenAI has for errors of this kind."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def headers(self) -> dict[str, str]:
        """Return what tells clients whether to try again: OpenAI's own obeys ``x-should-retry``."""
        if self.retry_after_s is not None:
            return {"retry-after": str(self.retry_after_s), "x-should-retry": "true"}
        return {"x-should-retry": "false"}

    def openai(self) -> dict[str, object]:
        """Return the body that OpenAI's clients read."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    def ollama(self) -> dict[str, object]:
        """Return the body that Ollama's clients read."""
        return {"error": self.message}


_TOLD: tuple[tuple[type[AesedgeError], int, str, str], ...] = (
    (ImageTooLargeError, 413, "too_large", "the photo has too many pixels or bytes for this server; send it smaller"),
    (MissingExtraError, 415, "image_format", "this server cannot read photos of this format; send a JPEG or PNG"),
    (ImageError, 400, "bad_image", "the photo cannot be read: it is damaged, or no image; send a JPEG or PNG"),
    (
        ContextFullError,
        400,
        "context_length_exceeded",
        "the conversation does not fit the context; send less text, or start the server with a larger --ctx",
    ),
    (InferenceError, 500, "inference_failed", "the model failed on this request; the server goes on"),
)
"""Errors of the engine: status, code, and what clients are told."""


def api_error(error: BaseException) -> ApiError:
    """Translate an error of the engine; what it says of files and libraries stays here."""
    if isinstance(error, ApiError):
        return error
    for kind, status, code, message in _TOLD:
        if isinstance(error, kind):
            return ApiError(status, message, code=code)
    if isinstance(error, UsageError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, AesedgeError):
        return ApiError(503, "the model cannot be used now; the server's log says why", code="unavailable")
    return ApiError(500, "a mistake in the server; its log says more", code="internal_error")

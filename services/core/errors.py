"""What a caller can catch.

    PentimentoError
    ├── Rejected      the input's fault: tell the sender, do not retry
    ├── Unavailable   something we depend on is away: retry with a limit, then dead letter
    └── Broken        our own bug or an impossible state: dead letter first, then stop loudly

Every text says what happened, to which id, and what to do about it. Only `services/stream/stage.py`
and the web's error envelope catch broadly.
"""

from __future__ import annotations


class PentimentoError(Exception):
    """Root of every error that this project raises on purpose."""


class Rejected(PentimentoError):
    """The input cannot be used, and trying again will not help.

    `code` is a stable lower-case slug that ends up in the verdict's reasons (see `REJECTION_CODES`);
    the message is for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        if code not in REJECTION_CODES:
            raise Broken(f"unknown rejection code {code!r}: add it to errors.REJECTION_CODES")
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[Rejected], tuple[str, str]]:
        return (type(self), (self.code, self.message))  # so that it crosses process pools whole


class Unavailable(PentimentoError):
    """A dependency did not answer in time or refused for now. `dependency` names it in metrics."""

    def __init__(self, dependency: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.dependency = dependency
        self.retry_after_s = retry_after_s


class Broken(PentimentoError):
    """Our bug: a state that must not occur."""


REJECTION_CODES: dict[str, str] = {
    "empty": "The image has no bytes.",
    "too_large": "The image has more bytes than the limit.",
    "too_many_pixels": "The picture has more pixels than the limit (a possible decompression bomb).",
    "too_small": "The picture is too small to be analysed.",
    "unsupported_type": "The bytes are not an image of a supported type.",
    "truncated": "The image ends before its picture does.",
    "corrupt": "The image cannot be decoded.",
    "decoder_crashed": "The image makes the decoder crash or run out of memory or time.",
    "checksum_mismatch": "The bytes are not the ones that the event announced.",
    "object_missing": "The object store has no such key.",
    "url_not_allowed": "The URL's scheme, host, port or address is not allowed.",
    "url_failed": "The URL answered with an error that will not go away.",
    "url_too_slow": "The URL did not deliver in time, however often it was asked.",
}
"""Every code that a `rejected` verdict can carry, with its meaning."""

"""Guard and fingerprint in one go, for a process pool: one decoding of the bytes serves both.

In: the bytes of an upload and the limits. Out: `Examined`, or `Rejected`. Everything here crosses process borders, so
the function stands at the top level and its values are plain.

A JPEG is decoded at reduced size (its inverse transform is computed at 1/2, 1/4 or 1/8). That still reads the file's
entropy-coded data to the last byte, so a truncated file is noticed as surely as by decoding it whole, in a tenth of
the time.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.events import Fingerprint, StoredImage
from services.core.intake.fingerprint import SIDE, fingerprint
from services.core.intake.guard import Limits, admit
from services.core.intake.keys import image_key

__all__ = ["Examined", "Limits", "examine"]


@dataclass(frozen=True, slots=True)
class Examined:
    """An upload that may come in: its full upright size in pixels, its real format, what it looks like.

    `notes` are slugs that say what decoding changed, e.g. `exif_rotated`.
    """

    width: int
    height: int
    format: str
    fingerprint: Fingerprint
    notes: tuple[str, ...]

    @property
    def media_type(self) -> str:
        """The content type by content, e.g. `image/jpeg`."""
        return f"image/{self.format.lower()}"

    def stored(self, data: bytes, sha256: str) -> StoredImage:
        """The upload as it lies in the object store: its bytes, under the key of their SHA-256 (hexadecimal)."""
        return StoredImage(
            object_key=image_key(sha256),
            sha256=sha256,
            size_bytes=len(data),
            width=self.width,
            height=self.height,
            format=self.format,
        )


def examine(data: bytes, limits: Limits) -> Examined:
    """Lets an upload in and fingerprints it. Raises Rejected, see `guard.admit`."""
    picture = admit(data, limits, max_side=SIDE)
    return Examined(picture.width, picture.height, picture.format, fingerprint(picture), picture.notes)

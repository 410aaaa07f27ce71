"""Where things lie in the object store: by the hash of their content, so that writing twice is writing once."""

from __future__ import annotations

import hashlib
import re

from services.core.errors import Broken

_SHA256 = re.compile(r"[0-9a-f]{64}")


def image_key(sha256: str) -> str:
    """`images/sha256/ab/abcdef...`: the key of an image with that lower-case hexadecimal SHA-256. Raises Broken."""
    if not _SHA256.fullmatch(sha256):
        raise Broken(f"not a lower-case hexadecimal SHA-256: {sha256!r}")
    return f"images/sha256/{sha256[:2]}/{sha256}"


def mask_key(png: bytes) -> str:
    """`masks/sha256/ab/abcdef....png`: the key of a soft mask's PNG."""
    digest = hashlib.sha256(png).hexdigest()
    return f"masks/sha256/{digest[:2]}/{digest}.png"


def features_key(sha256: str, method: str) -> str:
    """`features/sift-3/sha256/ab/abcdef...`: the local features of an image, as a method of verification sees them."""
    return f"features/{method}" + image_key(sha256).removeprefix("images")


def incoming_key(sha256: str) -> str:
    """`incoming/sha256/ab/abcdef...`: where an image waits for the guard. `images/` is for those that passed it."""
    return "incoming" + image_key(sha256).removeprefix("images")

"""Cases whose answer is known: which verdicts can become one. Pure.

In: the revisions of an upload's verdict, the policy. Out: the revision to show, and as what; or why it will not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.events import Path, VerdictReached
from services.core.policy import Policy
from services.core.review.cases import Kind, answerable


@dataclass(frozen=True, slots=True)
class Usable:
    """What is shown: the verdict as it stood before a moderator decided it, as a case of this kind."""

    verdict: VerdictReached
    kind: Kind


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why an upload will not do. `code` is a stable slug."""

    code: str
    text: str


def honeypot_of(revisions: Sequence[VerdictReached], policy: Policy) -> Usable | Unusable:
    """What to show of an upload whose revisions these are, the first one first; there is one at least."""
    newest = revisions[-1]
    if newest.path is not Path.REVIEWED:
        return Unusable("not_settled", f"No moderator has decided upload {newest.upload_id!r} yet.")
    before = [each for each in revisions if each.path is not Path.REVIEWED]
    if not before:
        return Unusable("not_settled", f"Upload {newest.upload_id!r} has no verdict from before it was decided.")
    kind = answerable(before[-1], policy)
    if kind is None:
        text = f"Upload {newest.upload_id!r} would stand out: by its verdict no person would be asked."
        return Unusable("stands_out", text)
    return Usable(before[-1], kind)

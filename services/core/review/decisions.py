"""What a moderator decides about a case, and what two who decide the same case make of it. Pure.

In: a decision as it was sent, the policy's rules for reviews. Out: what is wrong with it, the event of each upload, and
whether two people agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import uuid5

from services.core.events import NAMESPACE, Decision, ReviewDecided
from services.core.policy import Reviewed, ReviewPolicy, chosen

Part = Literal["single", "first", "second", "final", "honeypot"]
"""What a decision is for: the one word on a case; the first or second of two that are blind to each other; a lead's
word over both; an answer to a case whose answer is known."""


@dataclass(frozen=True, slots=True)
class Word:
    """A decision in full. `mask_key` is a corrected mask, `mask_of` the SHA-256 of the content it was drawn on."""

    decision: Reviewed
    reason_codes: tuple[str, ...] = ()
    comment: str | None = None
    mask_key: str | None = None
    mask_of: str | None = None


def fault(word: Word, rules: ReviewPolicy) -> str | None:
    """Why a decision cannot be taken as it is, for the person who made it; None where it can."""
    known = {reason.code: reason for reason in rules.reasons}
    if unknown := [code for code in word.reason_codes if code not in known]:
        return f"There is no reason code {unknown[0]!r} in the policy."
    if unfit := [code for code in word.reason_codes if word.decision not in known[code].decisions]:
        return f"The reason code {unfit[0]!r} does not go with the decision {word.decision}."
    if len(set(word.reason_codes)) < len(word.reason_codes):
        return "A reason code is given twice."
    if word.decision in rules.reason_required and not word.reason_codes:
        return f"The decision {word.decision} needs a reason code."
    if word.mask_key is not None and word.decision != Decision.MANIPULATED.value:
        return "A corrected mask goes with the decision manipulated alone."
    return None


def event(
    word: Word,
    decision_id: str,
    *,
    moderator: str,
    tenant: str,
    upload_id: str,
    sha256: str | None,
    of_revision: int,
    decided_at: datetime,
) -> ReviewDecided:
    """The event of one upload of a decision. A mask goes along where it was drawn on the very same content."""
    return ReviewDecided(
        decision_id=str(uuid5(NAMESPACE, f"review-of-case/{decision_id}/{upload_id}")),
        upload_id=upload_id,
        tenant=tenant,
        of_revision=of_revision,
        moderator=moderator,
        decision=word.decision,
        reason_codes=word.reason_codes,
        comment=word.comment,
        corrected_mask_key=word.mask_key if sha256 is not None and sha256 == word.mask_of else None,
        decided_at=decided_at,
    )


def chosen_of_two(first: Word, second: Word) -> Literal["first", "second"] | None:
    """Which of two decisions is published; None where they disagree and a lead has to look.

    Of two that agree the first, unless only the second shows where the picture was changed.
    """
    if first.decision != second.decision:
        return None
    return "second" if first.mask_key is None and second.mask_key is not None else "first"


def unseen(members: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """What was chosen and is no member, in the order of the choice."""
    known = set(members)
    return tuple(each for each in chosen if each not in known)


def part_of(case_id: str, *, honeypot: bool, escalated: bool, decided_once: bool, second_share: float) -> Part:
    """What the next decision on a case is for. What was escalated, a dispute included, is a lead's alone."""
    if honeypot:
        return "honeypot"
    if escalated:
        return "final"
    if decided_once:
        return "second"
    return "first" if chosen(f"second/{case_id}", second_share) else "single"

"""What the review API takes and answers: the bodies, as OpenAPI describes them.

In: cases and decisions of the clients. Out: the same, for one person. Nothing here tells a case with a known answer, or
one that two people decide, from any other: `part` and `withheld` stay inside.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from services.clients.review_queue import Note
from services.clients.review_rows import Case, Decided, Member, State
from services.core.access import Person
from services.core.events import VerdictReached
from services.core.policy import Reviewed
from services.core.review.cases import Kind, priority
from services.core.review.quality import Exposure

Text = Annotated[str, Field(min_length=1, max_length=4000)]


class Body(BaseModel):
    """What is sent to us. A field that we do not know is an error."""

    model_config = ConfigDict(extra="forbid")


class Wanted(Body):
    """Which case comes next."""

    tenant: Annotated[str | None, Field(max_length=100)] = None
    kind: Kind | None = None
    escalated: bool | None = None


class Said(Body):
    """A note to whoever decides the case."""

    note: Text


class Decide(Body):
    """A decision. `members`: `shown`, `all`, or upload ids; `mask` as the API answered it.

    `upload_id` and `revision` are what was looked at: where the case shows something else by now, nothing is decided.
    """

    decision: Reviewed
    reason_codes: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    comment: Annotated[str | None, Field(max_length=4000)] = None
    mask: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    upload_id: Annotated[str | None, Field(max_length=200)] = None
    revision: Annotated[int | None, Field(ge=0)] = None
    members: Literal["shown", "all"] | Annotated[list[str], Field(min_length=1, max_length=10_000)] = "shown"


class LockShown(BaseModel):
    """Who has a case before them."""

    by: str
    mine: bool
    until: datetime
    expired: bool


class CaseSummary(BaseModel):
    """A case in a list. `upload_id` is the member that is shown, `members` counts those still to be decided."""

    id: str
    tenant: str
    kind: Kind
    state: State
    escalated: bool
    priority: float
    members: int
    opened_at: datetime
    upload_id: str
    revision: int
    filename: str | None
    score: float | None
    decision: str | None
    lock: LockShown | None

    @classmethod
    def of(cls, case: Case, now: datetime) -> Self:
        """The case, with its priority by now."""
        plain = {name: getattr(case, name) for name in cls.model_fields if name not in ("priority", "lock")}
        lock = None if case.lock is None else LockShown(**{n: getattr(case.lock, n) for n in LockShown.model_fields})
        return cls(**plain, priority=round(priority(case.rank, now), 4), lock=lock)


class DecisionShown(BaseModel):
    """A decision. `sent` of its `uploads` are published: the progress where they are many."""

    id: str
    case_id: str
    tenant: str
    by: str
    mine: bool
    decision: Reviewed
    reason_codes: tuple[str, ...]
    comment: str | None
    has_mask: bool
    decided_at: datetime
    undo_until: datetime
    undone_at: datetime | None
    uploads: int
    sent: int
    state: Literal["undoable", "final", "undone"]

    @classmethod
    def of(cls, decided: Decided, person: Person, now: datetime) -> Self:
        """The decision, as a person may see it."""
        undoable = decided.publish_at > now and decided.sent == 0
        final = decided.withheld and not undoable  # a withheld decision looks like one that is published
        return cls(
            id=decided.id,
            case_id=decided.case_id,
            tenant=decided.tenant,
            by=decided.name,
            mine=decided.person == person.subject,
            decision=decided.word.decision,
            reason_codes=decided.word.reason_codes,
            comment=decided.word.comment,
            has_mask=decided.word.mask_key is not None,
            decided_at=decided.decided_at,
            undo_until=decided.publish_at,
            undone_at=decided.undone_at,
            uploads=decided.uploads,
            sent=decided.uploads if final and decided.undone_at is None else decided.sent,
            state="undone" if decided.undone_at is not None else "undoable" if undoable else "final",
        )


class NoteShown(BaseModel):
    """What somebody said of a case; for leads."""

    kind: str
    by: str
    text: str
    at: datetime


class CaseShown(CaseSummary):
    """One case: the verdict to decide on, and the revisions before it. `notes` are for leads."""

    verdict: VerdictReached
    revisions: list[VerdictReached]
    settled_because: str | None
    notes: list[NoteShown]
    decisions: list[DecisionShown]
    bulk_limit: int | None


class MemberShown(BaseModel):
    """An upload of a case."""

    upload_id: str
    revision: int
    state: State
    filename: str | None
    score: float | None
    decision: str
    sha256: str
    joined_at: datetime

    @classmethod
    def of(cls, member: Member) -> Self:
        """The member, without what is for us alone."""
        return cls(**{name: getattr(member, name) for name in cls.model_fields})


class ExposureShown(BaseModel):
    """What somebody has seen today (UTC)."""

    cases: int
    minutes: float
    cases_limit: int | None
    minutes_limit: float | None
    used_up: bool

    @classmethod
    def of(cls, exposure: Exposure) -> Self:
        """The exposure, minutes to a tenth."""
        return cls(
            cases=exposure.cases,
            minutes=round(exposure.minutes, 1),
            cases_limit=exposure.cases_limit,
            minutes_limit=exposure.minutes_limit,
            used_up=exposure.used_up,
        )


class QueuePage(BaseModel):
    """A page of the queue. `open` cases, or `more` than that; `mine`: those that the person has before them."""

    cases: list[CaseSummary]
    next_cursor: str | None
    next: str | None
    open: int
    more: bool
    oldest_at: datetime | None
    mine: list[CaseSummary]
    exposure: ExposureShown


class NextCase(BaseModel):
    """The next case, or why there is none."""

    case: CaseShown | None
    why: Literal["queue_empty", "budget_used_up"] | None
    exposure: ExposureShown


class Held(BaseModel):
    """Until when a lock holds."""

    until: datetime


class MemberPage(BaseModel):
    """A page of a case's members."""

    members: list[MemberShown]
    next_cursor: str | None
    next: str | None
    total: int


class DecisionPage(BaseModel):
    """A page of a person's decisions."""

    decisions: list[DecisionShown]
    next_cursor: str | None
    next: str | None


class DecidedCase(BaseModel):
    """A decision and what became of its case."""

    decision: DecisionShown
    case: CaseSummary


class MaskKept(BaseModel):
    """A drawn mask; `mask` goes into the decision. `area` 0..1 is what it marks."""

    mask: str
    width: int
    height: int
    area: float


class ReasonShown(BaseModel):
    """A reason code and the key that chooses it."""

    code: str
    label: str
    key: str
    decisions: tuple[Reviewed, ...]


class Rules(BaseModel):
    """What the page has to know to let somebody decide."""

    reasons: list[ReasonShown]
    reason_required: tuple[Reviewed, ...]
    undo_s: float
    lock_s: float
    heartbeat_s: float


class ChoicesShown(BaseModel):
    """How pictures are shown to somebody. `opacity` of the mask is 0..1."""

    blur: bool
    greyscale: bool
    opacity: float
    theme: Literal["system", "light", "dark"]


class Choose(Body):
    """Choices to change; null goes back to the organisation's own, what is left out stays."""

    blur: bool | None = None
    greyscale: bool | None = None
    opacity: Annotated[float | None, Field(ge=0, le=1)] = None
    theme: Literal["system", "light", "dark"] | None = None


def note_shown(note: Note) -> NoteShown:
    """A note."""
    return NoteShown(kind=note.kind, by=note.by, text=note.text, at=note.at)

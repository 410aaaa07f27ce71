"""The verdict: findings of the models and a policy in, decision and reasons in words out. Pure.

Decisions are `manipulated`, `no_evidence` or `inconclusive`. "Authentic" is never said: where nothing was found, that
is what the reason says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.core.errors import REJECTION_CODES, Broken, Rejected
from services.core.events import (
    Candidate,
    Decision,
    ImageIntaken,
    ImageUploaded,
    Mask,
    ModelVersion,
    Path,
    Reason,
    VerdictReached,
)
from services.core.evidence import CopiedPart
from services.core.judge.again import first_reasons
from services.core.judge.route import Alone, Compare, Identical, Route
from services.core.policy import PathPolicy, Policy


@dataclass(frozen=True, slots=True)
class Finding:
    """What one path found: calibrated `score` 0..1, the mask, which kind of pair it saw (constrained only), `notes` on
    evidence that was missing or weak, and `copies` of parts of the picture (both unconstrained only)."""

    model: ModelVersion
    score: float
    mask: Mask
    kind: Literal["spg", "sdg", "unrelated"] | None = None
    notes: tuple[str, ...] = ()
    copies: tuple[CopiedPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision with what stands behind it. `notes` are those of the unconstrained path, where it decided."""

    decision: Decision
    path: Path
    score: float
    reasons: tuple[Reason, ...]
    mask: Mask | None = None
    candidate: Candidate | None = None
    second_score: float | None = None
    notes: tuple[str, ...] = ()


PATH_OF_KIND = {"spg": Path.CONSTRAINED_SPG, "sdg": Path.CONSTRAINED_SDG}


def needs_unconstrained(route: Route, constrained: Finding | None) -> bool:
    """Whether the unconstrained path must look: alone, both asked for, or the pair turned out to be unrelated."""
    match route:
        case Alone():
            return True
        case Identical():
            return False
        case Compare():
            return route.both or (constrained is not None and constrained.kind == "unrelated")


def decide(route: Route, constrained: Finding | None, unconstrained: Finding | None, policy: Policy) -> Outcome:
    """The outcome of an upload. Raises Broken where a finding is missing that the route asks for."""
    if isinstance(route, Identical):
        text = f"The file is byte for byte the registered original {route.candidate.original_id}."
        return Outcome(
            Decision.NO_EVIDENCE, Path.IDENTICAL, 0.0, (Reason(code="identical_to_original", text=text),),
            candidate=route.candidate,
        )  # fmt: skip
    if isinstance(route, Compare) and constrained is not None and constrained.kind != "unrelated":
        return _compared(route.candidate, constrained, unconstrained, policy)
    if unconstrained is None:
        raise Broken("no finding to decide on: the route asks for the unconstrained path")
    return _alone(unconstrained, policy, compared=constrained is not None)


def _level(finding: Finding, thresholds: PathPolicy) -> Decision:
    """What score and flagged area say by themselves."""
    flagged = finding.mask.area >= thresholds.least_area
    if finding.score >= thresholds.manipulated_at:
        return Decision.MANIPULATED if flagged else Decision.INCONCLUSIVE
    if finding.score >= thresholds.doubtful_at:
        return Decision.INCONCLUSIVE
    return Decision.NO_EVIDENCE


def _compared(candidate: Candidate, finding: Finding, second: Finding | None, policy: Policy) -> Outcome:
    """The constrained path's outcome; `second` is the unconstrained finding where both looked."""
    level = _level(finding, policy.constrained)
    if finding.kind == "sdg" and level is Decision.NO_EVIDENCE:
        level = Decision.INCONCLUSIVE  # something of the original is in another picture: not the same, and not nothing
    reasons = [_shown(level, finding, candidate)]
    if level is Decision.MANIPULATED and finding.mask.qes < policy.least_qes:
        level = Decision.INCONCLUSIVE
        reasons.append(Reason(code="low_qes", text=f"The mask is not decisive (QES {finding.mask.qes:.2f})."))
    if candidate.trusted or second is None:
        path = PATH_OF_KIND[finding.kind or "spg"]
        return Outcome(
            level, path, finding.score, tuple(reasons), finding.mask, candidate, second.score if second else None
        )
    return _against_untrusted(candidate, finding, second, level, reasons, policy)


def _against_untrusted(
    candidate: Candidate, finding: Finding, second: Finding, level: Decision, reasons: list[Reason], policy: Policy
) -> Outcome:
    """An earlier upload is no proof: a difference needs the other path's word, and sameness proves nothing."""
    alone = _alone(second, policy, compared=False)
    if level is Decision.NO_EVIDENCE:
        text = f"It shows the same as the earlier upload {candidate.original_id}, for which nobody vouches."
        same = Reason(code="same_as_earlier_upload", text=text)
        return Outcome(
            alone.decision,
            alone.path,
            alone.score,
            (*alone.reasons, same),
            alone.mask,
            candidate,
            finding.score,
            alone.notes,
        )
    decision = Decision.INCONCLUSIVE
    if level is Decision.MANIPULATED and alone.decision is Decision.MANIPULATED:
        decision = Decision.MANIPULATED
        reasons.append(alone.reasons[0])
    else:
        text = "Nobody vouches for that earlier upload: either of the two may be the edited one."
        reasons.append(Reason(code="untrusted_original", text=text))
    path = PATH_OF_KIND[finding.kind or "spg"]
    return Outcome(decision, path, finding.score, tuple(reasons), finding.mask, candidate, second.score)


def _alone(finding: Finding, policy: Policy, *, compared: bool) -> Outcome:
    """The unconstrained path's outcome. `compared` says that a candidate was tried and turned out unrelated."""
    level = _level(finding, policy.unconstrained)
    area = f"{finding.mask.area:.1%}"
    text = {
        Decision.MANIPULATED: f"Traces of editing were found in {area} of the picture (score {finding.score:.2f}).",
        Decision.INCONCLUSIVE: f"There are weak traces of editing (score {finding.score:.2f}, {area} flagged).",
        Decision.NO_EVIDENCE: f"No evidence of editing was found (score {finding.score:.2f}).",
    }[level]
    code = {
        Decision.MANIPULATED: "traces_found",
        Decision.INCONCLUSIVE: "weak_traces",
        Decision.NO_EVIDENCE: "no_traces",
    }[level]
    reasons = [Reason(code=code, text=text)]
    reasons += [Reason(code="copied_within", text=part.words()) for part in finding.copies]
    if compared:
        reasons.append(Reason(code="candidate_unrelated", text="The candidate original turned out to be unrelated."))
    else:
        reasons.append(Reason(code="no_original", text="No original was known to compare it with."))
    mask = finding.mask if level is not Decision.NO_EVIDENCE else None
    return Outcome(level, Path.UNCONSTRAINED, finding.score, tuple(reasons), mask, notes=finding.notes)


def _shown(level: Decision, finding: Finding, candidate: Candidate) -> Reason:
    """What the comparison showed: a difference from the same picture, or an object of another one."""
    whose = "original" if candidate.trusted else "earlier upload"
    if finding.kind == "sdg":
        return _object(level, finding, f"{whose} {candidate.original_id}")
    match level:
        case Decision.MANIPULATED:
            text = f"{finding.mask.area:.1%} of the picture differs from the {whose} {candidate.original_id}."
            return Reason(code="differs_from_original", text=text)
        case Decision.INCONCLUSIVE:
            text = f"It differs slightly from the {whose} {candidate.original_id} (score {finding.score:.2f})."
            return Reason(code="differs_slightly", text=text)
        case _:
            text = f"It shows the same as the {whose} {candidate.original_id}."
            return Reason(code="matches_original", text=text)


def _object(level: Decision, finding: Finding, whose: str) -> Reason:
    if level is Decision.MANIPULATED:
        text = f"{finding.mask.area:.1%} of the picture shows an object of the {whose}; the rest is another picture."
        return Reason(code="object_of_original", text=text)
    text = f"It may show an object of the {whose} (score {finding.score:.2f})."
    return Reason(code="object_doubtful", text=text)


def judged(
    intake: ImageIntaken,
    outcome: Outcome,
    models: tuple[ModelVersion, ...],
    policy: Policy,
    *,
    now: datetime,
    timings_ms: dict[str, float],
) -> VerdictReached:
    """The verdict event of an outcome."""
    return VerdictReached(
        upload_id=intake.upload_id,
        tenant=intake.tenant,
        decision=outcome.decision,
        path=outcome.path,
        score=outcome.score,
        reasons=outcome.reasons,
        image=intake.image,
        mask=outcome.mask,
        candidate=outcome.candidate,
        second_score=outcome.second_score,
        notes=outcome.notes,
        models=models,
        policy_version=policy.version,
        index_version=intake.index_version,
        filename=intake.filename,
        uploaded_at=intake.uploaded_at,
        judged_at=now,
        timings_ms={**intake.timings_ms, **timings_ms},
    )


def reused(
    intake: ImageIntaken, earlier: VerdictReached, *, now: datetime, timings_ms: dict[str, float]
) -> VerdictReached:
    """The verdict of an exact duplicate: what was found before, said of this upload."""
    text = f"The same file was judged before, as upload {earlier.upload_id}, by the same models and policy."
    return earlier.model_copy(
        update={
            "upload_id": intake.upload_id,
            "revision": 0,
            "path": Path.REUSED,
            "reasons": (*first_reasons(earlier), Reason(code="reused", text=text)),
            "image": intake.image,
            "reused_from": earlier.upload_id,
            "index_version": intake.index_version,
            "filename": intake.filename,
            "uploaded_at": intake.uploaded_at,
            "judged_at": now,
            "timings_ms": {**intake.timings_ms, **timings_ms},
        }
    )


def rejected(upload: ImageUploaded | ImageIntaken, why: Rejected, policy: Policy, *, now: datetime) -> VerdictReached:
    """The verdict of an upload that cannot be analysed, with the rejection's code and the reason in words."""
    detail = why.message[:1].upper() + why.message[1:]
    text = f"{REJECTION_CODES[why.code]} {detail}".strip()
    return VerdictReached(
        upload_id=upload.upload_id,
        tenant=upload.tenant,
        decision=Decision.REJECTED,
        path=Path.REJECTED,
        reasons=(Reason(code=why.code, text=text),),
        policy_version=policy.version,
        filename=upload.filename,
        uploaded_at=upload.uploaded_at,
        judged_at=now,
    )

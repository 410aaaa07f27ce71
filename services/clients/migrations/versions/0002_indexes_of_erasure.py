"""Indexes for what erasure and retention ask of large tables, built while everything else goes on.

Without them each picture that goes costs a walk through the whole ledger: for the verdicts that name it as their
original, for the masks that another verdict has too, for verified pairs and for contents of the same hash.
"""

from __future__ import annotations

from services.clients.migrating import build_index

revision = "0002"
down_revision = "0001"

_MASK_OF = {"ledger": "object_key", "verdict_history": "object_key", "hard_case": "mask_key",
            "review": "corrected_mask_key"}  # fmt: skip


def upgrade() -> None:
    """Each index alone, outside a transaction: no statement of anybody waits for it."""
    build_index("ledger_of_candidate", "ledger (tenant, candidate_sha256) where candidate_sha256 is not null")
    build_index("geometry_of_candidate", "geometry (candidate_sha256)")
    build_index("content_of_pdq", "content (pdq)")
    build_index("review_case_of_content", "review_case (tenant, cluster)")
    build_index("ledger_masked", 'ledger (tenant, judged_at) where event like \'%"object_key":"masks/%\'')
    for table, field in _MASK_OF.items():
        key = f"""substring(event from '"{field}":"(masks/[^"]+)"')"""
        build_index(f"{table}_of_mask", f"{table} (({key})) where {key} is not null")

"""Where things stand, counted by a real PostgreSQL."""

from __future__ import annotations

from services.clients.database import Database
from services.clients.late import Uploads
from services.clients.ledger import Ledger
from services.clients.standing import Standings
from services.metrics import Metrics
from services.stream.standing import Reporting
from tests.clients.examples import verdict


async def test_an_upload_without_a_verdict_is_counted_until_it_has_one(database: Database) -> None:
    standings = Standings(database)
    before = (await standings.now(patience_s=0)).unjudged
    judged = verdict(upload_id="u-standing", tenant="t-standing")
    assert judged.image is not None
    await Uploads(database).remember(judged.tenant, judged.upload_id, judged.image.sha256)
    assert (await standings.now(patience_s=0)).unjudged == before + 1
    assert (await standings.now()).unjudged == 0  # it came a moment ago
    await Ledger(database).claim(judged)
    assert (await standings.now(patience_s=0)).unjudged == before


async def test_the_metrics_say_what_the_database_says(database: Database) -> None:
    metrics = Metrics()
    await Reporting(Standings(database), metrics).look()
    assert metrics.registry.get_sample_value("pentimento_unjudged_uploads") == 0
    assert metrics.registry.get_sample_value("pentimento_round_open_seconds") == 0

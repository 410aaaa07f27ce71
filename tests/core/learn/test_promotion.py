"""The stack of versions that served, from what was promoted and rolled back."""

from __future__ import annotations

from datetime import UTC, datetime

from services.core.learn.promotion import Action, Promotion, Release, State, open_one, served

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def promotion(version: str, before: str, action: Action = "promoted", state: State = "done") -> Promotion:
    return Promotion(1, "unconstrained", version, before, action, "a" * 64, "why", state, NOON, published=False)


def test_a_rollback_takes_away_what_the_last_promotion_put_on_top() -> None:
    history = [promotion("2", "1"), promotion("3", "2")]
    assert served(history) == ["1", "2", "3"]
    history.append(promotion("3", "2", "rolled_back"))
    assert served(history) == ["1", "2"]
    history.append(promotion("4", "2"))
    assert served(history) == ["1", "2", "4"]


def test_what_is_not_done_did_not_serve() -> None:
    begun = promotion("4", "2", state="begun")
    history = [promotion("2", "1"), promotion("3", "2", state="given_up"), begun]
    assert served(history) == ["1", "2"]
    assert open_one(history) is begun
    assert served([begun]) == []


def test_the_event_of_a_rollback_names_what_stopped_serving_and_what_serves_again() -> None:
    done = promotion("3", "2", "rolled_back")
    event = done.event()
    assert (done.serves, event.version, event.previous_version, event.action) == ("2", "3", "2", "rolled_back")
    assert event.event_id() == done.event().event_id() != promotion("3", "2").event().event_id()


def test_an_archive_lies_under_its_content_and_is_not_loaded_by_itself() -> None:
    release = Release("unconstrained", "2", "ab" * 32, 10)
    assert release.object_key == f"models/sha256/ab/{'ab' * 32}.mar"
    assert release.file_name == "promoted-unconstrained-abababababab.mar"

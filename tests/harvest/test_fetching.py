"""What is here already is not fetched, and what was fetched must be what the list announced."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from services.clients.fetch import Fetcher
from tests.harvest.web import Web, served
from trainer.harvest.fetching import Web as Reach
from trainer.harvest.fetching import fetch, found
from trainer.harvest.journal import Journal, Store
from trainer.harvest.lanes import Pace
from trainer.harvest.sources import Source


def reach(site: Web) -> Reach:
    def fetcher() -> Fetcher:
        return Fetcher(
            allowed_hosts=["localhost"], max_bytes=1000, timeout_s=20, allow_http=True, ports=(site.port,),
            allowed_networks=("127.0.0.0/8", "::1/128"),
        )  # fmt: skip

    return Reach(fetcher, Pace(delay_s=0.0))


def test_announced_content_that_is_here_costs_no_request_and_other_content_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    here, gone = store.add(b"here"), sha256(b"what it once was").hexdigest()
    with served(Web({"/1": b"something else", "/2": b"plain"})) as site, Journal(tmp_path / "fetched.jsonl") as journal:
        known, replaced, plain = (
            Source(site.url(path), sha256=said) for path, said in (("/1", here), ("/1", gone), ("/2", ""))
        )
        assert fetch([known], store, journal, reach(site), 1000, lambda: None) == 0
        assert site.asked == []
        assert found(known, store, journal)["sha256"] == here
        fetch([known, replaced, plain], store, journal, reach(site), 1000, lambda: None)
        assert found(replaced, store, journal)["state"] == "failed"
        assert "replaced" in found(replaced, store, journal)["why"]
        assert found(known, store, journal)["sha256"] == here
        assert found(plain, store, journal)["sha256"] == sha256(b"plain").hexdigest()


def test_a_failed_url_is_asked_again_only_when_that_is_wanted(tmp_path: Path) -> None:
    with served(Web()) as site, Journal(tmp_path / "fetched.jsonl") as journal:
        gone, store = Source(site.url("/gone")), Store(tmp_path)
        for again, asked in ((False, 1), (False, 1), (True, 2)):
            fetch([gone], store, journal, reach(site), 1000, lambda: None, again=again)
            assert site.counts()["/gone"] == asked


def test_a_file_that_was_replaced_is_read_again_and_a_large_one_is_not_read_at_all(tmp_path: Path) -> None:
    file, store = tmp_path / "a.jpg", Store(tmp_path / "cache")
    with served(Web()) as site, Journal(tmp_path / "fetched.jsonl") as journal:
        source = Source("a.jpg", file)
        for content, state in (
            (None, "failed"),
            (b"first", "fetched"),
            (b"second one", "fetched"),
            (b"x" * 1001, "failed"),
        ):
            if content is not None:
                file.write_bytes(content)
            assert fetch([source], store, journal, reach(site), 1000, lambda: None) == 1
            known = found(source, store, journal)
            assert known["state"] == state
            assert content is None or known.get("sha256") in (None, sha256(content).hexdigest())

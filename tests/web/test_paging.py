"""Places in lists as words: what comes back, and what is refused."""

from __future__ import annotations

import pytest

from services.web.paging import moment_and_id, read_place, write_place
from services.web.problems import Refused


def test_a_place_comes_back_as_it_was_written() -> None:
    assert read_place(write_place("2026-11-30T12:00:00+00:00", "u/1"), moment_and_id)[1] == "u/1"


@pytest.mark.parametrize("values", [("2026-11-30T12:00:00+00:00", "u\x00"), ("2026-11-30T12:00:00", "u"), ("u",), ()])
def test_what_no_list_has_written_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="not one of ours"):
        read_place(write_place(*values), moment_and_id)

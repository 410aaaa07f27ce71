"""How long each stage took for one image: into the event, the metrics and the trace at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.telemetry import Telemetry


class Timings:
    """Milliseconds by stage, `milliseconds`, gathered while one image is worked on."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times one stage; one that is entered again adds up."""
        with self._telemetry.stage(name) as watch:
            yield
        self.milliseconds[name] = round(self.milliseconds.get(name, 0.0) + watch.seconds * 1000, 2)

"""How fast samples are made and how fast they are fitted, so that one sees which of the two starves the other.

In: seconds that a fit waited for samples and worked on them. Out: pictures a second.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Throughput:
    """Sums since the last report."""

    waited_s: float = 0.0
    worked_s: float = 0.0
    pictures: int = 0

    def add(self, waited_s: float, worked_s: float, pictures: int) -> None:
        """Counts a step."""
        self.waited_s += waited_s
        self.worked_s += worked_s
        self.pictures += pictures

    @property
    def fitting(self) -> float:
        """Pictures a second that the fit could take if none had to be waited for; 0 before the first."""
        return self.pictures / self.worked_s if self.worked_s > 0 else 0.0

    @property
    def reached(self) -> float:
        """Pictures a second that were fitted in fact; 0 before the first."""
        total = self.waited_s + self.worked_s
        return self.pictures / total if total > 0 else 0.0

    @property
    def waiting(self) -> float:
        """Share of the time that went by waiting for samples, 0..1."""
        total = self.waited_s + self.worked_s
        return self.waited_s / total if total > 0 else 0.0

    def line(self, making: float) -> str:
        """All of it in words; `making` is what the makers could make, pictures a second."""
        return (
            f"{self.reached:.1f} samples/s (making {making:.1f}, fitting {self.fitting:.1f}, "
            f"{self.waiting:.0%} of the time waiting for samples)"
        )

    def short(self, making: float) -> str:
        """What fits beside a progress bar."""
        return f"making {making:.0f}/s fitting {self.fitting:.0f}/s"

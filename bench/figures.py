"""What was measured, as values, and as the page `docs/benchmarks.md`.

In: rounds, arrivals, rates, bytes. Out: Markdown. Every figure of the page comes from the one run that it names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from bench.drivers import Arrival, Round, joined

GOAL_RATIO = 0.9
GOAL_OVERHEAD_MS = 25
GOAL_MEMORY_GB = 4
QUIET = 0.1  # share of the cores that may be busy with other work


@dataclass(frozen=True, slots=True)
class Setting:
    """Under which circumstances: date, machine kind, command, how many images at once.

    `busy_before` is the share of the cores, 0..1, that other work kept busy before anything was started.
    """

    date: str
    machine: str
    command: str
    at_once: int
    busy_before: float


@dataclass(frozen=True, slots=True)
class Runs:
    """What ran on the stack. `through` and `straight` are rounds with the same images, `*_alone` one image at a time.

    `repeated` counts verdicts that were delivered more than once.
    """

    through: tuple[Round, ...]
    straight: tuple[Round, ...]
    through_alone: Round
    straight_alone: Round
    duplicates: Round
    repeated: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that was measured. `peak_parts` is the memory of each component at the peak, in bytes."""

    runs: Runs
    fingerprints_per_s: float
    peak_bytes: int
    peak_parts: dict[str, int]

    @property
    def ratio(self) -> float:
        """Images a second through the stream over images a second straight to the model server."""
        return _rate(self.runs.through) / _rate(self.runs.straight)

    @property
    def overhead_ms(self) -> float:
        """What the stream adds to one image's way when nothing else is on its way, median."""
        alone, alone_straight = self.runs.through_alone.each, self.runs.straight_alone.each
        return (_percentile(alone, 50) - _percentile(alone_straight, 50)) * 1000


def page(figures: Figures, setting: Setting) -> str:
    """The Markdown page."""
    runs = figures.runs
    arrivals = [arrival for each in runs.through for arrival in each.arrivals]
    sections = [
        "# Benchmarks",
        f"Written by `{setting.command}` on {setting.date}: {setting.machine}. The whole embedded stack and the bench "
        f"share this one machine, of whose cores {setting.busy_before:.0%} were busy with other work before the run"
        f"{'' if setting.busy_before < QUIET else ': too much for these figures to mean anything'}. `make bench` "
        "repeats it.",
        "## The stream against the bare model server",
        f"{len(runs.through)} rounds of {len(runs.through[0].each)} images, {setting.at_once} on their way at once. In "
        "each round the same images go both ways, one way after the other, and the order alternates. *Straight* posts "
        "them to TorchServe's single-image model and waits for the mask; *through the stream* they are put into the "
        "object store and onto Kafka, guarded, fingerprinted, looked up, judged, and their verdicts read from Kafka.",
        _comparison(figures),
        "Upload to verdict is measured from handing over the file to holding the verdict. The images are mosaics of "
        f"the sample photographs, 1024 x 683 JPEG, no two alike; of {len(arrivals)} under load {_paths(arrivals)}. "
        f"Verdicts delivered more than once: {runs.repeated}.",
        "## Where the time goes",
        "Mean share of the time from upload to verdict. `unconstrained` is the model server's answer, its queue "
        "included; *between the stages* is the upload itself, Kafka, batching and waiting.",
        _stages(runs.through_alone.arrivals, arrivals),
        "## Parts",
        _parts(figures),
        "Memory at its peak: " + ", ".join(f"{name} {mb:.0f} MB" for name, mb in _largest(figures.peak_parts)) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _comparison(figures: Figures) -> str:
    """Both ways side by side."""
    through, straight = figures.runs.through, figures.runs.straight
    loaded, loaded_straight = joined(through).each, joined(straight).each
    alone, alone_straight = figures.runs.through_alone.each, figures.runs.straight_alone.each
    ratio = f"**ratio {figures.ratio:.2f}** (goal: {GOAL_RATIO})"
    overhead = f"**{figures.overhead_ms:+.0f} ms** (goal: {GOAL_OVERHEAD_MS})"
    rows = [
        ("images/s", f"{_rate(straight):.2f}", f"{_rate(through):.2f}", ratio),
        ("images/s, by round", _rates(straight), _rates(through), ""),
        ("p50 under load", _ms(loaded_straight, 50), _ms(loaded, 50), "waiting for the model included"),
        ("p95 under load", _ms(loaded_straight, 95), _ms(loaded, 95), ""),
        ("p50 one at a time", _ms(alone_straight, 50), _ms(alone, 50), overhead),
        ("p95 one at a time", _ms(alone_straight, 95), _ms(alone, 95), ""),
    ]
    return _table(("", "straight", "through the stream", ""), rows)


def _parts(figures: Figures) -> str:
    """What else was measured."""
    duplicates = figures.runs.duplicates
    waited = f"{_ms(duplicates.each, 50)} / {_ms(duplicates.each, 95)}"
    rows = [
        (f"uploads/s of {len(duplicates.each)} exact duplicates, no model call", f"{duplicates.rate:.0f}"),
        ("upload to verdict of a duplicate under that load, p50 / p95", waited),
        ("guard and fingerprint (decoding, PDQ), images/s per core", f"{figures.fingerprints_per_s:.0f}"),
        ("peak memory of the whole stack (PSS)", f"{figures.peak_bytes / 1e9:.2f} GB (goal: {GOAL_MEMORY_GB} GB)"),
    ]
    return _table(("what", "figure"), rows)


def _rate(rounds: Sequence[Round]) -> float:
    """Images a second over all rounds together."""
    return sum(len(each.each) for each in rounds) / sum(each.seconds for each in rounds)


def _rates(rounds: Iterable[Round]) -> str:
    return ", ".join(f"{each.rate:.2f}" for each in rounds)


def _percentile(values: Sequence[float], percent: int) -> float:
    """By linear interpolation between the nearest values."""
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]


def _ms(seconds: Sequence[float], percent: int) -> str:
    return f"{_percentile(seconds, percent) * 1000:.0f} ms"


def _paths(arrivals: Sequence[Arrival]) -> str:
    """How many took which path."""
    paths = Counter(arrival.verdict.path.value for arrival in arrivals)
    return ", ".join(f"{count} took the path `{path}`" for path, count in paths.most_common())


def _stages(alone: Sequence[Arrival], loaded: Sequence[Arrival]) -> str:
    """A table of every stage's mean milliseconds and share, one at a time and under load."""
    columns = [_shares(alone), _shares(loaded)]
    names = sorted({name for column in columns for name in column}, key=lambda name: -columns[0].get(name, (0, 0))[1])
    rows = []
    for name in names:
        cells = [column.get(name, (0.0, 0.0)) for column in columns]
        rows.append((name, *(f"{ms:.1f} ms, {share:.0%}" for ms, share in cells)))
    return _table(("stage", "one at a time", "under load"), rows)


def _shares(arrivals: Sequence[Arrival]) -> dict[str, tuple[float, float]]:
    """Stage to (mean milliseconds, share of the whole way)."""
    whole = fmean(arrival.seconds for arrival in arrivals) * 1000
    sums: dict[str, float] = defaultdict(float)
    for arrival in arrivals:
        for stage, ms in arrival.verdict.timings_ms.items():
            sums[f"`{stage}`"] += ms
    means = {stage: total / len(arrivals) for stage, total in sums.items()}
    means["between the stages"] = whole - sum(means.values())
    return {stage: (ms, ms / whole) for stage, ms in means.items()}


def _largest(parts: dict[str, int]) -> list[tuple[str, float]]:
    """Name and megabytes, the largest first."""
    return [(name, size / 1e6) for name, size in sorted(parts.items(), key=lambda part: -part[1])]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])

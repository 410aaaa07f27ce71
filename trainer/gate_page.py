"""The gate's report for people: a verdict in, Markdown and one self-contained HTML page out. Pure.

The page needs nothing else: pictures are `data:` URIs, and there are no scripts.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from trainer.gate_checks import Compared, Group, Report, groups
from trainer.tables import table

GROUP_COLUMNS = ("forged pictures", "n", "champion F1", "challenger F1", "difference", "interval")
QUALITY = 85

HEAD = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
"""
STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 1100px; padding: 24px; font: 15px/1.5 system-ui, sans-serif; }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 0; border-bottom: 1px solid #8884; }
figure { margin: 20px 0; } figure img { display: block; width: 100%; height: auto; border-radius: 6px; }
.pass { color: #2e7d5b; } .refuse { color: #c0452c; }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture to show: what the models made of it, and picture, truth and both masks in a strip [S,4*S,3] uint8."""

    row: Compared
    strip: np.ndarray


def markdown(report: Report) -> str:
    """The report as Markdown, without pictures."""
    parts = [
        f"# Gate: {_verdict(report)}\n",
        f"{_about(report)}\n",
        table(("check", "passed", "why"), [(each.name, _yes(each.passed), each.reason) for each in report.checks]),
        "## Groups\n",
        table(GROUP_COLUMNS, [_cells(group) for group in groups(report.rows, report.rules)]),
    ]
    return "\n".join(parts)


def html(report: Report, shown: list[Shown]) -> str:
    """The report as one page, with the pictures on which the two models differ most."""
    checks = _table(("check", "passed", "why"), [(each.name, _yes(each.passed), each.reason) for each in report.checks])
    grouped = _table(GROUP_COLUMNS, [_cells(group) for group in groups(report.rows, report.rules)])
    return (
        f"{HEAD}<title>Gate: {report.verdict} · Pentimento</title><style>{STYLE}</style></head>\n<body>"
        f'<h1 class="{report.verdict}">{escape(_verdict(report))}</h1><p>{escape(_about(report))}</p>\n{checks}'
        f"<h2>Groups</h2>{grouped}<h2>Where they differ most</h2>"
        f"<p>Picture, truth, champion, challenger.</p>{''.join(map(_figure, shown))}</body></html>\n"
    )


def _verdict(report: Report) -> str:
    return f"{report.challenger} {'passes' if report.passed else 'is refused'}"


def _about(report: Report) -> str:
    """What was compared, where and when."""
    setting = report.setting
    return (
        f"Against {report.champion} on {len(report.rows)} pictures (SHA-256 {report.pictures_sha256[:16]}), "
        f"{setting.date}, {setting.machine}, policy {setting.policy}. Differences are challenger minus champion on the "
        "same pictures; intervals are 95 % by paired bootstrap, those of the groups all together."
    )


def _yes(passed: bool) -> str:
    return "yes" if passed else "NO"


def _cells(group: Group) -> tuple[str, ...]:
    means = f"{group.champion:.3f}", f"{group.challenger:.3f}", f"{group.gain:+.3f}"
    return f"{group.kind}: {group.name}", str(group.count), *means, f"{group.low:+.3f} to {group.high:+.3f}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n"


def _figure(shown: Shown) -> str:
    row = shown.row
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(shown.strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    source = f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}"
    height, width = shown.strip.shape[:2]
    looks = f"flagged {row.champion.flagged:.1%} -> {row.challenger.flagged:.1%}"
    said = f"F1 {row.champion.f1:.2f} -> {row.challenger.f1:.2f}, {looks}" if row.forged else f"authentic, {looks}"
    text = escape(f"{row.data} {row.name} ({row.edit}): {said}")
    image = f'<img src="{source}" width="{width}" height="{height}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>\n"

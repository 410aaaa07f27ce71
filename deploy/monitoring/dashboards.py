"""Every dashboard, in the order in which one asks.

Every metric in them is exposed by a process of the stack (a test scrapes them all), and `docs/observability.md`
explains each.
"""

from __future__ import annotations

from deploy.monitoring.model_pages import DECISIONS, LEARNING, MODELS
from deploy.monitoring.stream_pages import DEAD_LETTERS, FLOW, LAGS, LATENCY

DASHBOARDS = (FLOW, LAGS, LATENCY, MODELS, DECISIONS, LEARNING, DEAD_LETTERS)

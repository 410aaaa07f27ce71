"""Dashboards, SLOs and alerts as code. `python -m monitoring` writes them to where the chart takes them from."""

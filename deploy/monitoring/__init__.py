"""Dashboards, SLOs and alerts as code. `python -m deploy.monitoring` writes them to where the chart takes them from."""

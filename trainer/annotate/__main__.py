"""`python -m trainer.annotate`: the command `pentimento learn annotate` under its other name."""

from __future__ import annotations

import typer

from services.cli.console import Commands
from services.cli.learn_annotate import annotate

app = typer.Typer(cls=Commands, add_completion=False)
app.command()(annotate)
app(prog_name="python -m trainer.annotate")

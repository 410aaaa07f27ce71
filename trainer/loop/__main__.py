"""`python -m trainer.loop`: the command `pentimento learn loop` under its other name."""

from __future__ import annotations

import typer

from services.cli.console import Commands
from services.cli.learn_loop import loop

app = typer.Typer(cls=Commands, add_completion=False)
app.command()(loop)
app(prog_name="python -m trainer.loop")

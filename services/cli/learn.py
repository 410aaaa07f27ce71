"""`pentimento learn`: from hard cases to the data that the next model is fitted on."""

from __future__ import annotations

import typer

from services.cli.learn_annotate import annotate
from services.cli.learn_samples import samples

learn = typer.Typer(help="From hard cases to datasets: annotate, samples.", no_args_is_help=True)
learn.command()(annotate)
learn.add_typer(samples, name="samples")

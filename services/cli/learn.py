"""`pentimento learn`: from hard cases to the next model."""

from __future__ import annotations

import typer

from services.cli.learn_annotate import annotate
from services.cli.learn_loop import abandon, loop, rounds
from services.cli.learn_samples import samples

learn = typer.Typer(
    help="From hard cases to the next model: annotate, samples, loop, rounds, abandon.", no_args_is_help=True
)
learn.command()(annotate)
learn.command()(loop)
learn.command()(rounds)
learn.command()(abandon)
learn.add_typer(samples, name="samples")

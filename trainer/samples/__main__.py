"""`python -m trainer.samples`: the commands `pentimento learn samples ...` under their other name."""

from __future__ import annotations

from services.cli.learn_samples import samples

samples(prog_name="python -m trainer.samples")

"""`python -m trainer.loop`: the command `pentimento learn loop` under its other name."""

from __future__ import annotations

import sys

from services.cli import app

app(["learn", "loop", *sys.argv[1:]], prog_name="pentimento")

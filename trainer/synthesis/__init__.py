"""Generated forgeries, deterministic by seed: photographs in, samples with exact masks out.

`python -m trainer.synthesis --photos DIR --sheet out.png` draws a contact sheet to look at.
"""

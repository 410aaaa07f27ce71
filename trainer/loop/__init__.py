"""The learning loop, round after round: `python -m trainer.loop`, which is `pentimento learn loop`."""

"""Hard cases to annotations: `python -m trainer.annotate`, which is `pentimento learn annotate`."""

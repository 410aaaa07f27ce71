"""Annotations to datasets: a manifest of samples, frozen versions of it as shards, and a reader for fits.

`python -m trainer.samples`, which is `pentimento learn samples`. Nothing here needs torch.
"""

"""Web supervision: forgeries and their originals from the web or from folders, to a data set of annotated forgeries.

In: a list of pairs, or two pools that nobody paired. Out: images, masks and a manifest that says where everything comes
from. The stages, in order: fetch, look, pair, sort out copies, annotate, write. Each notes what it did, so that a run
that was stopped at any moment goes on where it was. This is how the paper made MIMLv2 (arXiv 2508.20987).
"""

"""The services of Pentimento: everything but the networks (`model_archive`) and their fitting (`trainer`)."""

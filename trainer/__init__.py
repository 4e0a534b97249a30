"""A training run as a program: `tunescope train config.yaml`. It starts in `cli.py`; one run is `loop.train`."""

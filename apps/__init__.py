"""Entry points: `python -m apps.train` and its neighbours."""

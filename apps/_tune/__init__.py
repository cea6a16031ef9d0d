"""The parts of `python -m apps.tune`: settings, search space, study, trials, engines, outputs."""

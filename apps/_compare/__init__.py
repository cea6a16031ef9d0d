"""The parts of `python -m apps.compare`: settings, plan, child processes, outputs."""

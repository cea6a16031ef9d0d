"""Consistency trajectory models: jumps to any time, from a teacher or from the map's own ODE."""

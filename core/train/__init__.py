"""Training: configuration, state, step, loop, checkpoints and run folders."""

"""What `python -m apps.compare` is made of: settings, plan, child processes, outputs."""

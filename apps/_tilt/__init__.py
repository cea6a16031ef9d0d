"""Parts of `apps.tilt`."""

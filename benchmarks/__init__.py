"""Measurements of speed and memory, one command each."""

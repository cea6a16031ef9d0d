"""Drifting models: a one-step generator whose samples are moved until they stand still."""

from plugins.drifting.drift import Drift as Drift

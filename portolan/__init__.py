"""The face of the project: what notebooks and other packages use."""

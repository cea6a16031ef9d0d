"""Names of files of a comparison."""

EXAMPLES = "samples/examples.npz"
"""Where a run keeps the samples and real data that the common pages show."""

"""A run that teaches others and gives them its weights."""

import pytest

from tests.train.runs import make_run

TINY = ["--net", "mlp", "--net.width", "8", "--net.depth", "2", "--steps", "2", "--batch", "8"]
LABELLED = ["--data", "eight-gaussians", "--data.labelled"]


@pytest.fixture(scope="session")
def taught(tmp_path_factory):
    """A run of flow matching on labelled points, and its map with the averaged weights."""
    folder = tmp_path_factory.mktemp("runs") / "fm"
    return folder, make_run(folder, *TINY, *LABELLED, "--plugin", "fm").flow_map()

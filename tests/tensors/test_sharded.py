"""Arrays in several files are those of their index."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.errors import UserError
from core.tensors import open_tensors


def test_arrays_come_from_the_files_that_the_index_names(rng, tmp_path):
    arrays = {name: rng.normal(size=3).astype(np.float32) for name in "abc"}
    save_file({"a": arrays["a"], "b": 0 * arrays["b"]}, tmp_path / "1.safetensors")
    save_file({"b": arrays["b"], "c": arrays["c"]}, tmp_path / "2.safetensors")
    index = tmp_path / "w.safetensors.index.json"
    places = {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    found = open_tensors(index)
    assert set(found) == set("abc")
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name].read(), value)
    index.write_text(json.dumps({"weight_map": places | {"d": "1.safetensors"}}))
    with pytest.raises(UserError, match="1.safetensors has no d, which it lists there"):
        open_tensors(index)

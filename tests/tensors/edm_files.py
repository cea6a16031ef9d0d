"""Writes pickles as EDM's code writes them, instruction by instruction."""

import struct

import numpy as np

from tests.tensors.torch_files import (
    PROTO,
    STOP,
    Row,
    Writer,
    call,
    named,
    ordered,
    plain,
    text,
    whole,
)

TRACE = "import pathlib; pathlib.Path('trace').touch()\n"


def number(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


def raw(content: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content


def storage(values: np.ndarray, legacy: bool = True, kind: str | None = None) -> bytes:
    """A storage as a whole torch file."""
    writer = Writer(legacy)
    key = writer.add(Row.of(values, kind))
    return call("torch.storage", "_load_from_bytes", raw(writer.file(writer.storage(key))))


def tensor(values: np.ndarray, legacy: bool = True, made: bytes | None = None) -> bytes:
    strides = [s // values.itemsize for s in np.asarray(values, order="C").strides]
    sizes = [b"(" + b"".join(map(whole, v)) + b"t" for v in (values.shape, strides)]
    hooks = call("collections", "OrderedDict")
    held = storage(values, legacy) if made is None else made
    return call("torch._utils", "_rebuild_tensor_v2", held, whole(0), *sizes, b"\x89", hooks)


def parameter(values: np.ndarray, **how) -> bytes:
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_parameter", tensor(values, **how), b"\x88", hooks)


def state(parameters=None, buffers=None, modules=None, **attributes: bytes) -> bytes:
    """A module's `__dict__`."""
    return plain(
        training=b"\x89",
        _parameters=ordered(**(parameters or {})),
        _buffers=ordered(**(buffers or {})),
        _modules=ordered(**(modules or {})),
        _non_persistent_buffers_set=b"\x8f",
        _backward_hooks=ordered(),
        **attributes,
    )


def persistent(name: str, content: bytes, source: str = TRACE) -> bytes:
    """An object with the source text of its class."""
    meta = plain(
        type=text("class"), version=whole(6), module_src=text(source), class_name=text(name),
        state=content,
    )  # fmt: skip
    return call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def module(kind: str, content: bytes) -> bytes:
    """A module of torch's own."""
    where, _, name = f"torch.nn.modules.{kind}".rpartition(".")
    return named(where, name) + b")\x81" + content + b"b"


def scalar(value: float, kind: str = "f8", module: str = "numpy.core.multiarray") -> bytes:
    dtype = call("numpy", "dtype", text(kind), b"\x89", b"\x88")
    parts = [whole(3), text("<"), b"N", b"N", b"N", whole(-1), whole(-1), whole(0)]
    dtype += b"(" + b"".join(parts) + b"tb"
    return call(module, "scalar", dtype, raw(np.dtype(kind).type(value).tobytes()))


def array(values: np.ndarray) -> bytes:
    made = call(
        "numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), whole(0), raw(b"b")
    )
    return made + b"(" + whole(1) + raw(values.tobytes()) + b"tb"


def file(tree: bytes) -> bytes:
    return PROTO[:1] + b"\x04" + tree + STOP


def network(weight: np.ndarray, source: str = TRACE, legacy: bool = True) -> bytes:
    """A preconditioner, with a network of one dictionary of one block."""
    block = state({"weight": parameter(weight, legacy=legacy), "bias": b"N"}, num_heads=whole(1))
    inner = module(
        "container.ModuleDict", state(modules={"8x8_conv": persistent("Conv2d", block, source)})
    )
    filters = {"resample_filter": tensor(np.ones((1, 1, 2, 2), np.float16)), "none": b"N"}
    model = persistent("SongUNet", state(buffers=filters, modules={"enc": inner}), source)
    top = state(
        modules={"model": model},
        img_resolution=whole(8), sigma_data=number(0.5), sigma_max=number(80.0),
        skip_scale=scalar(0.5**0.5), many=scalar(3, "i8", "numpy._core.multiarray"),
        table=array(np.zeros(3)), use_fp16=b"\x89",
    )  # fmt: skip
    return persistent("EDMPrecond", top, source)


def pickled(weight: np.ndarray, **how) -> bytes:
    """A whole file: the network, and beside it what training needs."""
    kwargs = (
        named("dnnlib.util", "EasyDict") + b")\x81" + b"(" + text("path") + text("x.zip") + b"u"
    )
    loss = persistent("EDMLoss", plain(P_mean=number(-1.2)))
    entries = {"ema": network(weight, **how), "loss_fn": loss, "dataset_kwargs": kwargs}
    return file(plain(**entries, augment_pipe=b"N"))


def of_tensors(kinds: dict[str, str], tensors: dict[str, np.ndarray], place: str = "") -> bytes:
    """A module of modules that holds these tensors by their names; `kinds` names its classes by
    place, "" for the outermost, others are blocks."""
    here = {name: value for name, value in tensors.items() if "." not in name}
    below: dict[str, dict[str, np.ndarray]] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = value
    modules = {name: of_tensors(kinds, inner, f"{place}{name}.") for name, inner in below.items()}
    parameters = {name: parameter(value) for name, value in here.items()}
    return persistent(kinds.get(place, "UNetBlock"), state(parameters, modules=modules))

"""Files of trained networks as other programs write them, and what those networks give.

Each case writes its files into a folder, and says what the network's restatement in NumPy gives:
nothing of that is the code under test.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from safetensors.numpy import save_file

from tests.layouts import diffusers_networks, edm2_networks, edm_networks, imf_files
from tests.layouts import dit_files as files
from tests.layouts.test_autoencoder_kl import CONFIG as VAE
from tests.layouts.test_autoencoder_kl import GROUPS, LAYERS, SIZES
from tests.layouts.test_autoencoder_kl import made as made_autoencoder
from tests.layouts.test_diffusers_unet import ADM
from tests.layouts.test_transformers import diffusers_reference, flax_reference, torch_reference
from tests.nets.perceptions import test_dinov2
from tests.tensors import edm_files
from tests.tensors.torch_files import Writer, call, ordered, plain, text

C, HEADS, SIDE, CLASSES = files.CHANNELS, files.HEADS, files.SIDE, files.CLASSES


def first(x):
    """Images with the channel first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def torch_file(tensors, **beside) -> bytes:
    """A training checkpoint of torch: averages, raw weights and what lies `beside` them."""
    writer = Writer()
    ema = ordered(**{f"module.{name}": writer.tensor(value) for name, value in tensors.items()})
    raw = ordered(**{f"module.{name}": writer.tensor(0 * value) for name, value in tensors.items()})
    return writer.file(plain(model=raw, ema=ema, **beside))


def namespace(**flags: str) -> bytes:
    """The flags of a training script."""
    made = call("argparse", "Namespace")
    return made + plain(**{name: text(value) for name, value in flags.items()}) + b"b"


def nested(tensors) -> dict[str, Any]:
    """Parameters as flax nests them."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        *levels, last = name.split(".")
        here = tree
        for level in levels:
            here = here.setdefault(level, {})
        here[last] = value
    return tree


def packed(tree) -> bytes:
    """A state as flax's `msgpack_serialize` writes it, by the library."""

    def extension(x):
        if isinstance(x, np.ndarray | np.generic):
            content = msgpack.packb((x.shape, x.dtype.name, x.tobytes()), use_bin_type=True)
            return msgpack.ExtType(1 if isinstance(x, np.ndarray) else 3, content)
        raise TypeError(type(x))

    return msgpack.packb(tree, default=extension, strict_types=True)


def state(tensors) -> dict[str, Any]:
    """A training state of flax."""
    raw = nested({name: 0 * value for name, value in tensors.items()})
    opt = {"0": {"mu": raw, "count": np.int32(7)}, "1": {}}
    parts = {"params": {"net": raw}, "ema_params": {"net": nested(tensors)}}
    return {"step": 1000, **parts, "opt_state": opt, "rng": np.zeros(2, np.uint32)}


@dataclass
class Case:
    """Files that are written, flags that they need, and inputs and outputs of the original."""

    name: str
    tensors: dict[str, np.ndarray]
    flags: tuple[str, ...]
    io: dict[str, np.ndarray]
    kind: str
    error: float = 2e-6

    def write(self, folder, tensors=None) -> str:
        """Writes the file or folder with these tensors; its name."""
        return WRITERS[self.name](folder, self.tensors if tensors is None else tensors)

    def disturbed(self) -> dict[str, np.ndarray]:
        """The tensors with one weight that is another: of the last layer, by a tenth of its sum."""
        last = LAST_OF.get(self.kind, LAST)
        key = next(k for k in reversed(self.tensors) if k.endswith(last) and k[:2] != "v_")
        changed = self.tensors[key].copy()
        changed.flat[0] += 0.5
        return self.tensors | {key: changed}


LAST = (
    "final_layer.linear.weight", "final_layer.linear._flax_linear.kernel", "proj_out_2.weight",
    "u_final_layer.linear._flax_linear.kernel", "out_conv.weight", "conv_out.weight",
    "_aux_conv.weight",
)  # fmt: skip


LAST_OF = {"autoencoder-kl": "encoder.conv_out.weight", "dinov2": "norm.weight"}


def put(folder, name, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


def of_sit(folder, tensors):
    return put(folder, "checkpoint.pt", torch_file(tensors, args=namespace(path_type="Linear")))


def of_dit(folder, tensors):
    writer = Writer()
    tree = ordered(**{name: writer.tensor(value) for name, value in tensors.items()})
    return put(folder, "DiT-S-2.pt", writer.file(tree))


def of_flax(folder, tensors):
    return put(folder, "checkpoint_1000", packed(state(tensors)))


def of_orbax(folder, tensors):
    import orbax.checkpoint as ocp

    tree = state(tensors) | {"rng": np.zeros(2, np.int32)}
    ocp.PyTreeCheckpointer().save(folder.absolute() / "checkpoint_1000", tree)
    return "checkpoint_1000"


def of_edm(folder, tensors):
    kinds = {"": "EDMPrecond", "model.": "SongUNet"}
    content = edm_files.file(plain(ema=edm_files.of_tensors(kinds, tensors)))
    return put(folder, "edm.pkl", content)


def of_edm2(folder, tensors):
    kinds = {"": "Precond", "unet.": "UNet"}
    content = edm_files.file(plain(ema=edm_files.of_tensors(kinds, tensors)))
    return put(folder, "edm2.pkl", content)


def of_dinov2(folder, tensors):
    writer = Writer(legacy=True)
    tree = ordered(**{name: writer.tensor(value) for name, value in tensors.items()})
    return put(folder, "dinov2_vits14_pretrain.pth", writer.file(tree))


def of_diffusers(config, scheduler=None, shards=1):
    def write(folder, tensors):
        place = folder / "network"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        if scheduler is not None:
            (place / "scheduler").mkdir()
            said = json.dumps(scheduler)
            (place / "scheduler" / "scheduler_config.json").write_text(said)
        stem, keys = "diffusion_pytorch_model", list(tensors)
        if shards == 1:
            save_file(tensors, place / f"{stem}.safetensors")
            return "network"
        names = [f"{stem}-{k + 1:05d}-of-{shards:05d}.safetensors" for k in range(shards)]
        places = {key: names[k * shards // len(keys)] for k, key in enumerate(keys)}
        for name in names:
            part = {key: tensors[key] for key in keys if places[key] == name}
            save_file(part, place / name)
        index = {"metadata": {}, "weight_map": places}
        (place / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
        return "network"

    return write


DIT_CONFIG = {
    "_class_name": "DiTTransformer2DModel", "num_attention_heads": HEADS, "sample_size": SIDE,
    "norm_eps": 0.01, "norm_type": "ada_norm_zero",
}  # fmt: skip
DDPM_SCHEDULER = {
    "_class_name": "DDPMScheduler", "beta_schedule": "linear", "beta_start": 0.0001,
    "beta_end": 0.02, "num_train_timesteps": 1000, "prediction_type": "epsilon",
}  # fmt: skip
WRITERS = {
    "sit": of_sit, "dit": of_dit, "meanflow": of_flax, "meanflow-orbax": of_orbax, "imf": of_flax,
    "edm": of_edm, "edm2": of_edm2,
    "diffusers-unet": of_diffusers(ADM, DDPM_SCHEDULER),
    "diffusers-dit": of_diffusers(DIT_CONFIG, DDPM_SCHEDULER, shards=3),
    "autoencoder-kl": of_diffusers(VAE), "dinov2": of_dinov2,
}  # fmt: skip


def case(name: str) -> Case:
    """The case of that name."""
    rng = np.random.default_rng(1)
    return MAKERS[name](rng)


def transformer(name, kind, tensors, reference, times, flags, order, error):
    """A transformer of the family of DiT, whose second time is the earlier one."""
    x = np.random.default_rng(2).normal(size=(2, C, SIDE, SIDE)).astype(np.float32)
    label, two = np.array([3, CLASSES]), "meanflow" in name
    s = np.float32(times) / 3 if two else np.float32(times)
    run = reference(tensors)
    out = np.stack([run(*at) for at in zip(x, np.float32(times), s, label)])
    io = {"t": np.float32(times), "label": np.array([3, -1])} | ({"s": s} if two else {})
    arrays = {"x": x, "out": out}
    if order == "NHWC":
        arrays = {key: np.moveaxis(value, 1, -1) for key, value in arrays.items()}
    return Case(name, tensors, flags, io | arrays, kind, error)


def make_sit(rng):
    flags = ("--heads", str(HEADS))
    tensors = files.torch_dit(2 * C)
    return transformer("sit", "sit", tensors, torch_reference, [0.31, 0.97], flags, "NCHW", 2e-6)


def make_dit(rng):
    flags = ("--heads", str(HEADS))
    tensors = files.torch_dit(C)
    return transformer("dit", "dit", tensors, torch_reference, [17, 999], flags, "NCHW", 1e-5)


def make_meanflow(rng, name="meanflow"):
    flags = ("--heads", str(HEADS), "--side", str(SIDE))
    tensors = files.flax_meanflow()
    how = [0.31, 0.97], flags, "NHWC", 1e-6
    return transformer(name, "meanflow", tensors, flax_reference, *how)


def make_diffusers_dit(rng):
    tensors = files.diffusers_dit(C)
    how = [17, 999], (), "NCHW", 2e-5
    return transformer("diffusers-dit", "diffusers-dit", tensors, diffusers_reference, *how)


def make_imf(rng):
    tensors = imf_files.tensors(True)
    x = rng.normal(size=(2, C, SIDE, SIDE)).astype(np.float32)
    t, s = np.float32([0.31, 0.97]), np.float32([0.3, 0.1])
    guidance = np.float32([[2.5, 0.2, 0.8], [1.0, 0.0, 1.0]])
    rows = zip(x, t, s, [3, CLASSES], guidance)
    out = np.stack([imf_files.reference(tensors, *row)[0] for row in rows])
    io = {"x": np.moveaxis(x, 1, -1), "t": t, "s": s, "label": np.array([3, -1])}
    io |= {"guidance": guidance, "out": np.moveaxis(out, 1, -1)}
    return Case("imf", tensors, ("--side", str(SIDE)), io, "imf")


def denoiser(name, kind, tensors, run, classes, flags):
    sigma = np.float32([0.002, 0.7, 80.0])
    x = np.random.default_rng(2).normal(size=(3, 8, 8, 2))
    x = (x * np.sqrt(sigma**2 + 0.25)[:, None, None, None]).astype(np.float32)
    label = np.zeros((3, classes), np.float32)  # as EDM's code has them
    label[0, 2] = label[2, 0] = 1
    rows = zip(x.astype(float), sigma.astype(float), [2, None, 0])
    out = np.stack([run(*row) for row in rows])
    io = {"x": first(x), "sigma": sigma, "label": label, "out": first(out)}
    return Case(name, tensors, flags, io, kind, 3e-6)


def make_edm(rng):
    tensors = edm_networks.made(rng, "ddpm++")
    flags = ("--head-channels", str(edm_networks.HEAD))

    def run(x, sigma, label):
        return edm_networks.preconditioned(tensors, "ddpm++", x, sigma, label)

    return denoiser("edm", "edm", tensors, run, edm_networks.CLASSES, flags)


def make_edm2(rng):
    tensors = edm2_networks.made(rng)
    flags = ("--head-channels", str(edm2_networks.HEAD))

    def run(x, sigma, label):
        return edm2_networks.preconditioned(tensors, x, sigma, label)

    return denoiser("edm2", "edm2", tensors, run, edm2_networks.CLASSES, flags)


def make_unet(rng):
    tensors = diffusers_networks.unet(rng, ADM, ADM["num_class_embeds"])
    x = rng.normal(size=(3, 8, 8, 2)).astype(np.float32)
    steps, labels = [0.0, 37.25, 999.0], [2, None, 0]
    rows = zip(x, steps, labels)
    out = np.stack([diffusers_networks.run_unet(tensors, ADM, *row) for row in rows])
    io = {"x": first(x), "t": np.float32(steps), "label": np.array([2, -1, 0]), "out": first(out)}
    return Case("diffusers-unet", tensors, (), io, "diffusers-unet", 5e-6)


def make_vae(rng):
    tensors = made_autoencoder(rng)
    x = rng.normal(size=(2, 6, 10, 3)).astype(np.float32)
    how = SIZES, LAYERS, GROUPS
    moments = [diffusers_networks.encoded(tensors, one, *how) for one in x]
    out = np.stack([np.concatenate(one, -1) for one in moments])
    io = {"x": first(x), "out": first(out)}
    return Case("autoencoder-kl", tensors, (), io, "autoencoder-kl", 3e-6)


def make_dinov2(rng):
    tensors = test_dinov2.weights(0, 64, 2)
    x = rng.integers(0, 256, (2, 40, 30, 3))
    out = np.stack([test_dinov2.restated(tensors, one)[0] for one in x])
    return Case("dinov2", tensors, (), {"x": x, "out": out}, "dinov2", 1e-5)


MAKERS = {
    "sit": make_sit, "dit": make_dit, "meanflow": make_meanflow,
    "meanflow-orbax": lambda rng: make_meanflow(rng, "meanflow-orbax"), "imf": make_imf,
    "edm": make_edm, "edm2": make_edm2, "diffusers-unet": make_unet,
    "diffusers-dit": make_diffusers_dit, "autoencoder-kl": make_vae,
    "dinov2": make_dinov2,
}  # fmt: skip
QUICK = ("sit", "meanflow")

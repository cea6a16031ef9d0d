"""diffusers' U-Net and autoencoder restated plainly, and their tensors, in NumPy."""

import numpy as np

from tests.layouts.torch_layers import (
    Layers,
    Maker,
    attention,
    channels_first,
    channels_last,
    nearest,
    silu,
)


def resnet(maker, name, size_in, size_out, embed, scales=False):
    maker.norm(f"{name}.norm1", size_in)
    maker.conv(f"{name}.conv1", size_in, size_out)
    if embed:
        maker.dense(f"{name}.time_emb_proj", embed, size_out * (1 + scales))
    maker.norm(f"{name}.norm2", size_out)
    maker.conv(f"{name}.conv2", size_out, size_out)
    if size_in != size_out:
        maker.conv(f"{name}.conv_shortcut", size_in, size_out, 1)


def attending(maker, name, size, normed=True, names=("to_q", "to_k", "to_v", "to_out.0")):
    if normed:
        maker.norm(f"{name}.group_norm", size)
    for one in names:
        maker.dense(f"{name}.{one}", size, size)


def unet(rng, config, classes=0, depth=2):
    """Tensors of a `UNet2DModel` with this `config.json`."""
    maker = Maker(rng)
    sizes, layers = config["block_out_channels"], config["layers_per_block"]
    scales = config["resnet_time_scale_shift"] == "scale_shift"
    embed = 4 * sizes[0]
    maker.conv("conv_in", depth, sizes[0])
    maker.dense("time_embedding.linear_1", sizes[0], embed)
    maker.dense("time_embedding.linear_2", embed, embed)
    if classes:
        maker.add("class_embedding.weight", (classes, embed))
    skips, size = [sizes[0]], sizes[0]
    for i, (wanted, kind) in enumerate(zip(sizes, config["down_block_types"])):
        name = f"down_blocks.{i}"
        for n in range(layers):
            resnet(maker, f"{name}.resnets.{n}", size, wanted, embed, scales)
            if kind.startswith("Attn"):
                attending(maker, f"{name}.attentions.{n}", wanted)
            size = wanted
            skips.append(size)
        if i < len(sizes) - 1:
            if _by_resnet(kind, config["downsample_type"]):
                resnet(maker, f"{name}.downsamplers.0", size, size, embed, scales)
            else:
                maker.conv(f"{name}.downsamplers.0.conv", size, size)
            skips.append(size)
    for n in range(2):
        resnet(maker, f"mid_block.resnets.{n}", size, size, embed, scales)
    attending(maker, "mid_block.attentions.0", size, bool(_middle_groups(config)))
    for i, (wanted, kind) in enumerate(zip(sizes[::-1], config["up_block_types"])):
        name = f"up_blocks.{i}"
        for n in range(layers + 1):
            resnet(maker, f"{name}.resnets.{n}", size + skips.pop(), wanted, embed, scales)
            if kind.startswith("Attn"):
                attending(maker, f"{name}.attentions.{n}", wanted)
            size = wanted
        if i < len(sizes) - 1:
            if _by_resnet(kind, config["upsample_type"]):
                resnet(maker, f"{name}.upsamplers.0", size, size, embed, scales)
            else:
                maker.conv(f"{name}.upsamplers.0.conv", size, size)
    maker.norm("conv_norm_out", size)
    maker.conv("conv_out", size, depth)
    return maker.tensors


def run_unet(tensors, config, x, step, label=None):
    """The network's output for one image (height, width, channels) at a step."""
    run = Unet(tensors, config)
    e = run.embedding(step, label)
    h = run.conv("conv_in", channels_first(x))
    skips = [h]
    for i, kind in enumerate(config["down_block_types"]):
        name = f"down_blocks.{i}"
        for n in range(config["layers_per_block"]):
            h = run.attended(f"{name}.attentions.{n}", run.resnet(f"{name}.resnets.{n}", h, e))
            skips.append(h)
        if run.has(f"{name}.downsamplers.0.norm1.weight"):
            h = run.resnet(f"{name}.downsamplers.0", h, e, "down")
            skips.append(h)
        elif run.has(f"{name}.downsamplers.0.conv.weight"):
            pad = (1, 1) if config["downsample_padding"] else (0, 1)
            h = run.conv(f"{name}.downsamplers.0.conv", h, 2, pad)
            skips.append(h)
    h = run.resnet("mid_block.resnets.0", h, e)
    h = run.attended("mid_block.attentions.0", h)
    h = run.resnet("mid_block.resnets.1", h, e)
    for i, kind in enumerate(config["up_block_types"]):
        name = f"up_blocks.{i}"
        for n in range(config["layers_per_block"] + 1):
            h = run.resnet(f"{name}.resnets.{n}", np.concatenate([h, skips.pop()]), e)
            h = run.attended(f"{name}.attentions.{n}", h)
        if run.has(f"{name}.upsamplers.0.norm1.weight"):
            h = run.resnet(f"{name}.upsamplers.0", h, e, "up")
        elif run.has(f"{name}.upsamplers.0.conv.weight"):
            h = run.conv(f"{name}.upsamplers.0.conv", nearest(h))
    return channels_last(run.conv("conv_out", silu(run.norm("conv_norm_out", h))))


class Unet(Layers):
    """The blocks, with the options of `config.json`."""

    def __init__(self, tensors, config):
        super().__init__(tensors)
        self.config = config

    def norm(self, name, x):
        return self.group_norm(name, x, self.config["norm_num_groups"], self.config["norm_eps"])

    def embedding(self, step, label):
        half = self.config["block_out_channels"][0] // 2
        exponent = -np.log(10000) * np.arange(half) / (half - self.config["freq_shift"])
        turns = step * np.exp(exponent)
        parts = [np.sin(turns), np.cos(turns)]
        features = np.concatenate(parts[::-1] if self.config["flip_sin_to_cos"] else parts)
        e = self.dense("time_embedding.linear_1", features)
        e = self.dense("time_embedding.linear_2", silu(e))
        return e if label is None else e + self.tensors["class_embedding.weight"][label]

    def resnet(self, name, x, e=None, how="keep"):
        change = {"keep": lambda y: y, "down": _averaged, "up": nearest}[how]
        y = self.conv(f"{name}.conv1", change(silu(self.norm(f"{name}.norm1", x))))
        if e is None:
            y = self.norm(f"{name}.norm2", y)
        else:
            given = self.dense(f"{name}.time_emb_proj", silu(e))[:, None, None]
            if len(given) == 2 * len(y):
                scale, shift = np.split(given, 2)
                y = self.norm(f"{name}.norm2", y) * (1 + scale) + shift
            else:
                y = self.norm(f"{name}.norm2", y + given)
        y = self.conv(f"{name}.conv2", silu(y))
        x = change(x)
        if self.has(f"{name}.conv_shortcut.weight"):
            x = self.conv(f"{name}.conv_shortcut", x)
        return x + y

    def attended(self, name, x):
        names = ("to_q", "to_k", "to_v", "to_out.0")
        if self.has(f"{name}.query.weight"):
            names = ("query", "key", "value", "proj_attn")
        if not self.has(f"{name}.{names[0]}.weight"):
            return x
        y = x
        if self.has(f"{name}.group_norm.weight"):
            groups = self.config["norm_num_groups"]
            if name.startswith("mid_block"):
                groups = _middle_groups(self.config)
            y = self.group_norm(f"{name}.group_norm", x, groups, self.config["norm_eps"])
        size = self.config["attention_head_dim"] or len(x)
        places = y.reshape(len(x), -1).T
        q, k, v = (
            self._dense(f"{name}.{one}", places).T.reshape(-1, size, len(places))
            for one in names[:3]
        )
        a = attention(q, k, v).reshape(len(x), -1).T
        return x + self._dense(f"{name}.{names[3]}", a).T.reshape(x.shape)

    def _dense(self, name, x):
        weight = self.tensors[f"{name}.weight"].reshape(x.shape[1], x.shape[1])
        return x @ weight.T + self.tensors[f"{name}.bias"]


def autoencoder(rng, sizes, layers, latent, depth=3, old=False):
    """Tensors of an `AutoencoderKL`; `old` by its names before 2023, with 1x1 weights."""
    maker = Maker(rng)

    def middle(part, size):
        for n in range(2):
            resnet(maker, f"{part}.mid_block.resnets.{n}", size, size, 0)
        names = (
            ("query", "key", "value", "proj_attn") if old else ("to_q", "to_k", "to_v", "to_out.0")
        )
        attending(maker, f"{part}.mid_block.attentions.0", size, names=names)
        if old:
            for one in names:
                key = f"{part}.mid_block.attentions.0.{one}.weight"
                maker.tensors[key] = maker.tensors[key][:, :, None, None]

    def levels(part, blocks, change, sizes, count):
        size = sizes[0]
        for i, wanted in enumerate(sizes):
            for n in range(count):
                resnet(maker, f"{part}.{blocks}.{i}.resnets.{n}", size, wanted, 0)
                size = wanted
            if i < len(sizes) - 1:
                maker.conv(f"{part}.{blocks}.{i}.{change}.0.conv", wanted, wanted)

    maker.conv("encoder.conv_in", depth, sizes[0])
    levels("encoder", "down_blocks", "downsamplers", sizes, layers)
    middle("encoder", sizes[-1])
    maker.norm("encoder.conv_norm_out", sizes[-1])
    maker.conv("encoder.conv_out", sizes[-1], 2 * latent)
    maker.conv("quant_conv", 2 * latent, 2 * latent, 1)
    maker.conv("post_quant_conv", latent, latent, 1)
    maker.conv("decoder.conv_in", latent, sizes[-1])
    middle("decoder", sizes[-1])
    levels("decoder", "up_blocks", "upsamplers", sizes[::-1], layers + 1)
    maker.norm("decoder.conv_norm_out", sizes[0])
    maker.conv("decoder.conv_out", sizes[0], depth)
    return maker.tensors


def encoded(tensors, x, sizes, layers, groups):
    """Mean and log variance of one image (height, width, channels), clipped."""
    run = Unet(tensors, _of_autoencoder(groups))
    h = run.conv("encoder.conv_in", channels_first(x))
    for i in range(len(sizes)):
        for n in range(layers):
            h = run.resnet(f"encoder.down_blocks.{i}.resnets.{n}", h)
        if i < len(sizes) - 1:
            h = run.conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", h, 2, (0, 1))
    h = _middle(run, "encoder", h)
    h = run.conv("encoder.conv_out", silu(run.norm("encoder.conv_norm_out", h)))
    mean, log_variance = np.split(run.conv("quant_conv", h), 2)
    return channels_last(mean), channels_last(np.clip(log_variance, -30, 20))


def decoded(tensors, z, sizes, layers, groups):
    """The image of one latent (height, width, channels)."""
    run = Unet(tensors, _of_autoencoder(groups))
    h = run.conv("decoder.conv_in", run.conv("post_quant_conv", channels_first(z)))
    h = _middle(run, "decoder", h)
    for i in range(len(sizes)):
        for n in range(layers + 1):
            h = run.resnet(f"decoder.up_blocks.{i}.resnets.{n}", h)
        if i < len(sizes) - 1:
            h = run.conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", nearest(h))
    return channels_last(run.conv("decoder.conv_out", silu(run.norm("decoder.conv_norm_out", h))))


def _middle(run, part, h):
    h = run.resnet(f"{part}.mid_block.resnets.0", h)
    h = run.attended(f"{part}.mid_block.attentions.0", h)
    return run.resnet(f"{part}.mid_block.resnets.1", h)


def _of_autoencoder(groups):
    return {
        "norm_num_groups": groups, "norm_eps": 1e-6, "attention_head_dim": None,
        "resnet_time_scale_shift": "default", "attn_norm_num_groups": groups,
    }  # fmt: skip


def _averaged(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _by_resnet(kind, change):
    return kind.startswith("Resnet") or (kind.startswith("Attn") and change == "resnet")


def _middle_groups(config):
    if config["attn_norm_num_groups"] is not None:
        return config["attn_norm_num_groups"]
    return config["norm_num_groups"] if config["resnet_time_scale_shift"] == "default" else None

"""Makes fixtures/checkpoint: weight files in every format and naming scheme that negkit reads.

Made with torch 2.13.0, transformers 5.23.0, diffusers 0.42.1, open_clip_torch 3.3.0, safetensors 0.8.0,
Python 3.11. Run: HF_HUB_OFFLINE=1 python eval/parity/checkpoint.py [FOLDER]

formats/    one set of odd tensors (`expected.safetensors`, row-major) in every file format of PyTorch
malicious/  pickles that call functions; made with pickle.dumps, and never loaded here
naming/     small models under published names, with the same weights under today's names, and
            `*.json.gz`: [published name, today's name, published shape, today's shape] of whole
            architectures, as diffusers' own conversion functions pair them

The names of the published schemes come from the modules that define them (open_clip's CLIP, PyTorch's
transformer layers under the attribute names of timojl/clipseg) or from models_naming.py, and are put to
the test here: open_clip and the decoder load them strictly, diffusers' converters accept them all.
"""

import collections
import gzip
import io
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import types
import unittest.mock
import zipfile

import numpy
import torch
from safetensors.torch import save_file

import models_naming

DEFAULT_FOLDER = pathlib.Path(__file__).parent / "fixtures" / "checkpoint"


# Formats.


def odd_tensors():
    """Every type and layout that a state dict may hold."""
    torch.manual_seed(0)
    base = torch.randn(5, 7)
    return collections.OrderedDict(
        {
            "base": base,
            "brain": torch.randn(3, 3).to(torch.bfloat16),
            "bytes": torch.tensor([0, 127, 255], dtype=torch.uint8),
            "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "chars": torch.tensor([-128, 0, 127], dtype=torch.int8),
            "double": torch.randn(2, 2, dtype=torch.float64),
            "empty": torch.zeros(0, 3),
            "expanded": torch.randn(1, 3).expand(4, 3),
            "half": torch.randn(7, 3).half(),
            "ints": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
            "mask": torch.tensor([True, False, False, True, True]),
            "parameter": torch.nn.Parameter(torch.randn(2, 3)),
            "position_ids": torch.arange(7).unsqueeze(0),
            "scalar": torch.tensor(2.6592),
            "shorts": torch.tensor([-300, 300], dtype=torch.int16),
            "slice": base[1:, ::2],
            "transposed": base.t(),
        }
    )


def dump(tensors, path):
    save_file({name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}, path)


def save(value, path, legacy=False, **options):
    """torch.save; the format of before PyTorch 1.6 made the same every time.

    It calls storages by their addresses and keeps the source of classes, with the path it was found at.
    """
    if not legacy:
        torch.save(value, path, **options)
        return
    names = {}
    address = torch.UntypedStorage._cdata
    numbered = property(lambda storage: names.setdefault(address.__get__(storage), len(names)))
    source = ["class Source: ...\n"], "source.py", 1
    with (
        unittest.mock.patch.object(torch.UntypedStorage, "_cdata", numbered),
        unittest.mock.patch("torch.serialization.get_source_lines_and_file", lambda _: source),
    ):
        torch.save(value, path, _use_new_zipfile_serialization=False, **options)


class ScriptedBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.Linear(4, 4)
        self.ln_1 = torch.nn.LayerNorm(4)

    def forward(self, x):
        return x + self.attn(self.ln_1(x))


class ScriptedTower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.resblocks = torch.nn.Sequential(ScriptedBlock(), ScriptedBlock())

    def forward(self, x):
        return self.resblocks(x)


class Scripted(torch.nn.Module):
    """Laid out as OpenAI's archives: nested modules, parameters and sizes as buffers at the top."""

    def __init__(self):
        super().__init__()
        self.transformer = ScriptedTower()
        self.positional_embedding = torch.nn.Parameter(torch.randn(3, 4))
        self.text_projection = torch.nn.Parameter(torch.randn(4, 5))
        for name, value in {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, x):
        return self.transformer(x + self.positional_embedding) @ self.text_projection


def without_debug_files(source, target):
    """TorchScript archives carry stack traces with paths of the machine that made them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                name = "scripted/" + entry.filename.split("/", 1)[1]
                new.writestr(zipfile.ZipInfo(name), old.read(entry))


def foreign_module(name, **members):
    """Makes a module importable under `name`, so that pickles refer to its classes by that name."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    module = sys.modules[name]
    for member, value in members.items():
        value.__module__ = name
        value.__qualname__ = value.__name__ = member
        setattr(module, member, value)
    return module


def lightning_checkpoint(state):
    """What a trainer writes: weights among classes, callbacks, numpy scalars and optimizer state."""
    import argparse
    import functools

    class Callback:
        pass

    class Config(dict):
        pass

    class Stateful:
        def __init__(self):
            self.scores = [torch.tensor(0.5), {"nested": torch.zeros(2)}]
            self.path = pathlib.PurePosixPath("checkpoints/last.ckpt")

    class Slotted:
        def __reduce__(self):
            return (Slotted, (1, "two"), {"three": 3.0}, iter([4]), iter([("five", 5)]))

    foreign_module("pytorch_lightning.callbacks.model_checkpoint", ModelCheckpoint=Callback, Stateful=Stateful)
    foreign_module("omegaconf.dictconfig", DictConfig=Config, Slotted=Slotted)
    return {
        "epoch": 3,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {Callback: {"best_model_score": torch.tensor(0.25), "last": None}},
        "stateful": Stateful(),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [{"lr_lambdas": [functools.partial(max, 1)]}],
        "hyper_parameters": Config(size=argparse.Namespace(width=4), many={1, 2}, few=frozenset([3])),
        "slotted": Slotted(),
        "numpy": [numpy.float64(1.5), numpy.arange(3), numpy.dtype("float32")],
        "odd": [b"bytes", bytearray(b"mutable"), 2**200, -(2**70), 1j, float("nan"), "Zo\u00eb \U0001f600", ...],
        "types": (torch.float16, torch.device("cpu"), torch.Size([1, 2]), torch.strided),
    }


def make_formats(folder):
    folder.mkdir(parents=True)
    tensors = odd_tensors()
    dump(tensors, folder / "expected.safetensors")
    save(tensors, folder / "zip.pth")
    save(dict(tensors), folder / "zip-protocol-1.pth", pickle_protocol=1)
    save(tensors, folder / "zip-protocol-5.pth", pickle_protocol=5)
    save(tensors, folder / "legacy.pth", legacy=True)
    save(tensors, folder / "legacy-protocol-1.pth", pickle_protocol=1, legacy=True)
    save(tensors, folder / "legacy-protocol-4.pth", pickle_protocol=4, legacy=True)
    with zipfile.ZipFile(folder / "zip.pth") as old:
        with zipfile.ZipFile(folder / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), zipfile.ZIP_DEFLATED)

    torch.manual_seed(1)
    small = {"a.weight": torch.randn(2, 3), "a.bias": torch.randn(2).half(), "b": torch.randn(3)[1:]}
    dump(small, folder / "small.safetensors")
    parallel = {f"module.{name}": tensor for name, tensor in small.items()}
    save({"epoch": 1, "state_dict": small, "optimizer": {"state": {"x": torch.ones(2)}}}, folder / "state_dict.pth")
    save({"model": parallel, "step": 7, "name": "ViT-B/32"}, folder / "model-module.pt")
    save({"model_state_dict": parallel}, folder / "model_state_dict.pt", legacy=True)
    save({"state_dict": {f"model.{name}": t for name, t in small.items()}}, folder / "model-prefix.ckpt")
    save({"params": small, "params_ema": {k: v * 2 for k, v in small.items()}}, folder / "params.pth")
    save({"generator": small, "discriminator": {"c": torch.ones(1)}}, folder / "ambiguous.pth")
    save({"a": {"weight": small["a.weight"], "bias": small["a.bias"]}, "b": small["b"]}, folder / "nested.pth")
    save({"epoch": 1, "name": "no weights"}, folder / "no-tensors.pth")
    save({"a": torch.eye(2).to_sparse()}, folder / "sparse.pth")
    save(lightning_checkpoint(small), folder / "lightning.ckpt")
    save(lightning_checkpoint(small), folder / "lightning-legacy.ckpt", legacy=True)

    # Tensors that are pickled by other functions than the usual one.
    attributed = torch.randn(2, 3)
    attributed.note = "an attribute makes it a subclass to pickle"
    rare = {
        "attributed": attributed,
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    rare["parameter"].note = "the same"
    save(rare, folder / "rare.pth")
    dump(rare, folder / "rare.safetensors")

    # A whole module instead of its state dict.
    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)])
            self.scale = torch.nn.Parameter(torch.randn(()))

    foreign_module("somewhere.models", Tower=Tower)
    tower = Tower()
    save(tower, folder / "module.pt")
    save(tower, folder / "module-legacy.pt", legacy=True)
    dump(tower.state_dict(), folder / "module.safetensors")

    scripted = torch.jit.script(Scripted().half())
    torch.jit.save(scripted, folder / "with-debug.pt")
    without_debug_files(folder / "with-debug.pt", folder / "torchscript.pt")
    (folder / "with-debug.pt").unlink()
    dump(scripted.state_dict(), folder / "torchscript.safetensors")

    make_shards(folder / "sharded-safetensors", small, "model", "safetensors", save_file)
    make_shards(folder / "sharded-bin", small, "pytorch_model", "bin", save)


def make_shards(folder, tensors, stem, extension, write):
    folder.mkdir()
    weight_map = {}
    for i, name in enumerate(tensors, start=1):
        shard = f"{stem}-{i:05}-of-{len(tensors):05}.{extension}"
        write({name: tensors[name].clone()}, folder / shard)
        weight_map[name] = shard
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / f"{stem}.{extension}.index.json").write_text(json.dumps(index, indent=2) + "\n")


# Malicious pickles.


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def make_malicious(folder):
    folder.mkdir(parents=True)
    calls = {
        "os-system": Call(os.system, "echo pwned"),
        "eval": Call(eval, "1+1"),
        "exec": Call(exec, "pass"),
        "popen": Call(subprocess.Popen, ["echo", "pwned"]),
        "import": Call(__import__, "os"),
        "getattr": Call(getattr, "text", "upper"),
        "rmtree": Call(shutil.rmtree, "/nonexistent"),
        # The dangerous call is an argument of harmless ones, next to weights.
        "nested": {"state_dict": {"w": torch.ones(1)}, "x": Call(set, [Call(tuple, [Call(os.system, "echo pwned")])])},
    }
    for name, call in calls.items():
        for protocol in (2, 4):
            save(call, folder / f"{name}-{protocol}.pth", pickle_protocol=protocol)
        save(call, folder / f"{name}-legacy.pth", legacy=True)
    # INST of protocol 0.
    instance = b"(S'echo pwned'\nios\nsystem\n."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), instance)
        archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
    (folder / "inst.pth").write_bytes(buffer.getvalue())


# Naming.


def write_pairs(pairs, path):
    """`pairs` of ((published name, shape), (today's name, shape)), compressed the same every time."""
    rows = sorted([old, new, list(old_shape), list(new_shape)] for (old, old_shape), (new, new_shape) in pairs)
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(rows, separators=(",", ":")).encode())


def numbered(names_and_shapes):
    """Tensors of any size that take no memory and are told apart by their value."""
    return {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(names_and_shapes.items())}


def pair_up(published, converted, today):
    """Pairs published with converted names by value; `today` is what the library's model has."""
    assert {name: tuple(t.shape) for name, t in converted.items()} == today, "the converter missed names"
    by_value = {t.flatten()[0].item(): name for name, t in published.items()}
    assert len(by_value) == len(published)
    pairs = []
    for name, tensor in converted.items():
        old = by_value[tensor.flatten()[0].item()]
        pairs.append(((old, tuple(published[old].shape)), (name, tuple(tensor.shape))))
    return pairs


def shapes_of(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def unet_pairs(config):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):
        model = UNet2DConditionModel(**config)
    today = shapes_of(model)
    meta = model.state_dict()
    published = models_naming.unet_to_compvis(meta, model.config.layers_per_block, len(model.config.block_out_channels))
    published = numbered({name: tuple(t.shape) for name, t in published.items()})
    return pair_up(published, convert_ldm_unet_checkpoint(dict(published), dict(model.config)), today)


def vae_pairs(config):
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    with torch.device("meta"):
        model = AutoencoderKL(**config)
    today = shapes_of(model)
    published = models_naming.vae_to_compvis(model.state_dict(), len(model.config.block_out_channels))
    published = numbered({name: tuple(t.shape) for name, t in published.items()})
    return pair_up(published, convert_ldm_vae_checkpoint(dict(published), dict(model.config)), today)


def open_clip_text_pairs():
    """Stable Diffusion 2's text encoder: 24 layers of open_clip, 23 in transformers."""
    import open_clip
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel

    width = 8
    clip = open_clip.CLIP(
        embed_dim=width,
        vision_cfg={"image_size": 8, "patch_size": 4, "width": 4, "layers": 1, "head_width": 4},
        text_cfg={"context_length": 7, "vocab_size": 11, "width": width, "heads": 2, "layers": 24},
    )
    names = {f"cond_stage_model.model.{n}": s for n, s in shapes_of(clip).items() if not n.startswith("visual.")}
    names.pop("cond_stage_model.model.logit_scale")
    published = numbered(names)
    model = CLIPTextModel(
        CLIPTextConfig(vocab_size=11, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=23,
                       num_attention_heads=2, max_position_embeddings=7)
    )
    today = {f"text_model.{name.removeprefix('text_model.')}": shape for name, shape in shapes_of(model).items()}
    return pair_up(published, convert_open_clip_checkpoint(model, published), today)


def sd_1_4():
    unet = {
        "sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "cross_attention_dim": 768,
        "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    vae = {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return unet, vae


def tiny_sd():
    unet = {
        "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "cross_attention_dim": 6,
        "block_out_channels": (4, 8, 8), "norm_num_groups": 2, "attention_head_dim": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    }
    vae = {
        "latent_channels": 2, "layers_per_block": 3, "block_out_channels": (4, 8), "norm_num_groups": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    return unet, vae


def make_clip(folder):
    """A CLIP of odd sizes under open_clip's names, which are OpenAI's, and under transformers'."""
    import open_clip
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(2)
    text = {"vocab_size": 11, "hidden_size": 6, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 7, "projection_dim": 5}
    vision = {"hidden_size": 4, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": 6, "patch_size": 3, "projection_dim": 5}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=5))
    today = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    published = models_naming.hf_clip_to_openai(today)
    clip = open_clip.CLIP(
        embed_dim=5,
        vision_cfg={"image_size": 6, "patch_size": 3, "width": 4, "layers": 3, "head_width": 2},
        text_cfg={"context_length": 7, "vocab_size": 11, "width": 6, "heads": 3, "layers": 2},
    )
    clip.load_state_dict(published, strict=True)
    dump(today, folder / "clip-transformers.safetensors")
    save(clip.state_dict(), folder / "clip-openai.pth")
    make_other_encoders(folder, dict(clip.state_dict()))


def make_other_encoders(folder, state):
    """The same weights as the authors of other encoders save theirs.

    negclip.pt: open_clip's trainer, whose model is wrapped for several GPUs (mertyg's NegCLIP);
    conclip.pt: `check_and_save` of jaisidhsingh/CoN-CLIP; tngclip.pth: `save_model` of
    YuliangCai2022/TNG-CLIP, whose class has the CLIP as `model`; tngclip-inner.pth: the second file
    that it saves.
    """
    import argparse

    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    optimizer = {"state": {0: moments}, "param_groups": [{"lr": 1e-6, "betas": (0.9, 0.98), "params": [0]}]}
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 7}
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    save({"epoch": 5, "name": "negclip", "state_dict": parallel, "optimizer": optimizer, "scaler": scaler},
         folder / "negclip.pt")
    arguments = argparse.Namespace(clip_model_name="ViT-B/32", learning_rate=1e-6, negative_images="on")
    save({"model": state, "optimizer": optimizer, "args": arguments}, folder / "conclip.pt")
    save({f"model.{name}": tensor for name, tensor in state.items()}, folder / "tngclip.pth")
    save(state, folder / "tngclip-inner.pth")


class OriginalDecoder(torch.nn.Module):
    """The decoder of timojl/clipseg's CLIPDensePredT: its attribute names, and PyTorch's layers."""

    def __init__(self, condition, width, reduce, heads, feed_forward, depth, trans_conv):
        super().__init__()
        self.film_mul = torch.nn.Linear(condition, reduce)
        self.film_add = torch.nn.Linear(condition, reduce)
        self.reduce = torch.nn.Linear(width, reduce)
        self.trans_conv = trans_conv
        self.reduces = torch.nn.ModuleList([torch.nn.Linear(width, reduce) for _ in range(depth)])
        self.blocks = torch.nn.ModuleList(
            [torch.nn.TransformerEncoderLayer(reduce, heads, feed_forward, dropout=0.0) for _ in range(depth)]
        )

    def forward(self, activations, condition):
        """`activations`, each [tokens, batch, width], in the order of the layers."""
        a = None
        for i, (activation, block, reduce) in enumerate(zip(activations[::-1], self.blocks, self.reduces)):
            a = reduce(activation) if a is None else reduce(activation) + a
            if i == 0:
                a = self.film_mul(condition) * a + self.film_add(condition)
            a = block(a)
        a = a[1:].permute(1, 2, 0)
        size = int(a.shape[2] ** 0.5)
        return self.trans_conv(a.view(a.shape[0], a.shape[1], size, size))[:, 0]


def make_clipseg(folder, refined):
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    torch.manual_seed(3)
    text = {"vocab_size": 11, "hidden_size": 6, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 7}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": 8, "patch_size": 4}
    config = CLIPSegConfig(
        text_config=text, vision_config=vision, projection_dim=5, reduce_dim=6, extract_layers=[1, 2, 3],
        decoder_num_attention_heads=2, decoder_intermediate_size=10, use_complex_transposed_convolution=refined,
    )
    model = CLIPSegForImageSegmentation(config).eval()
    today = {name: torch.randn_like(t) for name, t in model.decoder.state_dict().items()}
    model.decoder.load_state_dict(today)
    nn = torch.nn
    trans_conv = nn.ConvTranspose2d(6, 1, 4, stride=4)
    if refined:
        trans_conv = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 1, stride=1), nn.ReLU(),
            nn.ConvTranspose2d(3, 1, 1, stride=1),
        )
    original = OriginalDecoder(5, 8, 6, 2, 10, 3, trans_conv).eval()
    prefixed = {f"decoder.{name}": t for name, t in today.items()}
    original.load_state_dict(models_naming.clipseg_to_original(prefixed, original.reduce), strict=True)
    activations = [torch.randn(2, 5, 8) for _ in range(3)]
    condition = torch.randn(2, 5)
    with torch.no_grad():
        theirs = original([a.transpose(0, 1) for a in activations], condition)
        ours = model.decoder(activations, condition).logits
    error = ((theirs - ours).norm() / theirs.norm()).item()
    assert error < 1e-5, f"the original decoder differs from transformers': {error}"
    name = "clipseg-refined" if refined else "clipseg"
    dump(prefixed, folder / f"{name}-transformers.safetensors")
    save(original.state_dict(), folder / f"{name}-original.pth", legacy=refined)


def make_naming(folder):
    folder.mkdir(parents=True)
    make_clip(folder)
    make_clipseg(folder, refined=False)
    make_clipseg(folder, refined=True)
    for name, (unet, vae) in {"sd-1.4": sd_1_4(), "tiny": tiny_sd()}.items():
        write_pairs(unet_pairs(unet), folder / f"{name}-unet.json.gz")
        write_pairs(vae_pairs(vae), folder / f"{name}-vae.json.gz")
    write_pairs(open_clip_text_pairs(), folder / "sd-2-text.json.gz")


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    make_formats(folder / "formats")
    make_malicious(folder / "malicious")
    make_naming(folder / "naming")
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes in {folder}")


if __name__ == "__main__":
    main()

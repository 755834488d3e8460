"""CLIP cases: text tower, vision tower, both; every naming scheme CLIP is published in."""

import io
import json
import tempfile
import zipfile
from pathlib import Path

import open_clip
import torch
import transformers
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from models_folder import Cases, write_json, write_pickle, write_safetensors, write_sharded
from models_naming import hf_clip_to_openai, with_position_ids
from models_weights import generator, randn, randomise, uninitialised

TRANSFORMERS = f"transformers {transformers.__version__}"
OPEN_CLIP = f"open_clip_torch {open_clip.__version__}"

# Sizes are chosen so that no two dimensions that a mapping could swap are equal.
TINY_TEXT = {
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 16,
    "hidden_act": "quick_gelu",
    "bos_token_id": 65,
    "eos_token_id": 66,
    "pad_token_id": 66,
    "projection_dim": 20,
}
TINY_VISION = {
    "hidden_size": 28,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
    "hidden_act": "quick_gelu",
    "projection_dim": 20,
}


def token_rows(
    seed: str, rows: list[int], context: int, vocab: int, pad: int | None = None
) -> torch.Tensor:
    """Rows `bos, tokens…, eos, padding…`, one for each count of tokens; `pad` defaults to eos."""
    bos, eos = vocab - 2, vocab - 1
    draw = generator(seed)
    ids = torch.full((len(rows), context), eos if pad is None else pad, dtype=torch.int64)
    for row, count in enumerate(rows):
        ids[row, 0] = bos
        ids[row, 1 : 1 + count] = torch.randint(1, bos, (count,), generator=draw)
        ids[row, 1 + count] = eos
    return ids


@torch.no_grad()
def text_outputs(model, ids: torch.Tensor, projection=None) -> dict[str, torch.Tensor]:
    """`model` is a `CLIPTextModel`, `projection` the linear layer after it, where there is one."""
    found = model(input_ids=ids)
    outputs = {"last_hidden_state": found.last_hidden_state, "pooler_output": found.pooler_output}
    if projection is not None:
        outputs["text_embeds"] = projection(found.pooler_output)
    return outputs


@torch.no_grad()
def vision_outputs(model, pixels, projection, interpolate=False) -> dict[str, torch.Tensor]:
    """`last_hidden_state` is before the post-layernorm; `hidden_states.0` is after the pre-layernorm."""
    found = model(
        pixel_values=pixels, output_hidden_states=True, interpolate_pos_encoding=interpolate
    )
    outputs = {
        "last_hidden_state": found.last_hidden_state,
        "pooler_output": found.pooler_output,
        "image_embeds": projection(found.pooler_output),
    }
    expected = model.config.num_hidden_layers + 1
    if len(found.hidden_states) != expected:
        raise ValueError(f"{len(found.hidden_states)} hidden states where {expected} were expected")
    return outputs | {f"hidden_states.{i}": state for i, state in enumerate(found.hidden_states)}


def both_outputs(text: dict, vision: dict, logit_scale: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of kind `clip`; the embeddings are as projected, not normalised."""
    outputs = {name: text[name] for name in ("text_embeds",)}
    outputs["image_embeds"] = vision["image_embeds"]
    for tower, found in (("text_model", text), ("vision_model", vision)):
        for name, tensor in found.items():
            if not name.endswith("_embeds"):
                outputs[f"{tower}.{name}"] = tensor
    image = torch.nn.functional.normalize(vision["image_embeds"], dim=-1)
    text_rows = torch.nn.functional.normalize(text["text_embeds"], dim=-1)
    outputs["logits_per_image"] = logit_scale.exp() * image @ text_rows.T
    return outputs


def hf_clip(config: CLIPConfig, seed: str) -> CLIPModel:
    with uninitialised():
        model = CLIPModel(config)
    return randomise(model, seed)


def hf_outputs(model: CLIPModel, ids: torch.Tensor, pixels: torch.Tensor) -> dict:
    text = text_outputs(model.text_model, ids, model.text_projection)
    vision = vision_outputs(model.vision_model, pixels, model.visual_projection)
    outputs = both_outputs(text, vision, model.logit_scale)
    with torch.no_grad():
        own = model(input_ids=ids, pixel_values=pixels).logits_per_image
    torch.testing.assert_close(outputs["logits_per_image"], own, rtol=1e-5, atol=1e-5)
    return outputs


@torch.no_grad()
def open_clip_outputs(model, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same quantities out of open_clip's model, which does not return the hidden states."""
    text, vision, handles = {}, {}, []

    def keep(store: dict, name: str):
        return lambda module, args, output: store.__setitem__(name, output)

    handles.append(model.ln_final.register_forward_hook(keep(text, "last_hidden_state")))
    handles.append(model.visual.ln_pre.register_forward_hook(keep(vision, "hidden_states.0")))
    blocks = model.visual.transformer.resblocks
    for index, block in enumerate(blocks, 1):
        handles.append(block.register_forward_hook(keep(vision, f"hidden_states.{index}")))
    text["text_embeds"] = model.encode_text(ids)
    vision["image_embeds"] = model.encode_image(pixels)
    for handle in handles:
        handle.remove()
    ends = ids.argmax(dim=-1)
    text["pooler_output"] = text["last_hidden_state"][torch.arange(len(ids)), ends]
    vision["last_hidden_state"] = vision[f"hidden_states.{len(blocks)}"]
    vision["pooler_output"] = model.visual.ln_post(vision["last_hidden_state"])[:, 0]
    outputs = both_outputs(text, vision, model.logit_scale)
    own = model.get_logits(pixels, ids)[0]
    torch.testing.assert_close(outputs["logits_per_image"], own, rtol=1e-5, atol=1e-5)
    return outputs


def small(cases: Cases) -> None:
    _hugging_face(cases)
    _text_namings(cases)
    _openai_naming(cases)
    _open_clip(cases)


def _tiny_config() -> CLIPConfig:
    return CLIPConfig(text_config=TINY_TEXT, vision_config=TINY_VISION, projection_dim=20)


def _old_clip_config() -> dict:
    """A `config.json` as the `openai/…` repositories hold it, from before transformers 4.31."""
    common = {"attention_dropout": 0.0, "dropout": 0.0, "initializer_factor": 1.0}
    common |= {"initializer_range": 0.02, "layer_norm_eps": 1e-05}
    # eos_token_id was 2 in those files; the end of text is then the largest id of the row.
    text = TINY_TEXT | common | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return {
        "_name_or_path": "",
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 20,
        "text_config": text | {"model_type": "clip_text_model"},
        "text_config_dict": None,
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": TINY_VISION | common | {"model_type": "clip_vision_model"},
        "vision_config_dict": None,
    }


def _hugging_face(cases: Cases) -> None:
    model = hf_clip(_tiny_config(), "clip-hf")
    state = model.state_dict()
    ids = token_rows("clip-hf.ids", [0, 3, 9, 14], context=16, vocab=67)
    pixels = randn("clip-hf.pixels", 2, 3, 12, 12)
    outputs = hf_outputs(model, ids, pixels)
    names = list(outputs)

    folder = cases.weights / "clip-hf"
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        config = json.loads((Path(scratch) / "config.json").read_text())
    write_json(folder / "config.json", config)
    write_safetensors(folder / "model.safetensors", state)
    inputs = {"input_ids": ids, "pixel_values": pixels}
    reference = f"{TRANSFORMERS} CLIPModel"
    cases.write("clip-hf", "clip", reference, folder, inputs, outputs)

    old = cases.weights / "clip-hf-bin"
    write_json(old / "config.json", _old_clip_config())
    lengths = {"text_model.": 16, "vision_model.": 10}
    write_pickle(old / "pytorch_model.bin", with_position_ids(state, lengths), torch.float16)
    cases.write("clip-hf-bin", "clip", reference, old, io="clip-hf", output_names=names)

    sharded = cases.weights / "clip-hf-sharded"
    write_json(sharded / "config.json", config)
    write_sharded(sharded, {name: tensor.half() for name, tensor in state.items()}, shards=3)
    cases.write("clip-hf-sharded", "clip", reference, sharded, io="clip-hf", output_names=names)

    text = text_outputs(model.text_model, ids, model.text_projection)
    reference = f"{TRANSFORMERS} CLIPTextModelWithProjection"
    cases.write("clip-text-hf", "clip-text", reference, folder, {"input_ids": ids}, text)
    short = ids[1:3, :13].clone()
    cases.write(
        "clip-text-short-context",
        "clip-text",
        reference,
        folder,
        {"input_ids": short},
        text_outputs(model.text_model, short, model.text_projection),
    )

    reference = f"{TRANSFORMERS} CLIPVisionModelWithProjection"
    found = vision_outputs(model.vision_model, pixels, model.visual_projection)
    cases.write("clip-vision-hf", "clip-vision", reference, folder, {"pixel_values": pixels}, found)
    for name, height, width in (
        ("clip-vision-larger", 20, 20),
        ("clip-vision-smaller", 8, 8),
        ("clip-vision-oblong", 12, 20),
    ):
        pixels = randn(f"{name}.pixels", 1, 3, height, width)
        found = vision_outputs(model.vision_model, pixels, model.visual_projection, interpolate=True)
        options = {"interpolate_pos_encoding": True}
        cases.write(
            name, "clip-vision", reference, folder, {"pixel_values": pixels}, found, options=options
        )


def _text_namings(cases: Cases) -> None:
    """One text tower under the three layouts that text encoders are published in."""
    sizes = TINY_TEXT | {"hidden_size": 20, "num_attention_heads": 2, "intermediate_size": 36}
    with uninitialised():
        model = transformers.CLIPTextModelWithProjection(CLIPTextConfig(**sizes))
    randomise(model, "clip-text")
    ids = token_rows("clip-text.ids", [5, 14, 1], context=16, vocab=67)
    outputs = text_outputs(model.text_model, ids, model.text_projection)
    inputs = {"input_ids": ids}
    projected = {name: t for name, t in model.state_dict().items()}
    tower = {
        name.removeprefix("text_model."): tensor
        for name, tensor in projected.items()
        if name.startswith("text_model.")
    }
    reference = f"{TRANSFORMERS} CLIPTextModelWithProjection"

    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        config = json.loads((Path(scratch) / "config.json").read_text())
    folder = cases.weights / "clip-text-projection"
    write_json(folder / "config.json", config)
    write_safetensors(folder / "model.safetensors", projected)
    cases.write("clip-text-projection", "clip-text", reference, folder, inputs, outputs)

    reference = f"{TRANSFORMERS} CLIPTextModel"
    bare = {name: tensor for name, tensor in outputs.items() if name != "text_embeds"}
    folder = cases.weights / "clip-text-no-prefix"
    write_json(folder / "config.json", config | {"architectures": ["CLIPTextModel"]})
    write_safetensors(folder / "model.safetensors", tower)
    cases.write("clip-text-no-prefix", "clip-text", reference, folder, inputs, bare)

    folder = cases.weights / "clip-text-prefix"
    old = {key: value for key, value in config.items() if key not in ("dtype", "projection_dim")}
    old |= {"architectures": ["CLIPTextModel"], "torch_dtype": "float32"}
    old |= {"transformers_version": "4.22.0.dev0", "eos_token_id": 2, "bos_token_id": 0}
    write_json(folder / "config.json", old)
    prefixed = {f"text_model.{name}": tensor for name, tensor in tower.items()}
    prefixed = with_position_ids(prefixed, {"text_model.": 16})
    write_safetensors(folder / "model.safetensors", prefixed, torch.float16)
    cases.write(
        "clip-text-prefix",
        "clip-text",
        reference,
        folder,
        io="clip-text-no-prefix",
        output_names=list(bare),
    )


def _open_clip_model(sizes: dict, seed: str):
    """A model of open_clip from its own kind of JSON, with seeded weights."""
    with tempfile.TemporaryDirectory() as scratch:
        write_json(Path(scratch) / f"{seed}.json", sizes)
        open_clip.add_model_config(Path(scratch))
        model = open_clip.create_model(seed, precision="fp32")
    return randomise(model, seed)


# OpenAI's files say nothing of heads: one is 64 wide, by convention, in both towers.
OPENAI_TINY = {
    "embed_dim": 20,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 12, "layers": 1, "width": 64, "patch_size": 4, "mlp_ratio": 0.5,
    },
    "text_cfg": {
        "context_length": 14, "vocab_size": 67, "width": 64, "heads": 1, "layers": 1,
        "mlp_ratio": 0.25,
    },
}  # fmt: skip


def openai_model_for(file: Path):
    """Loads a file in OpenAI's naming, tiny or published, through open_clip."""
    if file.parent.name != "openai":
        return open_clip.load_openai_model(str(file), precision="fp32")
    model = _open_clip_model(OPENAI_TINY, "clip-openai")
    randomise(model, "overwritten by the file")
    open_clip.load_checkpoint(model, str(file), weights_only=False)
    return model


def _openai_naming(cases: Cases) -> None:
    model = _open_clip_model(OPENAI_TINY, "clip-openai")
    ids = token_rows("clip-openai.ids", [0, 7, 12], context=14, vocab=67, pad=0)
    pixels = randn("clip-openai.pixels", 2, 3, 12, 12)
    outputs = open_clip_outputs(model, ids, pixels)
    names = list(outputs)
    state = model.state_dict()
    folder = cases.weights / "openai"
    reference = f"{OPEN_CLIP} CLIP (quick_gelu)"

    write_pickle(folder / "bare.pth", state)
    inputs = {"input_ids": ids, "pixel_values": pixels}
    cases.write("clip-openai", "clip", reference, folder / "bare.pth", inputs, outputs)

    # What a training loop around DistributedDataParallel saves.
    write_pickle(
        folder / "trainer-f16.pt",
        {f"module.{name}": tensor for name, tensor in state.items()},
        torch.float16,
        wrap=lambda state: {"epoch": 15, "name": "run", "state_dict": state},
    )
    cases.write(
        "clip-openai-trainer-f16", "clip", reference, folder / "trainer-f16.pt",
        io="clip-openai", output_names=names,
    )  # fmt: skip

    _torchscript(state, OPENAI_TINY, folder / "torchscript-f16.pt")
    cases.write(
        "clip-openai-torchscript", "clip", reference, folder / "torchscript-f16.pt",
        io="clip-openai", output_names=names,
    )  # fmt: skip


def _torchscript(state: dict, sizes: dict, path: Path) -> None:
    """A TorchScript archive with the tensors of OpenAI's: float16, and three sizes as buffers."""

    class Archive(torch.nn.Module):
        """Parameters under OpenAI's names; the code of the archive is of no interest."""

        def __init__(self):
            super().__init__()
            for name, tensor in state.items():
                owner = self
                *parents, leaf = name.split(".")
                for parent in parents:
                    if not hasattr(owner, parent):
                        owner.add_module(parent, torch.nn.Module())
                    owner = getattr(owner, parent)
                owner.register_parameter(leaf, torch.nn.Parameter(tensor.clone(), False))
            constants = {
                "input_resolution": sizes["vision_cfg"]["image_size"],
                "context_length": sizes["text_cfg"]["context_length"],
                "vocab_size": sizes["text_cfg"]["vocab_size"],
            }
            for name, value in constants.items():
                self.register_buffer(name, torch.tensor(value))

        def forward(self, text):
            return self.token_embedding.weight[text]

    path.parent.mkdir(parents=True, exist_ok=True)
    archive = torch.jit.trace(Archive(), torch.zeros(1, 4, dtype=torch.int64)).half()
    buffer = io.BytesIO()
    torch.jit.save(archive, buffer)
    # These entries hold the paths and line numbers of this file, or depend on them.
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith((".debug_pkl", "/.data/serialization_id")):
                name = entry.filename.replace("archive/", f"{path.stem}/", 1)
                target.writestr(zipfile.ZipInfo(name), source.read(entry))


# The published sizes: text width, text heads, vision width, heads, layers, patch, projection.
PUBLISHED = {
    "ViT-B-32": (512, 8, 768, 12, 12, 32, 512),
    "ViT-B-16": (512, 8, 768, 12, 12, 16, 512),
    "ViT-L-14": (768, 12, 1024, 16, 24, 14, 768),
}


def published_config(name: str) -> dict:
    """`config.json` of `openai/clip-vit-…`, without the generation settings it also lists."""
    text, text_heads, vision, heads, layers, patch, projection = PUBLISHED[name]
    common = {"attention_dropout": 0.0, "dropout": 0.0, "hidden_act": "quick_gelu"}
    common |= {"initializer_factor": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-05}
    common |= {"projection_dim": projection}
    text_config = common | {
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_size": text,
        "intermediate_size": 4 * text,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": text_heads,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "vocab_size": 49408,
    }
    vision_config = common | {
        "hidden_size": vision,
        "image_size": 224,
        "intermediate_size": 4 * vision,
        "model_type": "clip_vision_model",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "patch_size": patch,
    }
    return {
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": projection,
        "text_config": text_config,
        "text_config_dict": None,
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": vision_config,
        "vision_config_dict": None,
    }


def published_clip(name: str) -> CLIPModel:
    return hf_clip(CLIPConfig.from_dict(published_config(name)), name)


def write_published_openai(cases: Cases, name: str, model: CLIPModel) -> Path:
    """The weights in OpenAI's naming; the three models take the three containers in turn."""
    state = hf_clip_to_openai(model.state_dict())
    folder = cases.weights / "openai-published"
    if name == "ViT-B-32":
        write_pickle(folder / f"{name}.pth", state)
        return folder / f"{name}.pth"
    if name == "ViT-B-16":
        _, _, _, _, _, _, embed = PUBLISHED[name]
        sizes = {"vision_cfg": {"image_size": 224}}
        sizes |= {"text_cfg": {"context_length": 77, "vocab_size": 49408}, "embed_dim": embed}
        _torchscript(state, sizes, folder / f"{name}.pt")
        return folder / f"{name}.pt"
    write_pickle(
        folder / f"{name}.pt",
        {f"module.{key}": tensor for key, tensor in state.items()},
        torch.float16,
        wrap=lambda state: {"epoch": 15, "name": "run", "state_dict": state},
    )
    return folder / f"{name}.pt"


def full(cases: Cases) -> None:
    reference = f"{TRANSFORMERS} CLIPModel"
    for name in PUBLISHED:
        hf_name, openai_name = f"clip-{name.lower()}-hf", f"clip-{name.lower()}-openai"
        if not cases.wanted(hf_name, openai_name):
            continue
        model = published_clip(name)
        ids = token_rows(f"{name}.ids", [6, 75, 20], context=77, vocab=49408)
        pixels = randn(f"{name}.pixels", 2, 3, 224, 224)
        outputs = hf_outputs(model, ids, pixels)
        folder = cases.weights / f"clip-{name.lower()}"
        write_json(folder / "config.json", published_config(name))
        lengths = {"text_model.": 77, "vision_model.": model.vision_model.embeddings.num_positions}
        state = with_position_ids(model.state_dict(), lengths)
        write_safetensors(folder / "model.safetensors", state)
        inputs = {"input_ids": ids, "pixel_values": pixels}
        cases.write(hf_name, "clip", reference, folder, inputs, outputs)
        file = write_published_openai(cases, name, model)
        cases.write(
            openai_name, "clip", reference, file, io=hf_name, output_names=list(outputs)
        )


def _open_clip(cases: Cases) -> None:
    for name, quick, file in (
        ("clip-open-clip-quick", True, "open_clip_model.safetensors"),
        ("clip-open-clip-gelu", False, "open_clip_pytorch_model.bin"),
    ):
        sizes = {
            "embed_dim": 20,
            "quick_gelu": quick,
            "vision_cfg": {
                "image_size": 12, "layers": 2, "width": 24, "head_width": 8, "patch_size": 4,
                "mlp_ratio": 2.0,
            },
            "text_cfg": {
                "context_length": 12, "vocab_size": 67, "width": 28, "heads": 4, "layers": 2,
                "mlp_ratio": 1.5,
            },
        }  # fmt: skip
        if not quick:
            del sizes["quick_gelu"]
        model = _open_clip_model(sizes, name)
        ids = token_rows(f"{name}.ids", [2, 10, 5], context=12, vocab=67, pad=0)
        pixels = randn(f"{name}.pixels", 2, 3, 12, 12)
        folder = cases.weights / name.removeprefix("clip-")
        preprocess = {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        }
        config = {"model_cfg": sizes, "preprocess_cfg": preprocess}
        write_json(folder / "open_clip_config.json", config)
        write = write_safetensors if quick else write_pickle
        write(folder / file, model.state_dict(), torch.float16)
        activation = "quick_gelu" if quick else "gelu"
        cases.write(
            name,
            "clip",
            f"{OPEN_CLIP} CLIP ({activation})",
            folder,
            {"input_ids": ids, "pixel_values": pixels},
            open_clip_outputs(model, ids, pixels),
        )

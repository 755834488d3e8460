"""BLIP-VQA cases: `BlipForQuestionAnswering` folders as Salesforce published them."""

import json
import tempfile
from pathlib import Path

import numpy
import torch
import transformers
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipProcessor,
)

from models_folder import Cases, write_json, write_safetensors
from models_sbert import saved_files, vocabulary
from models_weights import generator, randomise, uninitialised

REFERENCE = f"transformers {transformers.__version__} BlipForQuestionAnswering"

QUESTIONS = [
    "is there a dog in the picture?",
    "no hat?",
    "Is the man not wearing a hat, or is there no man?",
    "what?",
]

# As `preprocessor_config.json` of the published folders.
PREPROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "BlipImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "processor_class": "BlipProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size_divisor": 32,
}


def picture(name: str, width: int, height: int) -> torch.Tensor:
    """An 8-bit picture `[height, width, 3]`: coarse noise, enlarged."""
    coarse = torch.randint(0, 256, (5, 7, 3), generator=generator(name), dtype=torch.uint8)
    image = Image.fromarray(coarse.numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(numpy.asarray(image).copy())


def write_folder(folder: Path, model, tokenizer, size: int, dtype=None, tied=True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = ["BlipForQuestionAnswering"]
    for name, text in (saved_files(tokenizer) | saved_files(model.config)).items():
        (folder / name).write_text(
            json.dumps(json.loads(text), ensure_ascii=False) + "\n", encoding="utf-8"
        )
    square = {"size": {"height": size, "width": size}}
    write_json(folder / "preprocessor_config.json", PREPROCESSOR | square)
    state = dict(model.state_dict())
    again = ["decoder.weight", "decoder.bias"]
    if tied:
        # Without the second names, as `save_pretrained` writes it.
        for name in again:
            state.pop(f"text_decoder.cls.predictions.{name}", None)
    else:
        # With them and with the position buffers, as it was published.
        for prefix in ("text_encoder", "text_decoder.bert"):
            length = model.config.text_config.max_position_embeddings
            state[f"{prefix}.embeddings.position_ids"] = torch.arange(length).expand(1, -1)
        for name in again:
            name = f"text_decoder.cls.predictions.{name}"
            state[name] = state[name].clone()
    write_safetensors(folder / "model.safetensors", state, dtype)


def build(config: BlipConfig, seed: str, end: float) -> BlipForQuestionAnswering:
    """A random model; `end` is the bias of the end token, so that some answers are short."""
    with uninitialised():
        model = BlipForQuestionAnswering(config)
    model.tie_weights()
    randomise(model, seed)
    model.tie_weights()
    model.text_decoder.cls.predictions.bias.data[config.text_config.sep_token_id] = end
    return model


@torch.no_grad()
def outputs(folder: Path, image: torch.Tensor, options: dict) -> dict[str, torch.Tensor]:
    """Asks each question alone, as the model card does: ids, answers, and all logits of them.

    Answers are padded with 0 to the longest; logits of one answer follow those of the last.
    """
    model = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    processor = BlipProcessor(BlipImageProcessorPil.from_pretrained(folder), tokenizer)
    found = {"logits": []}
    questions, answers, words = [], [], []
    for question in options["questions"]:
        inputs = processor(
            images=Image.fromarray(image.to(torch.uint8).numpy()), text=question, return_tensors="pt"
        )
        if "question_states" not in found:
            found["pixel_values"] = inputs["pixel_values"]
            states = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
            found["image_states"] = states
            found["question_states"] = model.text_encoder(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                encoder_hidden_states=states,
            ).last_hidden_state
        generated = model.generate(
            **inputs, output_logits=True, return_dict_in_generate=True, do_sample=False
        )
        ids = generated.sequences[0, 1:]
        questions.append(inputs["input_ids"][0])
        answers.append(ids)
        words.append(processor.decode(generated.sequences[0], skip_special_tokens=True))
        found["logits"].append(torch.cat(generated.logits))
    found["logits"] = torch.cat(found["logits"])
    pad = torch.nn.utils.rnn.pad_sequence
    found["input_ids"] = pad(questions, batch_first=True)
    found["answer_ids"] = pad(answers, batch_first=True)
    if options.setdefault("answers", words) != words:
        raise ValueError(f"the answers are {words}")
    return found


def write_case(cases: Cases, name: str, folder: Path, image: torch.Tensor) -> dict:
    options = {"questions": QUESTIONS}
    found = outputs(folder, image, options)
    exact = {"relative_l2": 0.0}
    cases.write(
        name,
        "blip-vqa",
        REFERENCE,
        folder,
        {"pixel_values": image.float()},
        found,
        options=options,
        output_tolerances={"input_ids": exact, "answer_ids": exact},
    )
    return options


END = 3.0


def tokenizer(size: int) -> BertTokenizer:
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return BertTokenizer(vocab=vocabulary(first, size))


def small(cases: Cases) -> None:
    text = {
        "vocab_size": 102, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 48, "bos_token_id": 100,
        "sep_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 24, "patch_size": 8,
    }  # fmt: skip
    if not cases.wanted("blip-vqa", "blip-vqa-published"):
        return
    model = build(BlipConfig(text_config=text, vision_config=vision), "blip-vqa", END)
    folder = cases.weights / "blip-vqa"
    write_folder(folder, model, tokenizer(100), 24, torch.float16)
    options = write_case(cases, "blip-vqa", folder, picture("blip-vqa.picture", 37, 29))
    published = cases.weights / "blip-vqa-published"
    write_folder(published, model, tokenizer(100), 24, torch.float16, tied=False)
    names = "image_states question_states input_ids answer_ids logits pixel_values".split()
    exact = {"relative_l2": 0.0}
    cases.write(
        "blip-vqa-published",
        "blip-vqa",
        REFERENCE,
        published,
        io="blip-vqa",
        options=options,
        output_tolerances={"input_ids": exact, "answer_ids": exact},
        output_names=names,
    )


def full(cases: Cases) -> None:
    """`Salesforce/blip-vqa-base` at its published size."""
    name = "blip-vqa-base"
    if cases.wanted(name):
        config = BlipConfig(text_config={"num_attention_heads": 12}, vision_config={})
        config.text_config.sep_token_id = 3
        # At this width a random decoder repeats one token whatever it was asked: it is the logits
        # that say something here, and the small cases whose answers differ and end.
        model = build(config, name, END)
        folder = cases.weights / name
        write_folder(folder, model, tokenizer(30522), 384, tied=False)
        write_case(cases, name, folder, picture(f"{name}.picture", 640, 427))

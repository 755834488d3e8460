"""What is compared: every row is one piece of work, done by several engines.

A row of kind `model` is one evaluation of one network, on the inputs of a case; one of kind
`process` is a whole command from its start to its end.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    kind: str
    """`model` or `process`."""
    dtype: str
    """`f32` or `bf16`; what weights and activations are computed in."""
    engines: tuple[str, ...]
    """Those that can do it, ours first."""
    case: str = ""
    """For kind `model`: the case with inputs and the reference's outputs (see `cases.py`)."""
    model: str = ""
    """For kind `model`: what `negkit bench` calls it."""
    batch: int = 1
    size: int = 0
    bars: tuple[tuple[str, float], ...] = ()
    """`(peer, factor)`: ours is to take at most `factor` times the peer's time."""
    seconds_bar: float | None = None
    """Most seconds that ours is to take."""
    error_bar: float | None = None
    """Largest relative L2 error that ours is to have against PyTorch in f32."""
    options: dict = field(default_factory=dict)


def _model_rows() -> list[Row]:
    rows = []
    peers = ("negkit", "torch", "openvino")
    f32 = (*peers, "candle")

    def add(name, title, model, case, batch, size, bars16, bars32, more32=f32, error16=None):
        common = {"kind": "model", "case": case, "model": model, "batch": batch, "size": size}
        rows.append(
            Row(f"{name}-bf16", f"{title}, bf16", dtype="bf16", engines=peers, bars=bars16,
                error_bar=error16, **common)
        )  # fmt: skip
        rows.append(
            Row(f"{name}-f32", f"{title}, f32", dtype="f32", engines=more32, bars=bars32, **common)
        )

    add("unet", "UNet 512 px, batch 2", "unet", "unet-512-2", 2, 512,
        (("openvino", 0.90),), (("torch", 1.0),), (*f32, "sdcpp"), 1.5e-2)  # fmt: skip
    add("vae-decode", "VAE decode 512 px", "vae-decode", "vae-decode-512", 1, 512,
        (("openvino", 1.3),), (("torch", 1.0),), (*f32, "sdcpp"))  # fmt: skip
    clip = (("torch", 0.9),)
    for batch in (2, 64):
        add(f"clip-text-{batch}", f"CLIP L/14 text, batch {batch}", "clip-text",
            f"clip-text-{batch}", batch, 77, clip, clip)  # fmt: skip
    for size, label in (("b16", "B/16"), ("l14", "L/14")):
        for batch in (1, 16):
            add(f"clip-vision-{size}-{batch}", f"CLIP {label} vision, batch {batch}",
                "clip-vision", f"clip-vision-{size}-{batch}", batch, 224, clip, clip)  # fmt: skip
    for phrases, factor in ((1, 0.8), (8, 0.25)):
        add(f"clipseg-{phrases}", f"CLIPSeg rd64 352 px, 1 picture, {phrases} phrases".replace(
            "1 phrases", "1 phrase"), "clipseg", f"clipseg-{phrases}", phrases, 352,
            (("torch", factor),), (("torch", factor),), peers)  # fmt: skip
    return rows


def _process_rows() -> list[Row]:
    rows = []
    for dtype in ("bf16", "f32"):
        more = ("sdcpp",) if dtype == "f32" else ()
        rows.append(
            Row(f"txt2img-{dtype}", f"txt2img 512 px, 20 steps, whole process, {dtype}", "process",
                dtype, ("negkit", "torch", *more), bars=(("torch", 0.9),),
                options={"steps": 20, "size": 512})
        )  # fmt: skip
    rows.append(
        Row("start", "start: f16 weights in the page cache, 1 step at 64 px", "process", "bf16",
            ("negkit", "torch"), bars=(("torch", 0.3),), seconds_bar=3.0,
            options={"steps": 1, "size": 64, "variant": "fp16"})
    )  # fmt: skip
    rows.append(
        Row("mini", "mini world: txt2img of one picture, whole process", "process", "f32",
            ("negkit",), seconds_bar=3.0)
    )  # fmt: skip
    for dtype in ("bf16", "f32"):
        rows.append(
            Row(f"table5-{dtype}", f"scoring of 1,000 phrases on 180 pictures, {dtype}", "process",
                dtype, ("negkit", "torch"), bars=(("torch", 0.25),),
                options={"pictures": 180, "phrases": 1000})
        )  # fmt: skip
    return rows


ROWS = _model_rows() + _process_rows()
CHEAP = (
    "clip-text-2-bf16", "clip-text-2-f32", "clip-vision-b16-1-bf16", "clip-vision-b16-1-f32",
    "clipseg-1-bf16", "clipseg-1-f32", "mini",
)  # fmt: skip
"""The rows that take seconds, for a first look."""

"""Makes fixtures/image/: what PIL, transformers, torch and pycocotools make of small pictures.

Made with pillow 13.0.0 (libjpeg-turbo 3.2.0, libwebp 1.6.0), numpy 2.4.6, torch 2.13.0, transformers
5.23.0, pycocotools 2.0.11 and safetensors 0.8. `NEGKIT_SHARED_DATA` or ../shared/data must hold tiny-coco
and coco-iou. Run:
  cargo run -p negkit-image --example decode_to_png -- FOLDER ../shared/data/tiny-coco/val2017/*.jpg
  HF_HUB_OFFLINE=1 python eval/parity/image.py --decoded FOLDER

- `formats/*`: pictures in many formats, and `formats.safetensors` [h, w, 3] u8 by file name: each one
  upright (`ImageOps.exif_transpose`) and `convert("RGB")`. Two exceptions: the reference of 16-bit grey
  is the high byte, because PIL clips it at 255; and outside a GIF frame that is smaller than its screen
  it is black, where PIL shows whatever colour comes first in the palette.
- `resize.safetensors`: inputs `from.NAME`, results `NAME.FILTER.WIDTHxHEIGHT` of `Image.resize`.
- `interpolate.safetensors`: `from.NAME` [h, w], `NAME.HEIGHTxWIDTH` of torch's `F.interpolate`.
- `crop.safetensors`: `box.N` (four f64) and `crop.N` of `Image.crop` on `resize.safetensors`' `from.rgb`.
- `preprocess.json`, `preprocess.safetensors`: configurations, pictures and `pixel_values` of
  transformers' PIL image processors.
- `photos.safetensors`: for the 50 photos of tiny-coco, in order of their names, `pixel_values` of CLIP
  (`clip`, 224) and CLIPSeg (`clipseg`, 352): samples at `positions`, and over all values their sum and
  their sum of absolute values (f64). `DECODER.TOWER.*` is computed by transformers from the pixels that
  DECODER made of the JPEG: `pil`, or `negkit` (PNG files in the folder `--decoded`). So resizing can be
  compared given equal pixels, apart from how JPEG decoders differ. `DECODER.fnv1a` is FNV-1a (64 bits,
  as i64) over the decoded RGB bytes.
- `rle.json`: masks, their COCO encodings, areas and boxes by pycocotools; `shared`: the same for the
  crowds and every fifth result of coco-iou.
- `text.png`: texts in tEXt, zTXt and iTXt chunks, written by PIL.
"""

import argparse
import io
import json
import os
import pathlib
import struct
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, PngImagePlugin
from pycocotools import mask as coco_mask
from safetensors.numpy import save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "fixtures" / "image"
SHARED = pathlib.Path(os.environ.get("NEGKIT_SHARED_DATA", HERE.parents[2] / "shared" / "data"))
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
POSITIONS = {"negkit": 48, "pil": 16}


def picture(width, height, channels, seed):
    """A smooth picture with a hard edge and some noise: filters overshoot at the edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for channel in range(channels):
        wave = 127 + 110 * np.sin(x / (3 + channel) + y / 5 + channel)
        wave[:, width // 2 :] = 255 - wave[:, width // 2 :] * (channel % 2)
        wave[height // 3, :] = 0
        planes.append(wave + rng.normal(0, 12, wave.shape))
    stacked = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return stacked[..., 0] if channels == 1 else stacked


def png(width, height, depth, color, rows, extra=()):
    """A PNG with sample depths and chunks that PIL does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *[chunk(kind, data) for kind, data in extra]]
    chunks.append(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def png16(samples, color):
    height, width = samples.shape[:2]
    return png(width, height, 16, color, [row.astype(">u2").tobytes() for row in samples])


def gif_with_offset_frame():
    """A GIF whose one frame is smaller than its screen."""
    buffer = io.BytesIO()
    Image.fromarray(picture(6, 5, 3, 20)).quantize(8).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 6, 5))
    data[6:10] = struct.pack("<HH", 12, 9)
    data[frame + 1 : frame + 5] = struct.pack("<HH", 3, 2)
    return bytes(data)


def format_files():
    files = {}

    def save(name, image, **options):
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM", "pbm": "PPM"}.get(
            name.rpartition(".")[2], name.rpartition(".")[2].upper()
        )
        image.save(buffer, kind, **options)
        files[name] = buffer.getvalue()

    rgb = Image.fromarray(picture(21, 13, 3, 1))
    grey = Image.fromarray(picture(21, 13, 1, 2))
    alpha = Image.fromarray(picture(21, 13, 4, 3))
    grey_alpha = Image.merge("LA", [grey, alpha.getchannel("A")])
    palette = rgb.quantize(11)
    cmyk = Image.fromarray(picture(21, 13, 4, 4), "CMYK")
    other = Image.fromarray(picture(21, 13, 3, 5))
    wide = np.random.default_rng(6).integers(0, 65536, (5, 7, 4), dtype=np.uint16)
    wide[0, 0] = [255, 256, 65535, 0]

    save("rgb8.png", rgb)
    save("grey8.png", grey)
    save("grey1.png", grey.convert("1"))
    save("grey_alpha8.png", grey_alpha)
    save("rgba8.png", alpha)
    save("palette.png", palette)
    save("palette_transparent.png", palette, transparency=bytes([0, 128, 255, 7]))
    files["grey2.png"] = png(7, 2, 2, 0, [b"\x1b\xe4", b"\x00\xff"])
    files["grey4.png"] = png(6, 1, 4, 0, [b"\x01\x7f\xe8"])
    files["rgb8_transparent_color.png"] = png(
        2, 1, 8, 2, [bytes([9, 8, 7, 200, 100, 50])], [(b"tRNS", struct.pack(">HHH", 9, 8, 7))]
    )
    files["grey16.png"] = png16(wide[..., 0], 0)
    files["grey_alpha16.png"] = png16(wide[..., :2], 4)
    files["rgb16.png"] = png16(wide[..., :3], 2)
    files["rgba16.png"] = png16(wide, 6)

    photo = Image.fromarray(picture(43, 30, 3, 7))
    save("ycbcr444.jpg", photo, quality=95, subsampling=0)
    save("ycbcr420.jpg", photo, quality=85, subsampling=2)
    save("progressive.jpg", photo, quality=85, subsampling=2, progressive=True)
    save("grey.jpg", grey, quality=90)
    save("cmyk.jpg", cmyk, quality=95)

    small = Image.fromarray(
        np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]],
                  [[20, 20, 20], [60, 60, 60], [100, 100, 100], [140, 140, 140], [180, 180, 180]],
                  [[250, 120, 0], [0, 120, 250], [120, 0, 250], [120, 250, 0], [250, 250, 250]]],
                 dtype=np.uint8)
    )  # fmt: skip
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"orientation{orientation}.jpg", small, quality=100, subsampling=0, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("orientation6.png", small, exif=exif)
    save("orientation6.webp", small, exif=exif, lossless=True)
    save("orientation6.tif", small, exif=exif)

    save("palette.gif", palette)
    save("palette_transparent.gif", palette, transparency=3)
    save("animated.gif", rgb, save_all=True, append_images=[other], duration=50)
    files["offset_frame.gif"] = gif_with_offset_frame()
    save("rgba_lossless.webp", alpha, lossless=True, exact=True)
    save("rgb_lossy.webp", photo, quality=90)
    save("animated.webp", rgb, lossless=True, save_all=True, append_images=[other], duration=50)
    save("rgb8.bmp", rgb)
    save("palette.bmp", palette)
    save("rgb8_lzw.tif", rgb, compression="tiff_lzw")
    save("rgb8.ppm", rgb)
    save("grey8.pgm", grey)
    save("grey1.pbm", grey.convert("1"))
    save("rgba8.tga", alpha)
    save("rgb8.ico", alpha.resize((16, 16)), sizes=[(16, 16)])
    files["rgb16.ppm"] = b"P6 7 5 65535\n" + wide[..., :3].astype(">u2").tobytes()
    return files


def formats():
    (OUT / "formats").mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, data in format_files().items():
        (OUT / "formats" / name).write_bytes(data)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if image.mode.startswith("I;16"):
            rgb = np.repeat((np.array(image) >> 8).astype(np.uint8)[..., None], 3, -1)
        else:
            rgb = np.array(image.convert("RGB"))
        if name == "offset_frame.gif":
            framed = np.zeros_like(rgb)
            framed[2:7, 3:9] = rgb[2:7, 3:9]
            rgb = framed
        expected[name] = np.ascontiguousarray(rgb)
    save_file(expected, OUT / "formats.safetensors")


def resize():
    tensors = {
        "from.rgb": picture(43, 31, 3, 10),
        "from.grey": picture(43, 31, 1, 11),
        "from.noise": np.random.default_rng(12).integers(0, 256, (3, 500, 3), dtype=np.uint8),
        "from.pixel": np.array([[[3, 200, 255]]], dtype=np.uint8),
    }
    sizes = {
        "rgb": [(17, 23), (43, 11), (9, 31), (1, 1), (44, 32), (39, 16), (40, 25)],
        "grey": [(17, 23), (60, 50), (43, 31)],
        "noise": [(7, 5)],
        "pixel": [(4, 3)],
    }
    for name, targets in sizes.items():
        image = Image.fromarray(tensors[f"from.{name}"])
        for target in targets:
            for label, number in FILTERS.items():
                tensors[f"{name}.{label}.{target[0]}x{target[1]}"] = np.array(image.resize(target, number))
    # Ties between neighbours, where the order of rounding shows.
    for length in (5, 43, 100, 255):
        line = np.arange(length, dtype=np.uint8)[None]
        tensors[f"from.line{length}"] = line
        for target in (3, 7, 10, 44, 99, 250, 333):
            result = Image.fromarray(line).resize((target, 1), Image.NEAREST)
            tensors[f"line{length}.nearest.{target}x1"] = np.array(result)
    save_file(tensors, OUT / "resize.safetensors")


def crop():
    image = Image.fromarray(picture(43, 31, 3, 10))
    boxes = [
        (3.5, 4.5, 20.5, 11.49), (2.5, 0.5, 7.5, 6.5), (-5.2, -3.7, 4.4, 5.0), (40, 20, 50.5, 40.5),
        (60, 60, 64, 62), (-9, -9, -4, -2), (0, 0, 43, 31), (-0.5, -0.4, 1.5, 2.5), (-2, 10, 47, 12),
    ]  # fmt: skip
    tensors = {}
    for index, box in enumerate(boxes):
        tensors[f"box.{index}"] = np.array(box, dtype=np.float64)
        tensors[f"crop.{index}"] = np.array(image.crop(box))
    save_file(tensors, OUT / "crop.safetensors")


def interpolate():
    generator = torch.Generator().manual_seed(13)
    sizes = {(5, 7): [(11, 13), (3, 4), (1, 1), (5, 7), (40, 33), (5, 9)], (1, 1): [(3, 2)],
             (22, 22): [(61, 48)], (1, 6): [(4, 17)]}  # fmt: skip
    tensors = {}
    for (h, w), targets in sizes.items():
        values = torch.randn((h, w), generator=generator) * 4
        tensors[f"from.{h}x{w}"] = values.numpy()
        for target in targets:
            out = F.interpolate(values[None, None], size=target, mode="bilinear", align_corners=False)
            tensors[f"{h}x{w}.{target[0]}x{target[1]}"] = out[0, 0].numpy()
    save_file(tensors, OUT / "interpolate.safetensors")


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
CONFIGS = [
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 18}, "crop_size": {"height": 16, "width": 15}, **CLIP},
    {"feature_extractor_type": "CLIPFeatureExtractor", "size": 14, "crop_size": 14, "resample": 3, "do_resize": True, "do_center_crop": True, "do_normalize": True, **CLIP},
    {"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 12}, "crop_size": 17, "resample": 2},
    {"image_processor_type": "CLIPImageProcessor", "size": {"height": 11, "width": 16}, "crop_size": {"height": 14, "width": 12}},
    {"image_processor_type": "CLIPImageProcessor", "do_resize": False, "crop_size": 16, "do_normalize": False},
    {"image_processor_type": "CLIPImageProcessor", "size": 13, "do_center_crop": False, "do_rescale": False, "resample": 0},
    {"feature_extractor_type": "ViTFeatureExtractor", "size": 16, "resample": 2, "do_resize": True, "do_normalize": True, **IMAGENET},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 9, "width": 14}, "rescale_factor": 0.01, "image_mean": 0.25, "image_std": [0.5, 0.25, 2.0]},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 12}, "do_rescale": False, "do_normalize": False, "do_convert_rgb": True},
]  # fmt: skip


def processor(config):
    name = config.get("image_processor_type", config.get("feature_extractor_type"))
    options = {key: value for key, value in config.items() if not key.endswith("_type")}
    kind = CLIPImageProcessorPil if name.startswith("CLIP") else ViTImageProcessorPil
    return kind(**options)


def pixel_values(config, image):
    return np.asarray(processor(config)(images=image, return_tensors="np")["pixel_values"][0])


def preprocess():
    tensors, cases = {}, []
    for index, (width, height) in enumerate([(40, 29), (17, 52), (8, 5)]):
        tensors[f"picture.{index}"] = picture(width, height, 3, 30 + index)
        for number, config in enumerate(CONFIGS[: (9, 7, 4)[index]]):
            values = pixel_values(config, Image.fromarray(tensors[f"picture.{index}"]))
            name = f"values.{number}.{index}"
            tensors[name] = np.ascontiguousarray(values, dtype=np.float32)
            cases.append({"config": config, "picture": f"picture.{index}", "values": name})
    save_file(tensors, OUT / "preprocess.safetensors")
    (OUT / "preprocess.json").write_text(json.dumps(cases, indent=0) + "\n")


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return digest - 2**64 if digest >= 2**63 else digest


def photos(decoded):
    towers = {
        "clip": {"image_processor_type": "CLIPImageProcessor", "size": 224, "crop_size": 224, "resample": 3, **CLIP},
        "clipseg": {"image_processor_type": "ViTImageProcessor", "size": 352, "resample": 2, **IMAGENET},
    }  # fmt: skip
    tensors = {}
    for path in sorted((SHARED / "tiny-coco" / "val2017").glob("*.jpg")):
        for decoder, file in {"pil": path, "negkit": decoded / f"{path.stem}.png"}.items():
            image = Image.open(file).convert("RGB")
            tensors.setdefault(f"{decoder}.fnv1a", []).append(fnv1a(image.tobytes()))
            for tower, config in towers.items():
                name = f"{decoder}.{tower}"
                values = pixel_values(config, image).reshape(-1)
                places = np.random.default_rng(40).integers(0, values.size, POSITIONS[decoder])
                tensors[f"{name}.positions"] = places.astype(np.int64)
                tensors.setdefault(f"{name}.samples", []).append(values[places])
                wide = values.astype(np.float64)
                tensors.setdefault(f"{name}.sums", []).append([wide.sum(), np.abs(wide).sum()])
    save_file({name: np.array(values) for name, values in tensors.items()}, OUT / "photos.safetensors")


def describe(rle):
    return {
        "counts": rle["counts"].decode() if isinstance(rle["counts"], bytes) else rle["counts"],
        "area": int(coco_mask.area(rle)),
        "box": [int(side) for side in coco_mask.toBbox(rle)],
    }


def rle():
    rng = np.random.default_rng(50)
    masks = [np.zeros((1, 1)), np.ones((1, 1)), np.zeros((4, 3)), np.ones((4, 3)), np.eye(5), np.eye(7, 4)]
    masks += [rng.random((9, 11)) < share for share in (0.02, 0.2, 0.5, 0.9)]
    blob = np.zeros((60, 70))
    blob[10:50, 20:60] = 1
    blob[25:30, 30:31] = 0
    stripes = np.zeros((40, 6))
    stripes[:, 1::2] = 1
    masks += [blob, stripes, blob[::-1, :33]]
    cases = []
    for mask in masks:
        pixels = np.asfortranarray(mask.astype(np.uint8))
        rows = ["".join(map(str, row)) for row in pixels.tolist()]
        cases.append({"rows": rows, **describe(coco_mask.encode(pixels))})

    folder = SHARED / "coco-iou"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    crowds = [a for a in truth["annotations"] if isinstance(a["segmentation"], dict)]
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    shared = {"crowds": {}, "results": []}
    for annotation in crowds:
        packed = coco_mask.frPyObjects(annotation["segmentation"], *sizes[annotation["image_id"]])
        described = describe(packed)
        described["counts_fnv1a"] = str(fnv1a(described.pop("counts").encode()))
        shared["crowds"][str(annotation["id"])] = described
    for result in results[::5]:
        described = describe(result["segmentation"])
        pixels = coco_mask.decode(result["segmentation"])
        shared["results"].append([described["area"], *described["box"], str(fnv1a(np.packbits(pixels).tobytes()))])
    text = json.dumps({"cases": cases, "shared": shared}, separators=(",", ":"))
    (OUT / "rle.json").write_text(text + "\n")


def text():
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "Grüße, a street\nSteps: 20, Sampler: Euler a, Seed: 1")
    info.add_text("unicode", "一只猫 🐈 – no dog")
    info.add_text("packed", "é" * 3000, zip=True)
    info.add_itxt("packed unicode", "猫" * 2000, zip=True)
    Image.new("RGB", (2, 2)).save(OUT / "text.png", pnginfo=info)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--decoded", type=pathlib.Path, required=True)
    decoded = parser.parse_args().decoded
    OUT.mkdir(parents=True, exist_ok=True)
    for make in (formats, resize, crop, interpolate, preprocess, rle, text):
        make()
    photos(decoded)
    for file in OUT.rglob("*.*"):
        file.chmod(0o644)

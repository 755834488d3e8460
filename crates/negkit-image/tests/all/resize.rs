//! Resizing and cropping against Pillow, float maps against torch.

use image::{GrayImage, RgbImage};
use negkit_image::{Error, Filter, crop_box_pil, resize_bilinear_f32, resize_luma, resize_rgb};

use crate::reference::Tensors;

fn filter(name: &str) -> Filter {
    match name {
        "nearest" => Filter::Nearest,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        other => panic!("{other}"),
    }
}

fn pair(text: &str) -> (usize, usize) {
    let (a, b) = text.split_once('x').unwrap();
    (a.parse().unwrap(), b.parse().unwrap())
}

#[test]
fn resizing_equals_pillow_in_every_sample() {
    let tensors = Tensors::open("resize.safetensors");
    let mut compared = 0;
    for name in tensors.names() {
        let parts: Vec<&str> = name.split('.').collect();
        let [source, kind, size] = parts[..] else {
            continue;
        };
        let (width, height) = pair(size);
        let (width, height) = (width as u32, height as u32);
        let (shape, samples) = tensors.u8(&format!("from.{source}"));
        let (h, w) = (shape[0] as u32, shape[1] as u32);
        let result = if shape.len() == 3 {
            let picture = RgbImage::from_raw(w, h, samples).unwrap();
            resize_rgb(&picture, width, height, filter(kind))
                .unwrap()
                .into_raw()
        } else {
            let picture = GrayImage::from_raw(w, h, samples).unwrap();
            resize_luma(&picture, width, height, filter(kind))
                .unwrap()
                .into_raw()
        };
        assert_eq!(result, tensors.u8(&name).1, "{name}");
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn impossible_sizes_are_errors() {
    let picture = RgbImage::new(4, 3);
    for (picture, width, height) in [
        (&picture, 0, 5),
        (&picture, 5, 0),
        (&RgbImage::new(0, 3), 2, 2),
        (&picture, u32::MAX, u32::MAX),
        (&RgbImage::new(1, 70_000), 70_000, 1),
    ] {
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic] {
            let result = resize_rgb(picture, width, height, filter);
            // The last one is refused only when the picture between the passes would be huge.
            if picture.height() == 70_000 {
                assert!(result.is_ok());
            } else {
                assert!(matches!(result, Err(Error::Shape { .. })));
            }
        }
    }
    let tall = RgbImage::new(2, 20_000);
    assert!(resize_rgb(&tall, 20_000, 20_000, Filter::Bilinear).is_err());
}

#[test]
fn float_maps_equal_torch() {
    let tensors = Tensors::open("interpolate.safetensors");
    let mut worst = 0.0_f32;
    let mut compared = 0;
    for name in tensors.names() {
        let (source, target) = name.split_once('.').unwrap();
        if source == "from" {
            continue;
        }
        let (_, values) = tensors.f32(&format!("from.{source}"));
        let result = resize_bilinear_f32(&values, pair(source), pair(target)).unwrap();
        let (_, expected) = tensors.f32(&name);
        assert_eq!(result.len(), expected.len(), "{name}");
        for (a, b) in result.iter().zip(&expected) {
            worst = worst.max((a - b).abs() / b.abs().max(1.0));
        }
        compared += 1;
    }
    println!("largest difference to torch over {compared} maps: {worst:e}");
    assert!(compared >= 9 && worst <= 1e-6, "{worst:e}");
}

#[test]
fn float_maps_of_the_wrong_length_are_errors() {
    for (length, from, to) in [
        (5, (2, 3), (4, 4)),
        (0, (0, 3), (4, 4)),
        (6, (2, 3), (0, 4)),
        (6, (2, 3), (usize::MAX, 2)),
        (6, (usize::MAX, 2), (4, 4)),
    ] {
        let result = resize_bilinear_f32(&vec![0.0; length], from, to);
        assert!(
            matches!(result, Err(Error::Shape { .. })),
            "{from:?} to {to:?}"
        );
    }
}

#[test]
fn crops_equal_pillow() {
    let picture = Tensors::open("resize.safetensors").rgb("from.rgb");
    let tensors = Tensors::open("crop.safetensors");
    let boxes = tensors
        .names()
        .iter()
        .filter(|name| name.starts_with("box."))
        .count();
    assert!(boxes >= 9);
    for index in 0..boxes {
        let corners = tensors.f64(&format!("box.{index}"));
        let [x0, y0, x1, y1] = corners[..] else {
            panic!("{corners:?}");
        };
        let crop = crop_box_pil(&picture, x0, y0, x1, y1).unwrap();
        assert_eq!(crop, tensors.rgb(&format!("crop.{index}")), "{corners:?}");
    }
}

#[test]
fn boxes_without_pixels_are_errors() {
    let picture = RgbImage::new(10, 10);
    for [x0, y0, x1, y1] in [
        [3.0, 3.0, 3.4, 8.0],
        [5.0, 3.0, 2.0, 8.0],
        [0.0, 0.0, f64::NAN, 4.0],
        [f64::NEG_INFINITY, 0.0, 4.0, 4.0],
        [0.0, 0.0, 1e6, 1e6],
        [1e300, 0.0, 1.1e300, 4.0],
    ] {
        assert!(matches!(
            crop_box_pil(&picture, x0, y0, x1, y1),
            Err(Error::Shape { .. })
        ));
    }
}

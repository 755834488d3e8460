//! Where reference values and shared data lie, and how to read them.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};

use image::RgbImage;
use negkit_shared_data::shared;
use safetensors::{Dtype, SafeTensors};

/// A path under eval/parity/fixtures/image.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../eval/parity/fixtures/image")
        .join(name)
}

/// The photos of tiny-coco, by name.
pub fn photos() -> Option<Vec<PathBuf>> {
    let folder = shared("tiny-coco/val2017")?;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 50);
    Some(paths)
}

/// A safetensors file of reference values.
pub struct Tensors(Vec<u8>);

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(name)).unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all().names().iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    fn all(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> (Vec<usize>, Vec<u8>) {
        let all = self.all();
        let view = all.tensor(name).unwrap();
        assert_eq!(view.dtype(), dtype, "{name}");
        (view.shape().to_vec(), view.data().to_vec())
    }

    pub fn u8(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        self.bytes(name, Dtype::U8)
    }

    pub fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, bytes) = self.bytes(name, Dtype::F32);
        let values = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (shape, values.collect())
    }

    pub fn f64(&self, name: &str) -> Vec<f64> {
        let (_, bytes) = self.bytes(name, Dtype::F64);
        bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    pub fn i64(&self, name: &str) -> Vec<i64> {
        let (_, bytes) = self.bytes(name, Dtype::I64);
        bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    /// A picture stored as [h, w, 3].
    pub fn rgb(&self, name: &str) -> RgbImage {
        let (shape, samples) = self.u8(name);
        assert_eq!(shape[2], 3, "{name}");
        RgbImage::from_raw(shape[1] as u32, shape[0] as u32, samples).unwrap()
    }
}

/// FNV-1a, 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |digest, &byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// Largest absolute difference of two pictures of equal size.
pub fn max_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter()
        .zip(b.iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap_or(0)
}

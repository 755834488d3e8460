//! What the integration tests share: where the fixtures are, and comparing element by element.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::path::PathBuf;

use candle_core::{DType, Device};
use negkit_checkpoint::{Checkpoint, ElementType, TensorView};
use negkit_nn::TensorSource;

/// `eval/parity/fixtures/checkpoint/PATH`; `eval/parity/checkpoint.py` makes them.
pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../eval/parity/fixtures/checkpoint")
        .join(path)
}

pub fn open(path: &str) -> Checkpoint {
    Checkpoint::open(fixture(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All elements, as bits that tell every two values apart that differ.
pub fn bits(view: &TensorView) -> Vec<u64> {
    let cpu = &Device::Cpu;
    match view.element() {
        ElementType::I64 | ElementType::I32 | ElementType::I16 | ElementType::I8 => {
            let tensor = view.load(DType::I64, cpu).unwrap().flatten_all().unwrap();
            let values = tensor.to_vec1::<i64>().unwrap();
            values.into_iter().map(|v| v as u64).collect()
        }
        ElementType::U8 | ElementType::Bool | ElementType::U16 | ElementType::U32 => {
            let tensor = view.load(DType::U32, cpu).unwrap().flatten_all().unwrap();
            let values = tensor.to_vec1::<u32>().unwrap();
            values.into_iter().map(u64::from).collect()
        }
        _ => {
            let tensor = view.load(DType::F64, cpu).unwrap().flatten_all().unwrap();
            let values = tensor.to_vec1::<f64>().unwrap();
            values.into_iter().map(f64::to_bits).collect()
        }
    }
}

/// Same names, types, shapes and, bit for bit, values.
pub fn assert_same(found: &Checkpoint, expected: &Checkpoint) {
    assert_eq!(found.names(), expected.names(), "{}", found.origin());
    for (name, view) in found.iter() {
        let wanted = expected.get(name).unwrap();
        assert_eq!(view.element(), wanted.element(), "type of {name}");
        assert_eq!(view.shape(), wanted.shape(), "shape of {name}");
        assert_eq!(
            bits(view),
            bits(wanted),
            "values of {name} in {}",
            found.origin()
        );
    }
}

//! The noise against `torch.randn`, from `eval/parity/noise.py`.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use negkit_diffusion::noise::{NoiseError, NoiseSource, TorchGenerator};

const TOLERANCE: f32 = 1e-6;

fn fixtures() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../eval/parity/fixtures/noise/noise.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn seeds(fixtures: &HashMap<String, Tensor>) -> Vec<u64> {
    let seeds = fixtures["seeds"].to_vec1::<i64>().unwrap();
    seeds.into_iter().map(|seed| seed as u64).collect()
}

/// Row `index` of a fixture, flattened.
fn row(fixture: &Tensor, index: usize) -> Vec<f32> {
    let row = fixture.get(index).unwrap();
    row.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= TOLERANCE,
            "{what}, element {index}: {found} instead of {expected}"
        );
    }
}

fn fnv1a(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[test]
fn first_draw_equals_torch() {
    let fixtures = fixtures();
    let seeds = seeds(&fixtures);
    assert_eq!(seeds.len(), 10);
    let shapes: [&[usize]; 5] = [&[3], &[15], &[17], &[5, 7], &[1, 4, 8, 8]];
    for shape in shapes {
        let name: Vec<String> = shape.iter().map(usize::to_string).collect();
        let fixture = &fixtures[&name.join("x")];
        for (index, seed) in seeds.iter().enumerate() {
            let found = TorchGenerator::new(*seed).randn(shape).unwrap();
            assert_close(&found, &row(fixture, index), &format!("{shape:?}, {seed}"));
        }
    }
}

#[test]
fn latents_equal_torch_bit_for_bit() {
    let fixtures = fixtures();
    let digests = fixtures["4x64x64.fnv1a"].to_vec1::<i64>().unwrap();
    for (index, seed) in seeds(&fixtures).into_iter().enumerate() {
        let found = TorchGenerator::new(seed).randn(&[4, 64, 64]).unwrap();
        let strided: Vec<f32> = found.iter().step_by(97).copied().collect();
        let expected = row(&fixtures["4x64x64.strided"], index);
        assert_close(&strided, &expected, &format!("seed {seed}"));
        assert_eq!(fnv1a(&found), digests[index] as u64, "seed {seed}");
    }
}

fn draw_consecutively(generator: &mut TorchGenerator) -> Vec<f32> {
    let shapes: [&[usize]; 11] = [
        &[3],
        &[5, 7],
        &[2, 1],
        &[4, 64, 64],
        &[],
        &[16],
        &[0, 4],
        &[15],
        &[31],
        &[1],
        &[1],
    ];
    let mut values = Vec::new();
    for shape in shapes {
        let draw = generator.randn(shape).unwrap();
        if shape != [4, 64, 64] {
            values.extend(draw);
        }
    }
    values
}

#[test]
fn consecutive_draws_consume_the_stream_as_torch_does() {
    let fixtures = fixtures();
    for (index, seed) in seeds(&fixtures).into_iter().enumerate() {
        let mut generator = TorchGenerator::new(seed);
        assert_eq!(generator.seed(), seed);
        let found = draw_consecutively(&mut generator);
        let what = format!("seed {seed}");
        assert_close(&found, &row(&fixtures["consecutive"], index), &what);
        let after = generator.randn(&[9]).unwrap();
        assert_close(&after, &row(&fixtures["after_state"], index), &what);
    }
}

#[test]
fn states_are_exchangeable_with_torch() {
    let fixtures = fixtures();
    for (index, seed) in seeds(&fixtures).into_iter().take(2).enumerate() {
        let state = fixtures["state"].get(index).unwrap();
        let state: Vec<u8> = state.to_vec1().unwrap();
        let mut restored = TorchGenerator::from_state(&state).unwrap();
        assert_eq!(restored.seed(), seed);
        assert_eq!(
            restored.state().len(),
            state.len(),
            "the state has PyTorch's size"
        );
        let after = restored.randn(&[9]).unwrap();
        let expected = row(&fixtures["after_state"], index);
        assert_close(&after, &expected, &format!("seed {seed}"));

        let mut drawn = TorchGenerator::new(seed);
        draw_consecutively(&mut drawn);
        // All but the cached f64 normal, which the platform's sine may round differently.
        let cached = 8 + 4 + 4 + 8 + 624 * 8 + 8;
        let found = drawn.state();
        assert_eq!(found[..cached], state[..cached]);
        assert_eq!(found[cached + 8..], state[cached + 8..]);
    }
}

#[test]
fn a_saved_state_continues_the_stream() {
    // 3 leaves a cached normal, 16 does not; 700 passes the refill of the engine's words.
    for draw in [0, 3, 16, 700] {
        let mut generator = TorchGenerator::new(u64::MAX);
        generator.randn(&[draw]).unwrap();
        let mut restored = TorchGenerator::from_state(&generator.state()).unwrap();
        assert_eq!(restored, generator);
        assert_eq!(
            restored.randn(&[5]).unwrap(),
            generator.randn(&[5]).unwrap()
        );
    }
}

#[test]
fn broken_states_are_refused() {
    let state = TorchGenerator::new(3).state();
    let mut left_too_large = state.clone();
    left_too_large[8] = 255;
    let mut wide_word = state.clone();
    wide_word[24 + 7] = 1;
    let mut not_seeded = state.clone();
    not_seeded[12] = 0;
    let mut next_beyond_the_words = state.clone();
    next_beyond_the_words[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [
        &state[..100],
        &[],
        &left_too_large,
        &wide_word,
        &not_seeded,
        &next_beyond_the_words,
    ] {
        let error = TorchGenerator::from_state(bytes).unwrap_err();
        assert!(matches!(error, NoiseError::InvalidState { .. }), "{error}");
    }
}

#[test]
fn one_generator_per_picture_gives_each_picture_its_own_noise() {
    let shape = [3, 4, 8, 8];
    let mut generators = TorchGenerator::per_picture(&[7, 8, 9]);
    let batch = generators.randn(&shape, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(batch.dims(), shape);
    for (index, seed) in [7, 8, 9].into_iter().enumerate() {
        let alone = TorchGenerator::new(seed).randn(&[1, 4, 8, 8]).unwrap();
        assert_eq!(row(&batch, index), alone);
    }
}

#[test]
fn a_list_of_one_generator_draws_the_whole_batch() {
    let shape = [2, 4, 8, 8];
    let mut list = TorchGenerator::per_picture(&[7]);
    let batch = list.randn(&shape, DType::F32, &Device::Cpu).unwrap();
    let expected = TorchGenerator::new(7).randn(&shape).unwrap();
    let found: Vec<f32> = batch.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found, expected);
}

#[test]
fn noise_comes_in_the_dtype_asked_for() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let mut generator = TorchGenerator::new(1);
        let noise = NoiseSource::randn(&mut generator, &[1, 4, 8, 8], dtype, &Device::Cpu).unwrap();
        assert_eq!(noise.dtype(), dtype);
    }
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let mut generators = TorchGenerator::per_picture(&[1, 2]);
    let error = generators
        .randn(&[3, 4, 8, 8], DType::F32, &Device::Cpu)
        .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("[3, 4, 8, 8]") && message.contains("but 2"));

    let mut none: Vec<TorchGenerator> = Vec::new();
    for shape in [&[0, 4][..], &[]] {
        let error = none.randn(shape, DType::F32, &Device::Cpu).unwrap_err();
        assert!(matches!(error, NoiseError::GeneratorCount { .. }));
    }

    let mut generator = TorchGenerator::new(0);
    for shape in [[usize::MAX, 2], [usize::MAX / 8, 1]] {
        let error = generator.randn(&shape).unwrap_err();
        assert!(matches!(error, NoiseError::TooLarge { .. }), "{error}");
    }
    assert_eq!(generator, TorchGenerator::new(0));
}

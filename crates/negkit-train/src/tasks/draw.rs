//! Chance that depends on the step alone, so that a run that was killed draws the same numbers when
//! it goes on.

use candle_core::{Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// What numbers are drawn for. Every purpose has its own, so that one more draw for the one does not
/// move the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Which examples a batch holds.
    Examples = 1,
    /// Noise of a training batch.
    Noise = 2,
    /// Noise levels of a training batch.
    Timesteps = 3,
    /// Which texts go with the examples, and which are dropped.
    Texts = 4,
    /// Everything that scoring draws.
    HeldOut = 5,
}

/// The generator of a step.
pub(crate) fn chance(seed: u64, step: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    let parts = [seed, step, purpose as u64];
    for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A whole number below `bound`, which is positive.
pub(crate) fn below(rng: &mut impl RngCore, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// A number of 0 to 1, 1 excluded.
pub(crate) fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// `count` indices below `bound`, drawn with replacement: the examples of a step.
pub(crate) fn examples(seed: u64, step: u64, count: usize, bound: usize) -> Vec<usize> {
    let mut rng = chance(seed, step, Purpose::Examples);
    (0..count).map(|_| below(&mut rng, bound)).collect()
}

/// A standard normal number.
pub(crate) fn standard_normal(rng: &mut impl RngCore) -> f64 {
    StandardNormal.sample(rng)
}

/// Standard normal noise of this shape, drawn on the CPU.
pub(crate) fn normal(rng: &mut impl RngCore, shape: &[usize], device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| StandardNormal.sample(rng)).collect();
    Tensor::from_vec(values, shape, device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_step_draws_the_same_again_and_other_steps_and_purposes_do_not() {
        let draw = |seed, step, purpose| chance(seed, step, purpose).next_u64();
        let first = draw(1, 2, Purpose::Noise);
        assert_eq!(first, draw(1, 2, Purpose::Noise));
        for other in [
            draw(2, 2, Purpose::Noise),
            draw(1, 3, Purpose::Noise),
            draw(1, 2, Purpose::Texts),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn numbers_are_spread_over_their_range() {
        let mut rng = chance(0, 0, Purpose::Examples);
        let mut seen = [0; 5];
        for _ in 0..5000 {
            seen[below(&mut rng, 5)] += 1;
        }
        // Five standard deviations of a binomial of 5,000 and 1/5.
        assert!(seen.iter().all(|n| (858..1142).contains(n)), "{seen:?}");
        let mean = (0..5000).map(|_| unit(&mut rng)).sum::<f64>() / 5000.;
        assert!((mean - 0.5).abs() < 0.0205, "{mean}");
        let noise = normal(&mut rng, &[50, 100], &Device::Cpu).unwrap();
        let power: f32 = noise
            .sqr()
            .unwrap()
            .mean_all()
            .unwrap()
            .to_scalar()
            .unwrap();
        assert!((power - 1.).abs() < 0.1, "{power}");
    }
}

//! What a parameter is before the first step.

use candle_core::{Device, Result, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// Standard deviation of embedding tables, class and position embeddings, as CLIP has it.
const EMBEDDING_DEVIATION: f64 = 0.02;
/// CLIP's first temperature: `logit_scale` is its inverse's logarithm.
const CLIP_TEMPERATURE: f64 = 0.07;

/// How the values of one parameter are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All of one value.
    Constant(f64),
    /// Normally distributed around zero.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

impl Init {
    /// All zero, such as the last convolution of a UNet.
    pub const ZEROS: Self = Self::Constant(0.);

    pub(crate) fn draw(
        self,
        seed: u64,
        name: &str,
        shape: &Shape,
        device: &Device,
    ) -> Result<Tensor> {
        let count = shape.elem_count();
        let values: Vec<f32> = match self {
            Self::Constant(value) => vec![value as f32; count],
            Self::Normal { deviation } => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ fnv1a(name));
                let draw = |_| {
                    let z: f32 = StandardNormal.sample(&mut rng);
                    z * deviation as f32
                };
                (0..count).map(draw).collect()
            }
        };
        Tensor::from_vec(values, shape.clone(), &Device::Cpu)?.to_device(device)
    }
}

/// The first values of a parameter, by its name and shape:
///
/// - `logit_scale`: `ln(1 / 0.07)` (CLIP);
/// - embedding tables, class and position embeddings: normal, deviation 0.02 (CLIP);
/// - `bias`: 0; other parameters of one dimension (norms): 1;
/// - all other weights: normal, deviation `1 / sqrt(fan_in)` where `fan_in` is the product of all
///   dimensions but the first (LeCun et al., 1998). For a transposed convolution that counts its
///   outputs; give such a weight an [`Init`] of its own where it matters.
pub fn default_init(name: &str, dims: &[usize]) -> Init {
    let (parent, last) = name.rsplit_once('.').unwrap_or(("", name));
    let table = if last == "weight" { parent } else { last };
    let is_table = table.ends_with("_embedding") && dims.len() <= 2;
    let is_table = is_table || (table.ends_with("embeddings") && dims.len() == 2);
    if last == "logit_scale" {
        return Init::Constant((1. / CLIP_TEMPERATURE).ln());
    }
    if is_table {
        return Init::Normal {
            deviation: EMBEDDING_DEVIATION,
        };
    }
    match dims {
        _ if last == "bias" => Init::ZEROS,
        [] | [_] => Init::Constant(1.),
        [_, inputs @ ..] => Init::Normal {
            deviation: 1. / (inputs.iter().product::<usize>().max(1) as f64).sqrt(),
        },
    }
}

/// FNV-1a: the values of a parameter depend on its name, not on the order of construction.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_decide() {
        let normal = |deviation| Init::Normal { deviation };
        for (name, dims, expected) in [
            ("a.layer_norm1.weight", &[8][..], Init::Constant(1.)),
            ("a.layer_norm1.bias", &[8], Init::ZEROS),
            ("a.fc1.weight", &[8, 16], normal(0.25)),
            ("conv_in.weight", &[8, 4, 2, 2], normal(0.25)),
            ("a.token_embedding.weight", &[8, 16], normal(0.02)),
            ("a.position_embedding.weight", &[8, 16], normal(0.02)),
            ("a.class_embedding", &[16], normal(0.02)),
            // Layers, not tables, for all that their names say.
            ("a.patch_embedding.weight", &[8, 1, 4, 4], normal(0.25)),
            ("time_embedding.linear_1.weight", &[8, 16], normal(0.25)),
            ("logit_scale", &[], Init::Constant((1f64 / 0.07).ln())),
        ] {
            assert_eq!(default_init(name, dims), expected, "{name}");
        }
    }

    #[test]
    fn values_follow_seed_and_name() {
        let draw = |seed, name| {
            let init = Init::Normal { deviation: 0.5 };
            let drawn = init.draw(seed, name, &Shape::from((100, 100)), &Device::Cpu);
            drawn
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        let a = draw(1, "a");
        assert_eq!(a, draw(1, "a"));
        assert_ne!(a, draw(2, "a"));
        assert_ne!(a, draw(1, "b"));
        let variance = a.iter().map(|x| f64::from(x * x)).sum::<f64>() / a.len() as f64;
        assert!((variance - 0.25).abs() < 0.01, "{variance}");
    }
}

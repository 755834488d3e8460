//! Which tokens of a picture are computed as one, and how they come apart again.
//!
//! "Token Merging for Fast Stable Diffusion" (Bolya and Hoffman, 2023); see [`TokenMerging`]. Which
//! tokens are merged is decided from the tokens themselves, once a transformer: among the sources
//! (three of every 2 x 2), the most similar to any target (the upper left of every 2 x 2) by cosine.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::savings::TokenMerging;

/// Side of the squares of tokens of which one is a target.
const STRIDE: usize = 2;

/// The plan of one transformer's merging, for every sample of a batch.
pub(crate) struct Merged {
    samples: Vec<Plan>,
}

/// One sample's plan. Merged tokens are numbered: first those that stay on their own, then the targets.
struct Plan {
    /// Every original token's merged token, `[tokens]`.
    of: Tensor,
    /// How many merged tokens there are.
    count: usize,
    /// How many original tokens are in every merged one, `[count, 1]`, f32.
    sizes: Tensor,
}

impl Merged {
    /// Plans for `tokens` `[n, h * w, channels]`.
    pub(crate) fn plan(
        tokens: &Tensor,
        (h, w): (usize, usize),
        merging: TokenMerging,
    ) -> Result<Self> {
        let (n, length, _) = tokens.dims3()?;
        let is_target = |i: usize| (i / w).is_multiple_of(STRIDE) && (i % w).is_multiple_of(STRIDE);
        let (targets, sources): (Vec<usize>, Vec<usize>) = (0..h * w).partition(|&i| is_target(i));
        let merged = ((length as f64 * merging.ratio()) as usize).min(sources.len());
        let mut samples = Vec::with_capacity(n);
        for i in 0..n {
            let sample = tokens.get(i)?.to_dtype(DType::F32)?;
            let nearest = nearest(&sample, &sources, &targets)?;
            let plan = Plan::new(
                length,
                &sources,
                &targets,
                &nearest,
                merged,
                tokens.device(),
            )?;
            samples.push(plan);
        }
        Ok(Self { samples })
    }

    /// `[n, tokens, channels]` to `[n, merged tokens, channels]`: the mean of what is merged.
    pub(crate) fn merge(&self, tokens: &Tensor) -> Result<Tensor> {
        let merged = self.samples.iter().enumerate().map(|(i, plan)| {
            let sample = tokens.get(i)?.to_dtype(DType::F32)?;
            let zeros = Tensor::zeros((plan.count, sample.dim(1)?), DType::F32, sample.device())?;
            let sums = zeros.index_add(&plan.of, &sample, 0)?;
            sums.broadcast_div(&plan.sizes)
        });
        let merged = merged.collect::<Result<Vec<_>>>()?;
        Tensor::stack(&merged, 0)?.to_dtype(tokens.dtype())
    }

    /// `[n, merged tokens, channels]` to `[n, tokens, channels]`: every token gets the result of the one
    /// that it was merged into.
    pub(crate) fn unmerge(&self, merged: &Tensor) -> Result<Tensor> {
        let tokens = self
            .samples
            .iter()
            .enumerate()
            .map(|(i, plan)| merged.get(i)?.index_select(&plan.of, 0));
        Tensor::stack(&tokens.collect::<Result<Vec<_>>>()?, 0)
    }
}

/// For every source its most similar target (an index into `targets`) and the cosine of the two.
fn nearest(sample: &Tensor, sources: &[usize], targets: &[usize]) -> Result<Vec<(usize, f32)>> {
    /// So that a token of zeros is similar to nothing.
    const EPS: f64 = 1e-12;
    let norms = (sample.sqr()?.sum_keepdim(D::Minus1)? + EPS)?.sqrt()?;
    let unit = sample.broadcast_div(&norms)?;
    let rows = |which: &[usize]| -> Result<Tensor> {
        let rows: Vec<u32> = which.iter().map(|&i| i as u32).collect();
        unit.index_select(&Tensor::from_vec(rows, which.len(), sample.device())?, 0)
    };
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let cosines = rows(sources)?.matmul(&rows(targets)?.t()?.contiguous()?)?;
    let best = cosines.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let cosines = cosines.max(D::Minus1)?.to_vec1::<f32>()?;
    Ok(best.iter().map(|&i| i as usize).zip(cosines).collect())
}

impl Plan {
    fn new(
        length: usize,
        sources: &[usize],
        targets: &[usize],
        nearest: &[(usize, f32)],
        merged: usize,
        device: &Device,
    ) -> Result<Self> {
        // The most similar first; equal ones in the order of the tokens.
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by(|&a, &b| nearest[b].1.total_cmp(&nearest[a].1).then(a.cmp(&b)));
        let mut alone: Vec<usize> = order[merged..].to_vec();
        alone.sort_unstable();
        let mut of = vec![0u32; length];
        let mut sizes = vec![1f32; alone.len() + targets.len()];
        for (number, &source) in alone.iter().enumerate() {
            of[sources[source]] = number as u32;
        }
        for (number, &target) in targets.iter().enumerate() {
            of[target] = (alone.len() + number) as u32;
        }
        for &source in &order[..merged] {
            let number = alone.len() + nearest[source].0;
            of[sources[source]] = number as u32;
            sizes[number] += 1.;
        }
        let count = sizes.len();
        Ok(Self {
            of: Tensor::from_vec(of, length, device)?,
            count,
            sizes: Tensor::from_vec(sizes, (count, 1), device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn ratio(ratio: f64) -> TokenMerging {
        TokenMerging::new(ratio).unwrap()
    }

    /// Two rows of four tokens: targets are tokens 0 and 2.
    fn two_kinds() -> Tensor {
        let (a, b) = ([1f32, 0.], [0f32, 1.]);
        let rows = [a, a, b, b, a, [0.8, 0.6], b, b];
        Tensor::new(&rows, &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap()
    }

    #[test]
    fn the_most_similar_are_merged_and_get_one_result() {
        let tokens = two_kinds();
        // Half of eight: all sources but the least similar (token 5, 0.8 from token 0) and one more.
        let merged = Merged::plan(&tokens, (2, 4), ratio(0.625)).unwrap();
        let short = merged.merge(&tokens).unwrap();
        assert_eq!(short.dims(), [1, 3, 2]);
        // Token 5 is on its own, then the means of equal tokens.
        assert_eq!(numbers(&short), [0.8, 0.6, 1., 0., 0., 1.]);
        assert_eq!(numbers(&merged.unmerge(&short).unwrap()), numbers(&tokens));
    }

    #[test]
    fn a_merged_token_is_the_mean_of_its_tokens() {
        let tokens = two_kinds();
        let merged = Merged::plan(&tokens, (2, 4), ratio(0.75)).unwrap();
        let short = numbers(&merged.merge(&tokens).unwrap());
        // Tokens 0, 1, 4 and 5; tokens 2, 3, 6 and 7.
        let expected = [(3. + 0.8) / 4., 0.6 / 4., 0., 1.];
        assert_eq!(short.len(), expected.len());
        for (found, expected) in short.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{short:?}");
        }
    }

    #[test]
    fn samples_and_odd_sides_are_planned_on_their_own() {
        let tokens = Tensor::randn(0f32, 1., (3, 5 * 7, 4), &Device::Cpu).unwrap();
        let merged = Merged::plan(&tokens, (5, 7), ratio(0.4)).unwrap();
        let short = merged.merge(&tokens).unwrap();
        assert_eq!(short.dims(), [3, 35 - 14, 4]);
        let whole = merged.unmerge(&short).unwrap();
        assert_eq!(whole.dims(), tokens.dims());
        // The sum of all tokens is kept: merged means, each as often as it has tokens.
        let sum = |x: &Tensor| numbers(&x.sum(1).unwrap());
        for (found, expected) in sum(&whole).iter().zip(sum(&tokens)) {
            assert!((found - expected).abs() < 1e-4);
        }
    }
}

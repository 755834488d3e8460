//! Cross-entropy over classes.

use candle_core::{D, Result, Tensor};

/// Cross-entropy of every row of `logits` `[rows, classes]` against its class in `wanted` `[rows]`
/// (u32), `[rows]`.
pub(crate) fn cross_entropy(logits: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let own = shifted.gather(&wanted.unsqueeze(1)?, 1)?;
    (log_sum - own)?.squeeze(1)
}

/// The class that every row of `logits` `[rows, classes]` is largest at.
pub(crate) fn most_likely(logits: &Tensor) -> Result<Vec<u32>> {
    logits.detach().argmax(D::Minus1)?.to_vec1()
}

/// How many rows of `logits` `[rows, classes]` are largest at their class in `wanted`.
pub(crate) fn count_right(logits: &Tensor, wanted: &[u32]) -> Result<usize> {
    let found = most_likely(logits)?;
    Ok(found.iter().zip(wanted).filter(|(a, b)| a == b).count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    #[test]
    fn cross_entropy_is_the_negative_logarithm_of_the_probability() {
        // softmax([0, ln 3]) = [1/4, 3/4]; a large offset changes nothing.
        let ln3 = 3f32.ln();
        let logits = Tensor::new(&[[0., ln3], [200., 200. + ln3]], &Device::Cpu).unwrap();
        let wanted = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
        let losses: Vec<f32> = cross_entropy(&logits, &wanted).unwrap().to_vec1().unwrap();
        assert!(
            (losses[0] - 4f32.ln()).abs() < 1e-5 && (losses[1] - (4f32 / 3.).ln()).abs() < 1e-4
        );
        assert_eq!(count_right(&logits, &[0, 1]).unwrap(), 1);
    }
}

//! Measures of how far two tensors are apart.

use candle_core::{DType, Device, Result, Tensor};
use serde::Serialize;

/// How far a tensor is from its reference, computed in f64.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Norm of the difference over the norm of the reference.
    pub relative_l2: f64,
    /// Largest absolute difference.
    pub max_absolute: f64,
    /// Mean absolute difference.
    pub mean_absolute: f64,
}

impl Difference {
    /// Compares two tensors of one shape. A NaN on either side makes all measures NaN; a reference
    /// of zeros has relative difference 0 from itself and infinity from all else.
    ///
    /// # Errors
    /// When the shapes differ or the device fails.
    pub fn between(found: &Tensor, expected: &Tensor) -> Result<Self> {
        let values = |t: &Tensor| -> Result<Vec<f64>> {
            let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            t.flatten_all()?.to_vec1()
        };
        if found.dims() != expected.dims() {
            candle_core::bail!(
                "cannot compare {:?} with {:?}",
                found.dims(),
                expected.dims()
            )
        }
        let (mut squares, mut norm, mut sum, mut max) = (0., 0., 0., 0f64);
        let (found, expected) = (values(found)?, values(expected)?);
        for (f, e) in found.iter().zip(&expected) {
            let difference = (f - e).abs();
            squares += difference * difference;
            norm += e * e;
            sum += difference;
            // `f64::max` would drop a NaN.
            max = if difference > max || difference.is_nan() {
                difference
            } else {
                max
            };
        }
        let relative_l2 = if squares == 0. {
            0.
        } else {
            (squares / norm).sqrt()
        };
        let broken = max.is_nan() || sum.is_nan();
        let count = expected.len().max(1) as f64;
        Ok(Self {
            relative_l2,
            max_absolute: if broken { f64::NAN } else { max },
            mean_absolute: sum / count,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn between(found: &[f32], expected: &[f32]) -> Difference {
        let tensor = |v: &[f32]| Tensor::new(v, &Device::Cpu).unwrap();
        Difference::between(&tensor(found), &tensor(expected)).unwrap()
    }

    #[test]
    fn measures_are_those_of_their_names() {
        let d = between(&[3., 4., 5.], &[3., 4., 0.]);
        assert_eq!((d.relative_l2, d.max_absolute), (1., 5.));
        assert!((d.mean_absolute - 5. / 3.).abs() < 1e-12);
    }

    #[test]
    fn nan_is_within_no_bound() {
        for d in [
            between(&[f32::NAN, 1.], &[1., 1.]),
            between(&[1., 1.], &[1., f32::NAN]),
        ] {
            assert!(d.relative_l2.is_nan() && d.max_absolute.is_nan() && d.mean_absolute.is_nan());
        }
    }

    #[test]
    fn zeros_equal_zeros_only() {
        assert_eq!(between(&[0.], &[0.]).relative_l2, 0.);
        assert_eq!(between(&[1e-9], &[0.]).relative_l2, f64::INFINITY);
    }
}

//! Number types that values are stored in. Everything is computed in f32, or in bf16 with f32 sums.

use half::{bf16, f16};

use crate::memory::Plain;
use crate::weights::Precision;

/// A type that weights are published in.
pub trait Stored: Copy + Default + Send + Sync + 'static {
    /// Writes `from` as f32.
    fn widen(from: &[Self], to: &mut [f32]);
    /// Writes the bits of `from` rounded to bf16.
    fn to_bf16_bits(from: &[Self], to: &mut [u16]);
}

/// A type that values are computed in.
pub trait Element: Stored {
    /// What products of values of this type are rounded to.
    const PRECISION: Precision;
    /// Writes `from` rounded to this type.
    fn narrow(from: &[f32], to: &mut [Self]);
    /// The value as f32.
    fn to_f32(self) -> f32;
    /// The value rounded to this type.
    fn of_f32(value: f32) -> Self;
}

/// A type that the factors of products have: f32, or the bits of bf16.
pub(crate) trait FactorValue: Plain + Default {
    /// Writes `from` as this type.
    fn convert<T: Stored>(from: &[T], to: &mut [Self]);
}

impl FactorValue for f32 {
    #[inline(always)]
    fn convert<T: Stored>(from: &[T], to: &mut [f32]) {
        T::widen(from, to);
    }
}

impl FactorValue for u16 {
    #[inline(always)]
    fn convert<T: Stored>(from: &[T], to: &mut [u16]) {
        T::to_bf16_bits(from, to);
    }
}

/// To the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet_nan = (bits >> 16) | 0x40;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if is_nan { quiet_nan } else { rounded }) as u16
}

#[inline(always)]
pub(crate) fn widen_bits(from: &[u16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(*from) << 16);
    }
}

impl Stored for f32 {
    #[inline(always)]
    fn widen(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn to_bf16_bits(from: &[f32], to: &mut [u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = round(*from);
        }
    }
}

impl Element for f32 {
    const PRECISION: Precision = Precision::F32;
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn of_f32(value: f32) -> f32 {
        value
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn widen(from: &[bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }
    #[inline(always)]
    fn to_bf16_bits(from: &[bf16], to: &mut [u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_bits();
        }
    }
}

impl Element for bf16 {
    const PRECISION: Precision = Precision::Bf16;
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = bf16::from_bits(round(*from));
        }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn of_f32(value: f32) -> bf16 {
        bf16::from_bits(round(value))
    }
}

/// The f16 of these bits. Without a branch, so that it is compiled to vectors of any width: half's own
/// slices go through a call for every eight values.
#[inline(always)]
fn widen_half(bits: u16) -> f32 {
    /// 2^112, by which the exponents of zero differ. The product is exact, for subnormal numbers too.
    const SCALE: f32 = f32::from_bits((112 + 127) << 23);
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * SCALE;
    let infinite_or_nan = if bits & 0x7c00 == 0x7c00 { INFINITY } else { 0 };
    let sign = u32::from(bits & 0x8000) << 16;
    f32::from_bits(magnitude.to_bits() | infinite_or_nan | sign)
}

impl Stored for f16 {
    #[inline(always)]
    fn widen(from: &[f16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = widen_half(from.to_bits());
        }
    }
    #[inline(always)]
    fn to_bf16_bits(from: &[f16], to: &mut [u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = round(widen_half(from.to_bits()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri computes ten thousand times slower: it takes every 257th.
    const EVERY: usize = if cfg!(miri) { 257 } else { 1 };

    #[test]
    fn every_half_is_widened_and_rounded_as_half_does_it() {
        let all: Vec<f16> = (0..=u16::MAX).step_by(EVERY).map(f16::from_bits).collect();
        let (mut wide, mut bits) = (vec![0.; all.len()], vec![0; all.len()]);
        f16::widen(&all, &mut wide);
        f16::to_bf16_bits(&all, &mut bits);
        for (value, (wide, bits)) in all.iter().zip(wide.iter().zip(&bits)) {
            let rounded = bf16::from_bits(*bits);
            if value.is_nan() {
                assert!(wide.is_nan() && rounded.is_nan());
            } else {
                assert_eq!(wide.to_bits(), value.to_f32().to_bits());
                assert_eq!(rounded, bf16::from_f32(value.to_f32()));
            }
        }
    }

    #[test]
    fn rounding_is_that_of_half() {
        // Every upper half with lower halves around a tie, infinities, NaNs and subnormals included.
        for high in (0..=u16::MAX).step_by(EVERY) {
            for low in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                let (found, expected) = (bf16::of_f32(value), bf16::from_f32(value));
                assert_eq!(found.is_nan(), value.is_nan());
                if !value.is_nan() {
                    assert_eq!(found.to_bits(), expected.to_bits(), "{value:e}");
                }
            }
        }
    }
}

//! Number types that values are stored in. Everything is computed in f32, or in bf16 with f32 sums.

use half::bf16;

use crate::weights::Precision;

/// A type that values are stored in.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// What products of values of this type are rounded to.
    const PRECISION: Precision;
    /// Writes `from` as f32.
    fn widen(from: &[Self], to: &mut [f32]);
    /// Writes `from` rounded to this type.
    fn narrow(from: &[f32], to: &mut [Self]);
    /// Writes the bits of `from` rounded to bf16.
    fn to_bf16_bits(from: &[Self], to: &mut [u16]);
    /// The value as f32.
    fn to_f32(self) -> f32;
    /// The value rounded to this type.
    fn of_f32(value: f32) -> Self;
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

impl Element for f32 {
    const PRECISION: Precision = Precision::F32;
    #[inline(always)]
    fn widen(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn to_bf16_bits(from: &[f32], to: &mut [u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = round(*from);
        }
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

impl Element for bf16 {
    const PRECISION: Precision = Precision::Bf16;
    #[inline(always)]
    fn widen(from: &[bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = bf16::from_bits(round(*from));
        }
    }
    #[inline(always)]
    fn to_bf16_bits(from: &[bf16], to: &mut [u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_bits();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_half() {
        // Every upper half with lower halves around a tie, infinities, NaNs and subnormals included.
        for high in 0..=u16::MAX {
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

//! Shares with intervals.

use serde::Serialize;

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its 95 % interval, which holds if the captions are a random sample of more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many have it.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// `count / of`; 0 of nothing.
    pub share: f64,
    /// Lower and upper end of the interval.
    pub interval: [f64; 2],
}

impl Share {
    fn new(count: u64, of: u64, effective: f64) -> Self {
        let share = if of == 0 {
            0.
        } else {
            count as f64 / of as f64
        };
        Self {
            count,
            of,
            share,
            interval: wilson(share, effective),
        }
    }
}

/// Wilson's score interval of a share among `n` independent ones.
fn wilson(share: f64, n: f64) -> [f64; 2] {
    if n <= 0. {
        return [0., 1.];
    }
    let z2 = Z * Z;
    let centre = share + z2 / (2. * n);
    let half = Z * (share * (1. - share) / n + z2 / (4. * n * n)).sqrt();
    let end = |value: f64| (value / (1. + z2 / n)).clamp(0., 1.);
    // Rounding must not push an end past the share itself.
    [end(centre - half).min(share), end(centre + half).max(share)]
}

/// A share of captions, with Wilson's interval: captions are drawn independently.
#[must_use]
pub fn wilson_share(count: u64, of: u64) -> Share {
    Share::new(count, of, of as f64)
}

/// A share of words, with an interval that knows that words are not drawn one by one: captions are,
/// each with `w` words of which `h` are negations.
///
/// The variance of `R = sum h / sum w` over `n` captions is that of a ratio estimate (Cochran,
/// *Sampling Techniques*, 6.3), `n / (n - 1) * sum (h - R w)^2 / (sum w)^2`. The interval is Wilson's
/// for the number of independent words that would have this variance (Korn and Graubard's effective
/// sample size), which unlike `R +- 1.96 s` stays within 0 and 1 and is not empty where no negation
/// was found.
#[must_use]
pub fn ratio_share(captions: u64, sums: &RatioSums) -> Share {
    let (h, w) = (sums.h as f64, sums.w as f64);
    let ratio = if sums.w == 0 { 0. } else { h / w };
    let n = captions as f64;
    let squares = sums.hh as f64 - 2. * ratio * sums.hw as f64 + ratio * ratio * sums.ww as f64;
    let variance = n / (n - 1.) * squares.max(0.) / (w * w);
    let effective = ratio * (1. - ratio) / variance;
    let effective = if effective.is_finite() && effective > 0. {
        effective
    } else {
        w
    };
    Share::new(sums.h, sums.w, effective)
}

/// What [`ratio_share`] needs of the captions: sums over `h` negations and `w` words of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RatioSums {
    /// `sum h`
    pub h: u64,
    /// `sum w`
    pub w: u64,
    /// `sum h^2`
    pub hh: u128,
    /// `sum h w`
    pub hw: u128,
    /// `sum w^2`
    pub ww: u128,
}

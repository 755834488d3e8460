//! Fewer operations for nearly the same picture.
//!
//! Everything here is off by default, and off it changes no bit: what it saves and what it costs is for
//! the user to weigh: `eval/bench/savings.sh` measures both, `docs/savings.md` tells what to expect.

use std::num::ParseFloatError;
use std::str::FromStr;

use candle_core::Tensor;
use thiserror::Error;

use crate::unet::DeepFeatures;

/// What may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Savings {
    /// The part of the steps that guidance is applied in; `None` for all.
    pub guidance_interval: Option<GuidanceInterval>,
    /// How often the UNet's deep levels are computed; `None` for every step.
    pub deep_cache: Option<DeepCache>,
    /// How many tokens self-attention leaves out; `None` for none.
    pub token_merging: Option<TokenMerging>,
}

impl Savings {
    /// What is left out, in words, such as `guidance interval 0.1:0.7, deep cache 3`; `None` for nothing.
    pub fn described(&self) -> Option<String> {
        let interval = self.guidance_interval;
        let parts = [
            interval.map(|i| format!("guidance interval {}:{}", i.from, i.to)),
            self.deep_cache.map(|c| format!("deep cache {}", c.every)),
            self.token_merging
                .map(|m| format!("token merging {}", m.ratio)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether guidance is applied in `step` (from 0) of `steps`.
    pub fn guides(&self, step: usize, steps: usize) -> bool {
        self.guidance_interval
            .is_none_or(|interval| interval.covers(step, steps))
    }
}

/// Why a saving cannot be had.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SavingsError {
    /// Not two numbers.
    #[error("'{found}' is no interval: expected FROM:TO, such as 0.1:0.7 ({cause})")]
    NotAnInterval {
        /// What was given.
        found: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The bounds make no interval.
    #[error("guidance interval {from}:{to}: expected 0 <= FROM < TO <= 1")]
    Interval {
        /// The lower bound.
        from: f64,
        /// The upper bound.
        to: f64,
    },
    /// The deep levels would never be computed, or always.
    #[error("deep features computed every {0} steps: expected at least 2")]
    DeepCache(usize),
    /// More tokens than may be merged.
    #[error(
        "token merging of {0}: expected more than 0 and at most {most}, since one token of four \
         stays whatever happens",
        most = TokenMerging::MOST
    )]
    TokenMerging(f64),
}

/// Guidance in a part of the steps only; before and after, the prompt alone steers, at half the cost.
///
/// "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion
/// Models" (Kynkäänniemi et al., 2024). The paper bounds noise levels; here, as in most programs,
/// shares of the steps are bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuidanceInterval {
    from: f64,
    to: f64,
}

impl GuidanceInterval {
    /// Guidance from `from` until before `to`, shares of the steps from 0 (noise) to 1 (picture).
    ///
    /// # Errors
    /// When they are not in order, or not between 0 and 1.
    pub fn new(from: f64, to: f64) -> Result<Self, SavingsError> {
        if (0. ..1.).contains(&from) && from < to && to <= 1. {
            Ok(Self { from, to })
        } else {
            Err(SavingsError::Interval { from, to })
        }
    }

    /// Whether `step` (from 0) of `steps` lies in it.
    pub fn covers(&self, step: usize, steps: usize) -> bool {
        let share = step as f64 / steps.max(1) as f64;
        (self.from..self.to).contains(&share)
    }
}

impl FromStr for GuidanceInterval {
    type Err = SavingsError;

    fn from_str(text: &str) -> Result<Self, SavingsError> {
        let wrong = |cause: String| SavingsError::NotAnInterval {
            found: text.to_owned(),
            cause,
        };
        let (from, to) = text
            .split_once(':')
            .ok_or_else(|| wrong("there is no colon".to_owned()))?;
        let bound = |text: &str| {
            text.trim()
                .parse()
                .map_err(|e: ParseFloatError| wrong(e.to_string()))
        };
        Self::new(bound(from)?, bound(to)?)
    }
}

/// The UNet's deep levels computed in one step of several, and in the others taken from there.
///
/// "DeepCache: Accelerating Diffusion Models for Free" (Ma et al., 2023), with a uniform interval and
/// the outermost skip branch: the steps between compute one layer on the way down and two on the way
/// up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeepCache {
    every: usize,
}

impl DeepCache {
    /// All levels in every `every`th step.
    ///
    /// # Errors
    /// When `every` is below 2.
    pub fn new(every: usize) -> Result<Self, SavingsError> {
        if every < 2 {
            return Err(SavingsError::DeepCache(every));
        }
        Ok(Self { every })
    }
}

impl FromStr for DeepCache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let every = text.parse().map_err(|_| {
            format!("'{text}' is no number of steps: expected a whole number from 2 on")
        })?;
        Self::new(every).map_err(|e| e.to_string())
    }
}

/// Similar tokens computed as one in the self-attention of the outermost level, where there are most.
///
/// "Token Merging for Fast Stable Diffusion" (Bolya and Hoffman, 2023): of every 2 x 2 tokens one
/// stays, the others of the most similar pairs are averaged into the one they resemble, and get its
/// result. The paper chooses which stays at random; here it is the upper left, so that a picture is
/// the same every time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenMerging {
    ratio: f64,
}

impl TokenMerging {
    /// The largest share of the tokens that can be merged.
    pub const MOST: f64 = 0.75;

    /// Merges the share `ratio` of the tokens.
    ///
    /// # Errors
    /// When `ratio` is not above 0 and at most [`TokenMerging::MOST`].
    pub fn new(ratio: f64) -> Result<Self, SavingsError> {
        if ratio > 0. && ratio <= Self::MOST {
            Ok(Self { ratio })
        } else {
            Err(SavingsError::TokenMerging(ratio))
        }
    }

    /// The share of the tokens that is merged.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }
}

impl FromStr for TokenMerging {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ratio = text
            .parse()
            .map_err(|_| format!("'{text}' is no share: expected a number such as 0.5"))?;
        Self::new(ratio).map_err(|e| e.to_string())
    }
}

/// Deep features on their way from the step that computes them to those that take them.
#[derive(Debug)]
pub(crate) struct DeepReuse {
    cache: Option<DeepCache>,
    kept: Option<Tensor>,
}

impl DeepReuse {
    pub(crate) fn new(cache: Option<DeepCache>) -> Self {
        Self { cache, kept: None }
    }

    /// What the UNet is to do in `step` (from 0) for `samples` samples. Where their number changes
    /// (guidance begins or ends), all levels are computed.
    pub(crate) fn at(&mut self, step: usize, samples: usize) -> DeepFeatures<'_> {
        let Some(DeepCache { every }) = self.cache else {
            return DeepFeatures::Compute;
        };
        let fits = |kept: &Tensor| kept.dims().first() == Some(&samples);
        if !step.is_multiple_of(every) && self.kept.as_ref().is_some_and(fits) {
            return match &self.kept {
                Some(kept) => DeepFeatures::Reuse(kept),
                None => DeepFeatures::Compute,
            };
        }
        DeepFeatures::Keep(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn an_interval_covers_its_share_of_the_steps() {
        let interval: GuidanceInterval = "0.2:0.6".parse().unwrap();
        let covered: Vec<usize> = (0..10).filter(|&step| interval.covers(step, 10)).collect();
        assert_eq!(covered, [2, 3, 4, 5]);
        let all = GuidanceInterval::new(0., 1.).unwrap();
        assert!((0..7).all(|step| all.covers(step, 7)));
        assert!(Savings::default().guides(0, 1));
    }

    #[test]
    fn savings_say_what_they_are() {
        assert_eq!(Savings::default().described(), None);
        let two = Savings {
            guidance_interval: "0.1:0.7".parse().ok(),
            token_merging: "0.5".parse().ok(),
            ..Savings::default()
        };
        let expected = "guidance interval 0.1:0.7, token merging 0.5";
        assert_eq!(two.described().as_deref(), Some(expected));
    }

    #[test]
    fn what_saves_nothing_or_cannot_be_is_refused() {
        for text in ["", "1", "a:b", "0.5:0.2", "-1:1", "0:2", "NaN:1", "0.3:0.3"] {
            assert!(text.parse::<GuidanceInterval>().is_err(), "{text}");
        }
        for text in ["0", "1", "-3", "x"] {
            assert!(text.parse::<DeepCache>().is_err(), "{text}");
        }
        for text in ["0", "0.76", "-0.1", "NaN", "x"] {
            assert!(text.parse::<TokenMerging>().is_err(), "{text}");
        }
    }

    #[test]
    fn deep_features_are_computed_anew_every_n_steps_and_when_the_batch_changes() {
        let kept = |samples: usize| Tensor::zeros((samples, 1), DType::F32, &Device::Cpu).unwrap();
        let mut reuse = DeepReuse::new(Some(DeepCache::new(3).unwrap()));
        let mut computed = Vec::new();
        let samples = [2, 2, 2, 2, 2, 1, 1, 1];
        for (step, &samples) in samples.iter().enumerate() {
            match reuse.at(step, samples) {
                DeepFeatures::Keep(slot) => {
                    *slot = Some(kept(samples));
                    computed.push(step);
                }
                DeepFeatures::Reuse(found) => assert_eq!(found.dims(), [samples, 1]),
                DeepFeatures::Compute => unreachable!("the cache is on"),
            }
        }
        assert_eq!(computed, [0, 3, 5, 6]);
        let mut off = DeepReuse::new(None);
        assert!(matches!(off.at(0, 2), DeepFeatures::Compute));
        assert!(matches!(off.at(1, 2), DeepFeatures::Compute));
    }
}

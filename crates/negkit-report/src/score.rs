//! Scores of a summary, and how they are written.

use serde::Deserialize;

/// A score with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) level: f64,
}

/// The difference of a score to that of another encoder on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Difference {
    pub(crate) difference: Interval,
    pub(crate) p_value: f64,
}

impl Interval {
    /// Its ends: "0.327 to 0.460".
    pub(crate) fn ends(&self) -> String {
        format!("{:.3} to {:.3}", self.low, self.high)
    }
}

impl From<negkit_metrics::Interval> for Interval {
    fn from(found: negkit_metrics::Interval) -> Self {
        Self {
            estimate: found.estimate,
            low: found.low,
            high: found.high,
            level: found.level,
        }
    }
}

impl Difference {
    /// Whether its interval excludes 0, and to which side.
    pub(crate) fn side(&self) -> Side {
        match self.difference {
            Interval { low, .. } if low > 0. => Side::Better,
            Interval { high, .. } if high < 0. => Side::Worse,
            _ => Side::Open,
        }
    }

    /// "+0.101 (+0.037 to +0.168), p 0.006".
    pub(crate) fn shown(&self) -> String {
        let Interval {
            estimate,
            low,
            high,
            ..
        } = self.difference;
        format!(
            "{} ({} to {}), {}",
            signed(estimate),
            signed(low),
            signed(high),
            p_value(self.p_value)
        )
    }
}

/// What a difference shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Better,
    Worse,
    /// The interval holds 0.
    Open,
}

impl Side {
    /// The class of the page's style.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Open => "open",
        }
    }

    /// For those who see no colours.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Open => "not shown: the interval holds 0",
        }
    }
}

/// With its sign, and a minus as long as the plus.
pub(crate) fn signed(value: f64) -> String {
    format!("{value:+.3}").replace('-', "\u{2212}")
}

fn p_value(value: f64) -> String {
    match value < 0.001 {
        true => "p < 0.001".to_owned(),
        false => format!("p {value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_where_its_interval_excludes_zero() {
        let difference = |low, high| Difference {
            difference: Interval {
                estimate: (low + high) / 2.,
                low,
                high,
                level: 0.95,
            },
            p_value: 0.0004,
        };
        assert_eq!(difference(0.01, 0.03).side(), Side::Better);
        assert_eq!(difference(-0.03, -0.01).side(), Side::Worse);
        assert_eq!(difference(-0.01, 0.03).side(), Side::Open);
        assert_eq!(
            difference(-0.03, -0.01).shown(),
            "−0.020 (−0.030 to −0.010), p < 0.001"
        );
    }
}

//! Pixels between thresholds, counted in one pass.

use serde::{Deserialize, Serialize};

use crate::MetricsError;
use crate::error::check_length;

const METRIC: &str = "segmentation";

/// Probabilities may leave 0 to 1 by this much: interpolation rounds.
const ROUNDING: f32 = 1e-3;

/// Cells per unit of probability. Exact in f32, and fine enough that thresholds 0.02 apart lie in
/// cells of their own.
const CELLS_PER_UNIT: f32 = 512.;
/// A power of two above `CELLS_PER_UNIT * (1 + ROUNDING) + 2`.
const CELLS: usize = 1024;

/// Thresholds in ascending order. A pixel belongs to the mask when its probability is *above* the
/// threshold.
///
/// Sorting the pixels, as CLIPSeg's code does, costs `n log n` a picture and a search a threshold.
/// Here 0 to 1 is cut into cells of which none holds more than one threshold, so that a pixel's place
/// among the thresholds is one table look-up and one comparison; where thresholds are closer together
/// than cells, it is a binary search.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    values: Vec<f32>,
    cells: Option<Vec<Cell>>,
}

/// What a pixel in a cell is above.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    /// Number of thresholds in the cells below.
    below: u32,
    /// The threshold in this cell; infinite where there is none.
    threshold: f32,
}

/// The cell of a probability, never falling as it rises.
///
/// Adding 2^23 leaves an f32 no bits below the point, so the sum's low bits are the rounded
/// product. The 2 keeps what is slightly below 0 from borrowing of the exponent. NaN falls into
/// some cell too; it is found by its value.
fn cell_of(probability: f32) -> usize {
    const INTEGERS: f32 = 8_388_608. + 2.;
    (probability * CELLS_PER_UNIT + INTEGERS).to_bits() as usize % CELLS
}

impl Thresholds {
    /// Thresholds in ascending order.
    ///
    /// # Errors
    /// When there are none, one is not finite, or they do not ascend.
    pub fn new(values: &[f32]) -> Result<Self, MetricsError> {
        if values.is_empty() {
            return Err(MetricsError::NoValues {
                metric: METRIC,
                index: None,
            });
        }
        let ascend = values.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascend || values.iter().any(|value| !value.is_finite()) {
            return Err(MetricsError::Setting {
                metric: METRIC,
                setting: "thresholds",
                found: format!("{values:?}"),
                expected: "finite and ascending",
            });
        }
        Ok(Self {
            values: values.to_vec(),
            cells: cells(values),
        })
    }

    /// CLIPSeg's 49: 0.02, 0.04 … 0.98 (`np.linspace(0, 1, 51)[1:-1]`). They are compared in f32, as
    /// PyTorch compares a float tensor with a number.
    pub fn clipseg() -> Self {
        let values: Vec<f32> = (1..50).map(|k| (f64::from(k) * 0.02) as f32).collect();
        Self {
            cells: cells(&values),
            values,
        }
    }

    /// The thresholds.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The index of the threshold nearest to `value`, the lower of equals.
    pub fn nearest(&self, value: f32) -> usize {
        let distance = |index: &usize| (self.values[*index] - value).abs();
        (0..self.values.len())
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .unwrap_or(0)
    }

    /// Counts the pixels of a phrase between the thresholds: the probability and the truth of every
    /// pixel, in one order.
    ///
    /// # Errors
    /// When the two differ in length or are empty, or a probability is not finite or not between 0
    /// and 1 (logits are refused; rounding by 0.001 is not).
    pub fn count(
        &self,
        probabilities: &[f32],
        truth: &[bool],
    ) -> Result<PixelCounts, MetricsError> {
        check_length(METRIC, "pixels of truth", probabilities.len(), truth.len())?;
        if probabilities.is_empty() {
            return Err(MetricsError::NoValues {
                metric: METRIC,
                index: None,
            });
        }
        if u32::try_from(probabilities.len()).is_err() {
            return Err(MetricsError::Setting {
                metric: METRIC,
                setting: "number of pixels",
                found: probabilities.len().to_string(),
                expected: "less than 2^32",
            });
        }
        let valid = |p: f32| (-ROUNDING..=1. + ROUNDING).contains(&p);
        let bins = self.values.len() + 1;
        let counts = match &self.cells {
            Some(cells) => tally(bins, probabilities, truth, |p| {
                let cell = cells[cell_of(p)];
                cell.below as usize + usize::from(p > cell.threshold)
            }),
            None => tally(bins, probabilities, truth, |p| {
                self.values.partition_point(|t| *t < p)
            }),
        };
        if let Some(index) = probabilities.iter().position(|p| !valid(*p)) {
            return Err(improbable(index, probabilities[index]));
        }
        Ok(counts)
    }
}

fn improbable(index: usize, value: f32) -> MetricsError {
    let value = f64::from(value);
    if value.is_finite() {
        return MetricsError::NoProbability {
            metric: METRIC,
            index,
            value,
        };
    }
    MetricsError::NotFinite {
        metric: METRIC,
        index,
        value,
    }
}

/// The cells of these thresholds, where none holds two.
fn cells(thresholds: &[f32]) -> Option<Vec<Cell>> {
    let (first, last) = (thresholds.first()?, thresholds.last()?);
    if *first < 0. || *last > 1. {
        return None;
    }
    let empty = Cell {
        below: 0,
        threshold: f32::INFINITY,
    };
    let mut cells = vec![empty; CELLS];
    for threshold in thresholds {
        let index = cell_of(*threshold);
        if cells[index].threshold.is_finite() {
            return None;
        }
        cells[index].threshold = *threshold;
    }
    let mut below = 0;
    for cell in &mut cells {
        cell.below = below;
        below += u32::from(cell.threshold.is_finite());
    }
    Some(cells)
}

/// Counts pixels by `bin` and truth.
fn tally(
    bins: usize,
    probabilities: &[f32],
    truth: &[bool],
    bin: impl Fn(f32) -> usize,
) -> PixelCounts {
    // Neighbours in a picture fall into one bin: four tables in turn, or every addition would wait
    // for the one before it.
    const TABLES: usize = 4;
    let mut tables = vec![[0u32; TABLES]; 2 * bins];
    let groups = probabilities.chunks(TABLES).zip(truth.chunks(TABLES));
    for (probabilities, truth) in groups {
        for (table, (probability, truth)) in probabilities.iter().zip(truth).enumerate() {
            tables[2 * bin(*probability) + usize::from(*truth)][table] += 1;
        }
    }
    let total = |index: usize| tables[index].iter().sum();
    PixelCounts {
        inside: (0..bins).map(|bin| total(2 * bin + 1)).collect(),
        outside: (0..bins).map(|bin| total(2 * bin)).collect(),
    }
}

/// The pixels of one phrase between thresholds, by their truth. For `n` thresholds there are `n + 1`
/// bins; bin `i` holds the pixels that are above exactly the first `i` thresholds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelCounts {
    /// Pixels that belong to what the phrase names.
    pub inside: Vec<u32>,
    /// All others.
    pub outside: Vec<u32>,
}

/// Right and wrong pixels at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Confusion {
    /// Marked, and part of the truth.
    pub true_positives: u64,
    /// Marked, and not part of it.
    pub false_positives: u64,
    /// Part of the truth, and not marked.
    pub false_negatives: u64,
    /// Neither.
    pub true_negatives: u64,
}

impl PixelCounts {
    /// Right and wrong pixels at every threshold, in ascending order.
    pub fn confusions(&self) -> Vec<Confusion> {
        let wide =
            |counts: &[u32]| -> Vec<u64> { counts.iter().map(|count| u64::from(*count)).collect() };
        confusions(&wide(&self.inside), &wide(&self.outside))
    }

    /// Checks that the counts are of `thresholds` thresholds.
    pub(crate) fn check(&self, thresholds: usize) -> Result<(), MetricsError> {
        for bins in [&self.inside, &self.outside] {
            check_length(METRIC, "bins of pixels", thresholds + 1, bins.len())?;
        }
        Ok(())
    }
}

/// As [`PixelCounts::confusions`], of summed counts.
pub(super) fn confusions(inside: &[u64], outside: &[u64]) -> Vec<Confusion> {
    let (area, rest): (u64, u64) = (inside.iter().sum(), outside.iter().sum());
    let (mut found, mut wrong) = (area, rest);
    let bins = inside
        .iter()
        .zip(outside)
        .take(inside.len().saturating_sub(1));
    bins.map(|(inside, outside)| {
        found -= inside;
        wrong -= outside;
        Confusion {
            true_positives: found,
            false_positives: wrong,
            false_negatives: area - found,
            true_negatives: rest - wrong,
        }
    })
    .collect()
}

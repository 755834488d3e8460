//! Vectors of pictures or texts, and how similar two of them are.

/// Numbers that are summed side by side. The order of summation is the same for every pair, so that
/// equal vectors give equal similarities.
const LANES: usize = 16;

/// Vectors of one width, scaled to length 1, in the order of what they were made of. One may be
/// missing, as a picture is.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    width: usize,
    values: Vec<f32>,
    there: Vec<bool>,
}

impl Vectors {
    /// No vectors yet, of that width.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            width,
            values: Vec::new(),
            there: Vec::new(),
        }
    }

    /// Adds a vector, or says that one is missing. One of another width counts as missing.
    pub fn push(&mut self, vector: Option<&[f32]>) {
        match vector.filter(|vector| vector.len() == self.width) {
            Some(vector) => {
                self.values.extend_from_slice(vector);
                self.there.push(true);
            }
            None => {
                self.values.resize(self.values.len() + self.width, 0.);
                self.there.push(false);
            }
        }
    }

    /// Numbers in each.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many there are, missing ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.there.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// A vector; `None` when it is missing or there is no such place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        match self.there.get(index) {
            Some(true) => self
                .values
                .get(index * self.width..(index + 1) * self.width),
            _ => None,
        }
    }
}

/// The vector at length 1. One of length 0, or with a number that is none, becomes NaN, which no score
/// counts as right.
pub(crate) fn unit(vector: &[f32]) -> Vec<f32> {
    let square: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    let length = square.sqrt();
    vector
        .iter()
        .map(|x| (f64::from(*x) / length) as f32)
        .collect()
}

/// The cosine of two vectors of length 1: their product. It depends on the two vectors alone, to the
/// last bit.
#[must_use]
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = whole_a
        .remainder()
        .iter()
        .zip(whole_b.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in whole_a.zip(whole_b) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similarity_is_the_product_of_unit_vectors() {
        let a: Vec<f32> = (0..37).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..37).map(|i| (i as f32 * 1.7).cos()).collect();
        let product: f64 = a
            .iter()
            .zip(&b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum();
        let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let expected = product / length(&a) / length(&b);
        let found = f64::from(similarity(&unit(&a), &unit(&b)));
        assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
        assert!(unit(&[0., 0.])[0].is_nan());
    }

    #[test]
    fn missing_vectors_keep_their_place() {
        let mut all = Vectors::new(2);
        all.push(Some(&[1., 0.]));
        all.push(None);
        all.push(Some(&[1., 2., 3.]));
        all.push(Some(&[0., 1.]));
        assert_eq!((all.len(), all.width()), (4, 2));
        assert_eq!(all.get(0), Some(&[1., 0.][..]));
        assert_eq!((all.get(1), all.get(2), all.get(9)), (None, None, None));
        assert_eq!(all.get(3), Some(&[0., 1.][..]));
    }
}

//! Rows of different lengths as one batch.

use candle_core::{DType, Device, Result, Tensor};

/// Rows of token ids, the shorter ones padded behind.
#[derive(Debug, Clone)]
pub struct PaddedIds {
    ids: Vec<u32>,
    lengths: Vec<usize>,
    width: usize,
}

impl PaddedIds {
    /// `rows` in their order; `padding` is an id of the vocabulary, any of it.
    pub fn new<R: AsRef<[u32]>>(rows: &[R], padding: u32) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let row = row.as_ref();
            ids.extend_from_slice(row);
            ids.extend(std::iter::repeat_n(padding, width - row.len()));
        }
        Self {
            ids,
            lengths,
            width,
        }
    }

    /// Tokens of each row, without padding.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// `[rows, longest]` of u32.
    ///
    /// # Errors
    /// When the device fails.
    pub fn ids(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&self.ids, (self.lengths.len(), self.width), device)
    }

    /// 1 at tokens and 0 at padding, `[rows, longest]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn mask(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        self.by_position(1., 0., dtype, device)
    }

    /// A bias for scores that hides padding, `[rows, 1, 1, longest]`; `None` where nothing is padded.
    ///
    /// # Errors
    /// When the device fails.
    pub fn hidden_keys(&self, dtype: DType, device: &Device) -> Result<Option<Tensor>> {
        if self.lengths.iter().all(|&length| length == self.width) {
            return Ok(None);
        }
        self.by_position(0., f32::NEG_INFINITY, dtype, device)?
            .reshape((self.lengths.len(), 1, 1, self.width))
            .map(Some)
    }

    fn by_position(
        &self,
        token: f32,
        padding: f32,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let values: Vec<f32> = self
            .lengths
            .iter()
            .flat_map(|&length| {
                (0..self.width).map(move |i| if i < length { token } else { padding })
            })
            .collect();
        Tensor::from_vec(values, (self.lengths.len(), self.width), device)?.to_dtype(dtype)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn padding_is_masked_and_hidden() {
        let padded = PaddedIds::new(&[vec![5, 6, 7], vec![8]], 1);
        let ids: Vec<Vec<u32>> = padded.ids(&Device::Cpu).unwrap().to_vec2().unwrap();
        assert_eq!(ids, [[5, 6, 7], [8, 1, 1]]);
        let mask: Vec<Vec<f32>> = padded
            .mask(DType::F32, &Device::Cpu)
            .unwrap()
            .to_vec2()
            .unwrap();
        assert_eq!(mask, [[1., 1., 1.], [1., 0., 0.]]);
        let bias = padded.hidden_keys(DType::F32, &Device::Cpu).unwrap();
        let bias: Vec<f32> = bias.unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let hidden = f32::NEG_INFINITY;
        assert_eq!(bias, [0., 0., 0., 0., hidden, hidden]);
    }

    #[test]
    fn rows_of_one_length_need_no_bias() {
        let padded = PaddedIds::new(&[[5, 6], [7, 8]], 0);
        assert!(
            padded
                .hidden_keys(DType::F32, &Device::Cpu)
                .unwrap()
                .is_none()
        );
    }
}

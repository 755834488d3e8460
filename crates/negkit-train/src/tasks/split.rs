//! Parts of batches.

use candle_core::Tensor;

use crate::TrainError;

/// `tensor` in `parts` parts along its first dimension.
pub(super) fn chunks(tensor: &Tensor, parts: usize) -> Result<Vec<Tensor>, TrainError> {
    let each = size(tensor.dim(0)?, parts)?;
    let parts = (0..parts).map(|i| tensor.narrow(0, i * each, each));
    Ok(parts.collect::<Result<_, _>>()?)
}

/// `rows` in `parts` parts.
pub(super) fn rows<T>(rows: Vec<T>, parts: usize) -> Result<Vec<Vec<T>>, TrainError> {
    let each = size(rows.len(), parts)?;
    let mut rows = rows.into_iter();
    Ok((0..parts)
        .map(|_| rows.by_ref().take(each).collect())
        .collect())
}

/// Examples of a part.
fn size(count: usize, parts: usize) -> Result<usize, TrainError> {
    if parts == 0 || count == 0 || !count.is_multiple_of(parts) {
        return Err(TrainError::Task(format!(
            "has {count} examples in a batch, which {parts} parts of one size cannot hold; choose \
             another batch size or another number of parts"
        )));
    }
    Ok(count / parts)
}

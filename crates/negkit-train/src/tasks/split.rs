//! Parts of batches.

use candle_core::Tensor;

use crate::TrainError;

/// `tensor` in `parts` parts along its first dimension.
pub(super) fn chunks(tensor: &Tensor, parts: usize) -> Result<Vec<Tensor>, TrainError> {
    let each = size(tensor.dim(0)?, parts)?;
    let parts = (0..parts).map(|i| tensor.narrow(0, i * each, each));
    Ok(parts.collect::<Result<_, _>>()?)
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

/// Examples of each of `parts` parts: as many, or one more in the first ones. For losses that are no
/// mean of those of the parts.
fn uneven(count: usize, parts: usize) -> Result<Vec<usize>, TrainError> {
    if parts == 0 || count < parts {
        return Err(TrainError::Task(format!(
            "has {count} examples in a batch, which cannot be {parts} parts; choose fewer parts"
        )));
    }
    let (each, left) = (count / parts, count % parts);
    Ok((0..parts).map(|i| each + usize::from(i < left)).collect())
}

/// `tensor` in `parts` parts along its first dimension, of sizes that differ by one at most.
pub(super) fn uneven_chunks(tensor: &Tensor, parts: usize) -> Result<Vec<Tensor>, TrainError> {
    let mut start = 0;
    uneven(tensor.dim(0)?, parts)?
        .into_iter()
        .map(|size| {
            let part = tensor.narrow(0, start, size)?;
            start += size;
            Ok(part)
        })
        .collect()
}

/// `rows` in `parts` parts of sizes that differ by one at most.
pub(super) fn uneven_rows<T>(rows: Vec<T>, parts: usize) -> Result<Vec<Vec<T>>, TrainError> {
    let sizes = uneven(rows.len(), parts)?;
    let mut rows = rows.into_iter();
    Ok(sizes
        .into_iter()
        .map(|size| rows.by_ref().take(size).collect())
        .collect())
}

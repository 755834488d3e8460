//! Sentence embeddings.

use candle_core::{D, DType, Device};
use negkit_bert::PaddedIds;
use negkit_nn::Compute;
use negkit_sbert::SentenceEncoder;

use super::Outputs;
use crate::{Case, ParityError};

/// The reference's ids and states are compared with padding set to 0: what stands there means
/// nothing.
pub(super) fn run(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let sbert = SentenceEncoder::load(&case.model, compute)?;
    let texts: Vec<String> = case.option("texts")?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let rows: Vec<Vec<u32>> = sbert
        .tokenize(&texts)?
        .into_iter()
        .map(|tokens| tokens.ids)
        .collect();
    let rows = PaddedIds::new(&rows, 0);
    let mask = rows.mask(compute.dtype, &compute.device)?;
    let states = sbert.token_embeddings(&rows)?;
    let states = states.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?;
    Ok(Outputs::from([
        (
            "input_ids".into(),
            rows.ids(&Device::Cpu)?.to_dtype(DType::F32)?,
        ),
        ("token_embeddings".into(), states),
        ("sentence_embedding".into(), sbert.embed(&texts)?),
    ]))
}

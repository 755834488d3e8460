//! Writing models in the layouts that they are published in.

use std::path::Path;

use candle_core::DType;

use crate::{ParamStore, TrainError, atomic};

/// Weight file of a part of a diffusers pipeline.
pub(crate) const DIFFUSERS_WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// Weight file of a model of transformers.
pub(crate) const TRANSFORMERS_WEIGHTS: &str = "model.safetensors";
/// Files of a CLIP tokenizer, those that there are.
pub(crate) const TOKENIZER_FILES: [&str; 5] = [
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Writes `config.json` with the text `config`, and the parameters in f16 as `weights`. The weights
/// come last: a folder that holds them is whole.
pub(crate) fn write_model(
    store: &ParamStore,
    config: &str,
    folder: &Path,
    weights: &str,
) -> Result<(), TrainError> {
    write_part((store, |_| true), config, folder, weights)
}

/// As [`write_model`], of the parameters for whose names it is said so.
pub(crate) fn write_part(
    (store, wanted): (&ParamStore, impl Fn(&str) -> bool),
    config: &str,
    folder: &Path,
    weights: &str,
) -> Result<(), TrainError> {
    atomic::write(&folder.join("config.json"), config.as_bytes())?;
    store.save_those(&folder.join(weights), DType::F16, wanted)
}

/// Copies those of `names` that `from` has.
pub(crate) fn copy_files(from: &Path, to: &Path, names: &[&str]) -> Result<(), TrainError> {
    for name in names {
        let source = from.join(name);
        if source.is_file() {
            let bytes = std::fs::read(&source).map_err(TrainError::io(&source, "read"))?;
            atomic::write(&to.join(name), &bytes)?;
        }
    }
    Ok(())
}

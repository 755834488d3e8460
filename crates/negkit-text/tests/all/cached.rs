//! Encodings that are kept on disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use negkit_nn::Compute;
use negkit_text::{
    CachedTextEncoder, EncoderInfo, PromptTokens, TextEncoder, TextEncoding, TextError,
    WeightsSource,
};

/// Counts what it is asked.
struct Counting {
    info: EncoderInfo,
    asked: AtomicUsize,
    projects: bool,
}

impl Counting {
    fn new(sha256: Option<&str>, projects: bool) -> Arc<Self> {
        let info = EncoderInfo {
            name: "counting".into(),
            hidden_size: 3,
            projection_dim: projects.then_some(2),
            context_length: 4,
            tokenizer: "letters".into(),
            weights: WeightsSource::new("nowhere", sha256.map(str::to_owned)),
        };
        Arc::new(Self {
            info,
            asked: AtomicUsize::new(0),
            projects,
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl TextEncoder for Counting {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        self.asked.fetch_add(prompts.len(), Ordering::Relaxed);
        let rows: Vec<f32> = prompts.iter().map(|p| p.len() as f32).collect();
        let rows = Tensor::from_vec(rows, prompts.len(), &Device::Cpu)?;
        let spread = |shape: &[usize]| -> candle_core::Result<Tensor> {
            let mut by = vec![prompts.len()];
            by.resize(shape.len() + 1, 1);
            let whole = [&[prompts.len()], shape].concat();
            rows.reshape(by)?.broadcast_as(whole)?.contiguous()
        };
        let tokens = prompts.iter().map(|prompt| PromptTokens {
            count: prompt.len(),
            truncated: prompt.len() > 4,
            removed_text: prompt.get(4..).map(str::to_owned).filter(|t| !t.is_empty()),
        });
        Ok(TextEncoding {
            last_hidden_state: spread(&[4, 3])?,
            pooled: spread(&[3])?,
            projected: self.projects.then(|| spread(&[2])).transpose()?,
            tokens: tokens.collect(),
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.info
    }
}

fn cached(encoder: &Arc<Counting>, folder: &Path) -> CachedTextEncoder {
    CachedTextEncoder::new(encoder.clone(), folder, &Compute::cpu()).unwrap()
}

fn same(a: &TextEncoding, b: &TextEncoding) {
    let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(a.last_hidden_state.dims(), b.last_hidden_state.dims());
    assert_eq!(numbers(&a.last_hidden_state), numbers(&b.last_hidden_state));
    assert_eq!(numbers(&a.pooled), numbers(&b.pooled));
    assert_eq!(
        a.projected.as_ref().map(numbers),
        b.projected.as_ref().map(numbers)
    );
    assert_eq!(a.tokens, b.tokens);
}

#[test]
fn a_prompt_is_encoded_once_for_all_runs() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Counting::new(Some("ab"), true);
    let prompts = ["a", "", "no hat", "a"];
    let expected = encoder.encode(&prompts).unwrap();
    let before = encoder.asked();
    same(
        &cached(&encoder, folder.path()).encode(&prompts).unwrap(),
        &expected,
    );
    assert_eq!(encoder.asked() - before, 3, "each text once");
    // Another run, another order, one new text.
    let again = cached(&encoder, folder.path())
        .encode(&["no hat", "new", "a"])
        .unwrap();
    assert_eq!(encoder.asked() - before, 4);
    let expected = encoder.encode(&["no hat", "new", "a"]).unwrap();
    same(&again, &expected);
    assert!(again.tokens[0].truncated && again.tokens[0].removed_text.as_deref() == Some("at"));
}

#[test]
fn another_encoder_or_type_has_its_own_encodings() {
    let folder = tempfile::tempdir().unwrap();
    let one = Counting::new(Some("ab"), true);
    cached(&one, folder.path()).encode(&["a"]).unwrap();
    let other = Counting::new(Some("cd"), false);
    let found = cached(&other, folder.path()).encode(&["a"]).unwrap();
    assert_eq!(other.asked(), 1);
    assert!(found.projected.is_none());
    let half = Compute {
        dtype: DType::BF16,
        ..Compute::cpu()
    };
    let half = CachedTextEncoder::new(one.clone(), folder.path(), &half).unwrap();
    half.encode(&["a"]).unwrap();
    assert_eq!(one.asked(), 2);
}

#[test]
fn a_damaged_encoding_is_made_anew_and_an_unknown_encoder_refused() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Counting::new(Some("ab"), true);
    let expected = cached(&encoder, folder.path()).encode(&["a"]).unwrap();
    for damage in [b"".as_slice(), b"no safetensors", &[0xff; 64]] {
        for file in fs::read_dir(folder.path()).unwrap() {
            fs::write(file.unwrap().path(), damage).unwrap();
        }
        let before = encoder.asked();
        same(
            &cached(&encoder, folder.path()).encode(&["a"]).unwrap(),
            &expected,
        );
        assert_eq!(encoder.asked(), before + 1);
    }
    let nameless = Counting::new(None, true);
    let refused = CachedTextEncoder::new(nameless, folder.path(), &Compute::cpu());
    let error = refused.err().unwrap().to_string();
    assert!(
        error.contains("counting") && error.contains("SHA-256"),
        "{error}"
    );
}

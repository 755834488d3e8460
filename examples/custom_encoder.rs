//! A text encoder of one's own, in Stable Diffusion.
//!
//! ```text
//! cargo run --release --example custom_encoder
//! ```
//!
//! The encoder here knows no grammar at all: every word has a fixed random vector, and a position's
//! hidden state is the mean of the vectors up to it. It takes a few lines, and it shows what the
//! trait asks for. The model is the tiny pipeline of random weights that the tests use, so the
//! picture is only a pattern; `--model` takes a real one.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;
use clap::Parser;
use negkit::diffusion::{OpenPipeline, PictureRequest, PipelineOptions, SamplingSettings};
use negkit::text::{PromptTokens, TextError, WeightsSource};
use negkit::{Compute, EncoderInfo, Hub, HubConfig, Models, Tensor, TextEncoder, TextEncoding};

struct MeanOfWords {
    info: EncoderInfo,
}

impl MeanOfWords {
    fn new(hidden_size: usize, context_length: usize) -> Self {
        Self {
            info: EncoderInfo {
                name: "mean of words".to_owned(),
                hidden_size,
                projection_dim: None,
                context_length,
                tokenizer: "white space".to_owned(),
                weights: WeightsSource::new("none: vectors are hashed from words", None),
            },
        }
    }

    /// A vector that depends on the word alone, with values from -1 to 1.
    fn vector(&self, word: &str) -> Vec<f32> {
        let mut state = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let next = |_| {
            // The generator of Knuth's MMIX.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.
        };
        (0..self.info.hidden_size).map(next).collect()
    }
}

impl TextEncoder for MeanOfWords {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        let (context, hidden) = (self.info.context_length, self.info.hidden_size);
        let mut states = Vec::with_capacity(prompts.len() * context * hidden);
        let mut pooled = Vec::with_capacity(prompts.len() * hidden);
        let mut tokens = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let words: Vec<&str> = prompt.split_whitespace().collect();
            let mut sum = vec![0.; hidden];
            let mut mean = sum.clone();
            for position in 0..context {
                // Beyond the last word the mean stays: like CLIP's padding, it sums the prompt up.
                if let Some(word) = words.get(position) {
                    for (sum, value) in sum.iter_mut().zip(self.vector(word)) {
                        *sum += value;
                    }
                    mean = sum.iter().map(|sum| sum / (position + 1) as f32).collect();
                }
                states.extend_from_slice(&mean);
            }
            pooled.extend_from_slice(&mean);
            tokens.push(PromptTokens {
                count: words.len(),
                truncated: words.len() > context,
                removed_text: words.get(context..).map(|cut| cut.join(" ")),
            });
        }
        let batch = prompts.len();
        Ok(TextEncoding {
            last_hidden_state: Tensor::from_vec(states, (batch, context, hidden), &Device::Cpu)?,
            pooled: Tensor::from_vec(pooled, (batch, hidden), &Device::Cpu)?,
            projected: None,
            tokens,
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.info
    }
}

#[derive(Parser)]
struct Args {
    #[arg(default_value = "a room with no chairs")]
    prompt: String,
    /// Stable Diffusion 1.x.
    #[arg(long, default_value = "eval/parity/fixtures/models/weights/sd")]
    model: String,
    /// Side of the picture in pixels.
    #[arg(long, default_value_t = 64)]
    size: usize,
    #[arg(long, default_value = "out/custom_encoder.png")]
    out: std::path::PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let models = Models::new(Hub::new(HubConfig::from_env())?, Compute::cpu());
    let options = PipelineOptions::new(Compute::cpu());
    let mut model = models.stable_diffusion(&args.model, &OpenPipeline::default(), &options)?;

    // An encoder of another width is refused here, and not somewhere inside the UNet.
    let width = model.unet_config().cross_attention_dim;
    let misfit = model.set_text_encoder(Arc::new(MeanOfWords::new(width + 1, 77)));
    if let Err(error) = misfit {
        println!("refused, as it should be: {error}");
    }
    model.set_text_encoder(Arc::new(MeanOfWords::new(width, 77)))?;

    let request = PictureRequest {
        prompt: args.prompt,
        negative_prompt: String::new(),
        seed: 0,
    };
    let settings = SamplingSettings {
        steps: 10,
        width: args.size,
        height: args.size,
        ..SamplingSettings::default()
    };
    let made = model.generate(&[request], &settings, None, |_| ControlFlow::Continue(()))?;
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    negkit::image::write_png(&args.out, &made[0].picture, &[])?;
    println!("{}", args.out.display());
    Ok(())
}

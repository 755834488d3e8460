//! What every saving of `negkit txt2img` gains, and how far its pictures are from the exact ones.
//!
//! ```sh
//! cargo run --release -p negkit-parity --example savings -- [--model FOLDER] [--steps N] [--size PX]
//!     [--prompts N] [--rounds N] [--out FILE]
//! ```
//!
//! Without `--model` the small pipeline paints prompts of the small world. All settings paint the same
//! prompts from the same noise, in turns; the time is the fastest round's, sampling and decoding. The
//! change is the PSNR against the exact picture, the mean over prompts, and that of the worst: above
//! 40 dB two pictures look the same, below 20 they are different pictures. The time and the change of
//! another seed's picture are no saving; the last row is there to compare with.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use candle_core::Tensor;
use mimalloc::MiMalloc;
use negkit::diffusion::{
    OpenPipeline, PictureRequest, PipelineOptions, SamplingSettings, Savings, StableDiffusion,
};
use negkit::txt2img::own_side;
use negkit::{CachingAllocator, Compute, Hub, HubConfig, Models, mini};
use serde_json::json;

// As in the command.
#[global_allocator]
static ALLOCATOR: CachingAllocator<MiMalloc> = CachingAllocator::new(MiMalloc);

/// Prompts of which the small world has everything.
const PROMPTS: [&str; 8] = [
    "a room with no chairs",
    "a park with a dog and no cat",
    "a street with a red car",
    "a man without a hat on a beach",
    "a kitchen with a table",
    "a farm with two horses",
    "a woman not wearing glasses in a garden",
    "a harbor with a boat and no people",
];

fn savings() -> anyhow::Result<Vec<(String, Savings)>> {
    let mut all = vec![("exact".to_owned(), Savings::default())];
    let mut add = |savings: Savings| {
        all.extend(savings.described().map(|name| (name, savings)));
    };
    for interval in ["0:0.8", "0:0.5", "0.2:0.8"] {
        add(Savings {
            guidance_interval: Some(interval.parse()?),
            ..Savings::default()
        });
    }
    for every in ["2", "3", "5"] {
        add(Savings {
            deep_cache: Some(every.parse().map_err(anyhow::Error::msg)?),
            ..Savings::default()
        });
    }
    for share in ["0.3", "0.5", "0.75"] {
        add(Savings {
            token_merging: Some(share.parse().map_err(anyhow::Error::msg)?),
            ..Savings::default()
        });
    }
    add(Savings {
        guidance_interval: Some("0:0.8".parse()?),
        deep_cache: Some("2".parse().map_err(anyhow::Error::msg)?),
        token_merging: None,
    });
    Ok(all)
}

/// The flags by name.
fn flags() -> anyhow::Result<BTreeMap<String, String>> {
    let known = ["model", "steps", "size", "prompts", "rounds", "out"];
    let mut found = BTreeMap::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let name = flag.strip_prefix("--").filter(|name| known.contains(name));
        let name = name.with_context(|| format!("unknown flag '{flag}': expected {known:?}"))?;
        let value = arguments.next();
        let value = value.with_context(|| format!("--{name} expects a value"))?;
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

fn paint(
    model: &StableDiffusion,
    prompt: &str,
    seed: u64,
    settings: &SamplingSettings,
) -> anyhow::Result<(Tensor, f64)> {
    let request = PictureRequest {
        prompt: prompt.to_owned(),
        negative_prompt: String::new(),
        seed,
    };
    let start = Instant::now();
    let made = model.generate(&[request], settings, None, |_| ControlFlow::Continue(()))?;
    let seconds = start.elapsed().as_secs_f64();
    let made = made.into_iter().next().context("no picture was made")?;
    Ok((made.values, seconds))
}

/// Peak signal to noise ratio in decibels, of samples from 0 to 1.
fn psnr(a: &Tensor, b: &Tensor) -> anyhow::Result<f64> {
    let error = (a - b)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    Ok(-10. * f64::from(error).log10())
}

fn main() -> anyhow::Result<()> {
    let flags = flags()?;
    let number = |name: &str| {
        flags
            .get(name)
            .map(|text| text.parse::<usize>())
            .transpose()
    };
    let hub = Hub::new(HubConfig::from_env())?;
    let models = Models::new(hub, Compute::cpu());
    let chosen = models.choose(
        flags.get("model").map(String::as_str),
        mini::STABLE_DIFFUSION,
    )?;
    let options = PipelineOptions::new(models.compute().clone());
    let open = OpenPipeline::default();
    let model = models.stable_diffusion(chosen.spec(), &open, &options)?;
    let side = number("size")?.unwrap_or(own_side(&model));
    let exact = SamplingSettings {
        steps: number("steps")?.unwrap_or(mini::STEPS),
        guidance_scale: match chosen.mini() {
            Some(_) => mini::GUIDANCE_SCALE,
            None => SamplingSettings::default().guidance_scale,
        },
        width: side,
        height: side,
        ..SamplingSettings::default()
    };
    let prompts = number("prompts")?
        .unwrap_or(PROMPTS.len())
        .min(PROMPTS.len());
    let rounds = number("rounds")?.unwrap_or(3).max(1);
    if prompts == 0 {
        bail!("--prompts 0: expected at least 1");
    }
    let savings = savings()?;
    let mut fastest = vec![f64::INFINITY; savings.len()];
    let mut pictures: Vec<Vec<Tensor>> = vec![Vec::new(); savings.len()];
    for round in 0..rounds {
        let mut seconds = vec![0.; savings.len()];
        for prompt in &PROMPTS[..prompts] {
            for (i, (name, savings)) in savings.iter().enumerate() {
                let settings = SamplingSettings {
                    savings: *savings,
                    ..exact.clone()
                };
                eprint!("\rround {}: {name}, {prompt}\x1b[K", round + 1);
                let (picture, took) = paint(&model, prompt, 0, &settings)?;
                seconds[i] += took;
                if round == 0 {
                    pictures[i].push(picture);
                }
            }
        }
        for (fastest, seconds) in fastest.iter_mut().zip(seconds) {
            *fastest = fastest.min(seconds);
        }
    }
    eprintln!();
    let others = PROMPTS[..prompts]
        .iter()
        .map(|prompt| paint(&model, prompt, 1, &exact));
    let others: Vec<Tensor> = others
        .map(|made| made.map(|(picture, _)| picture))
        .collect::<anyhow::Result<_>>()?;
    let mut rows = Vec::new();
    println!("| what is left out | seconds a picture | of the exact time | PSNR, dB | worst |");
    println!("|---|---|---|---|---|");
    for (i, (name, _)) in savings.iter().enumerate() {
        let changes = changes(&pictures[0], &pictures[i])?;
        let ratio = fastest[i] / fastest[0];
        rows.push(row(
            name,
            fastest[i] / prompts as f64,
            Some(ratio),
            &changes,
        ));
    }
    rows.push(row(
        "nothing, another seed",
        f64::NAN,
        None,
        &changes(&pictures[0], &others)?,
    ));
    if let Some(out) = flags.get("out") {
        let result = json!({
            "model": chosen.name(),
            "steps": exact.steps,
            "side": side,
            "prompts": prompts,
            "rounds": rounds,
            "rows": rows,
        });
        let text = serde_json::to_string_pretty(&result)?;
        let path = PathBuf::from(out);
        std::fs::write(&path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn changes(exact: &[Tensor], found: &[Tensor]) -> anyhow::Result<Vec<f64>> {
    exact.iter().zip(found).map(|(a, b)| psnr(a, b)).collect()
}

/// Prints a row of the table, and gives it as JSON.
fn row(name: &str, seconds: f64, ratio: Option<f64>, changes: &[f64]) -> serde_json::Value {
    let mean = changes.iter().sum::<f64>() / changes.len() as f64;
    let worst = changes.iter().copied().fold(f64::INFINITY, f64::min);
    let decibels = |value: f64| match value.is_finite() {
        true => format!("{value:.1}"),
        false => "the same".to_owned(),
    };
    let time = ratio.map_or(" | ".to_owned(), |ratio| {
        format!("{seconds:.3} | {ratio:.2}")
    });
    println!(
        "| {name} | {time} | {} | {} |",
        decibels(mean),
        decibels(worst)
    );
    let finite = |value: f64| value.is_finite().then_some(value);
    json!({
        "name": name,
        "seconds": finite(seconds),
        "ratio": ratio,
        "psnr": finite(mean),
        "worst_psnr": finite(worst),
    })
}

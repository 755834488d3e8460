//! Flags that several commands share.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use negkit::diffusion::Savings;
use negkit::diffusion::savings::{DeepCache, GuidanceInterval, TokenMerging};
use negkit::nn::{Isa, use_threads, usual_threads};
use negkit::{Compute, DeviceChoice, DtypeChoice, Hub, HubConfig, Models};
use negkit_data::phrasecut::Split;
use negkit_eval::Shard;
use negkit_eval::table5::Dataset;
use negkit_metrics::Bootstrap;
use serde::Serialize;

/// Where to compute, and in which numbers.
#[derive(Args)]
#[command(next_help_heading = "Computing")]
pub struct ComputeArgs {
    /// auto, cpu, cuda or cuda:N. Auto takes the first CUDA device, else the CPU.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// auto, f32, f16 or bf16. Auto takes f16 on CUDA; on the CPU bf16 where it
    /// multiplies that faster than f32 (AMX, AVX-512 BF16), and f32 elsewhere.
    #[arg(long, default_value = "auto")]
    pub dtype: DtypeChoice,
    /// Threads on the CPU. As many as the process may use without.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

impl ComputeArgs {
    /// Opens the device, and says so where bf16 was chosen for whoever did not ask for it.
    pub fn open(&self) -> anyhow::Result<Compute> {
        self.open_in(self.dtype)
    }

    /// The same in f32 where nothing else is asked for: for what is held against bounds of f32.
    pub fn open_exact(&self) -> anyhow::Result<Compute> {
        self.open_in(match self.dtype {
            DtypeChoice::Auto => DtypeChoice::F32,
            asked => asked,
        })
    }

    fn open_in(&self, dtype: DtypeChoice) -> anyhow::Result<Compute> {
        match self.threads {
            Some(threads) => use_threads(threads)?,
            // Where something was computed before, it stays as it is.
            None => drop(use_threads(usual_threads())),
        }
        let compute = Compute::open(self.device, dtype)?;
        let rounded = compute.dtype == DtypeChoice::Bf16.on(&compute.device);
        if dtype == DtypeChoice::Auto && rounded {
            let instructions = Isa::chosen()?;
            eprintln!(
                "Computing in bf16, which {instructions} does fastest; --dtype f32 is exact."
            );
        }
        if let Some(reason) = compute.attends_in_slices() {
            eprintln!("Attention is computed in slices on this GPU, for {reason}.");
        }
        Ok(compute)
    }
}

/// What may be left out for a nearly equal picture in less time.
#[derive(Args)]
#[command(next_help_heading = "Fewer operations (other pictures)")]
pub struct SavingsArgs {
    /// Apply guidance only in this part of the steps, such as 0.1:0.7; in the others the prompt alone
    /// steers, at half the cost.
    #[arg(long, value_name = "FROM:TO")]
    guidance_interval: Option<GuidanceInterval>,
    /// Compute the UNet's deep levels only every N steps, and reuse their features in between.
    #[arg(long, value_name = "N")]
    deep_cache: Option<DeepCache>,
    /// Merge this share of the tokens, up to 0.75, in the self-attention of the outermost level.
    #[arg(long, value_name = "SHARE")]
    token_merging: Option<TokenMerging>,
}

impl SavingsArgs {
    /// What was asked for.
    pub fn savings(&self) -> Savings {
        Savings {
            guidance_interval: self.guidance_interval,
            deep_cache: self.deep_cache,
            token_merging: self.token_merging,
        }
    }
}

/// Where models come from.
#[derive(Args)]
#[command(next_help_heading = "Finding models")]
pub struct HubArgs {
    /// Never ask the hub, as with HF_HUB_OFFLINE=1.
    #[arg(long)]
    pub offline: bool,
    /// Folder of model files, one folder a model; see weights/README.md.
    #[arg(long, value_name = "FOLDER", env = "NEGKIT_WEIGHTS")]
    pub weights: Option<PathBuf>,
}

impl HubArgs {
    /// The hub as the environment and these flags say.
    pub fn hub(&self) -> anyhow::Result<Hub> {
        let mut config = HubConfig::from_env();
        config.offline |= self.offline;
        if let Some(weights) = &self.weights {
            config.weights.clone_from(weights);
        }
        Ok(Hub::new(config)?)
    }
}

/// How intervals are had.
#[derive(Args)]
pub struct IntervalArgs {
    /// How often items are drawn for the intervals.
    #[arg(long, default_value_t = Bootstrap::default().resamples)]
    resamples: usize,
}

impl IntervalArgs {
    /// The bootstrap that was asked for.
    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            resamples: self.resamples,
            ..Bootstrap::default()
        }
    }
}

/// Which part of a run is done, or only told.
#[derive(Args)]
pub struct PartArgs {
    /// Do the I-th of N parts only, such as 2/4; in the same folder, or to be merged later.
    #[arg(long, default_value = "1/1", value_name = "I/N")]
    pub shard: Shard,
    /// Say what would be done and how long it takes, by what was done already. Where nothing was,
    /// Tables 4 and 5 measure two items.
    #[arg(long)]
    pub dry_run: bool,
}

/// The shards of a run, and where they are put together.
#[derive(Args)]
pub struct ShardFolders {
    /// The folder to write to.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The folders of the shards; one that several shards worked in is given once.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
}

/// A dataset of Table 5.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatasetArg {
    Phrasecut,
    Refcocog,
}

impl DatasetArg {
    /// The dataset.
    pub fn dataset(self) -> Dataset {
        match self {
            Self::Phrasecut => Dataset::PhraseCut,
            Self::Refcocog => Dataset::RefCocog,
        }
    }
}

/// A split of PhraseCut.
pub fn parse_split(text: &str) -> Result<Split, String> {
    let split = Split::ALL.into_iter().find(|split| split.name() == text);
    split.ok_or_else(|| "expected train, val, test or miniv".to_owned())
}

/// Opens the device, and models for it.
pub fn models(compute: &ComputeArgs, hub: &HubArgs) -> anyhow::Result<Models> {
    Ok(Models::new(hub.hub()?, compute.open()?))
}

/// Prints a result as JSON on the standard output.
pub fn print_json(result: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(result).context("cannot write the result as JSON")?;
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

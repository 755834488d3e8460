//! What `negkit eval table2`, `table3` and every benchmark alone have in common.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::HumanDuration;
use negkit::ClipSize;
use negkit_benchmarks::{Benchmark, EmbeddingCache};
use negkit_eval::RunFolder;
use negkit_eval::measuring::{
    EncoderBench, Measuring, Scale, Table, Tallies, finals, parse_encoders, write_world,
};

use super::{report, report_left};
use crate::args::{ComputeArgs, HubArgs, IntervalArgs, PartArgs, models};
use crate::progress;

/// The CLIP of published files, where none is named.
const PAPER_CLIP: &str = "stock";

/// Encoders, and how they are measured.
#[derive(Args)]
pub struct MeasureArgs {
    /// The folder of the run; out/ with the command's name if not given. Killed at any moment, the same
    /// command goes on where it was.
    #[arg(long, short, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// A text encoder; repeat it. The others are compared with the first. NAME, or NAME=WHAT to call it
    /// otherwise; the same name several times, or one * in a path, for several trainings of one:
    /// 'p1=out/mini-encoders/p1/*/export'.
    #[arg(long = "text-encoder", short = 'e', value_name = "ENCODER")]
    text_encoders: Vec<String>,
    /// The CLIP whose vision tower sees the pictures, and whose text tower is `stock`. If not given, the
    /// small one for drawn scenes, OpenAI's otherwise. An encoder whose files hold a vision tower sees
    /// with its own.
    #[arg(long, value_name = "MODEL")]
    clip: Option<String>,
    /// The size to take of models that exist in several, such as ViT-B/32 or ViT-L/14.
    #[arg(long, default_value = "ViT-B/32", value_parser = parse_size, value_name = "SIZE")]
    clip_size: ClipSize,
    /// Where vectors of pictures and texts are kept, for every later run with the same towers.
    #[arg(long, default_value = "out/embeddings", value_name = "FOLDER")]
    cache: PathBuf,
    /// Keep no vectors, and use none.
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
    /// Where drawn scenes are written, where the command draws them.
    #[arg(long, default_value = "out/benchmarks", value_name = "FOLDER")]
    world: PathBuf,
    /// Pictures or texts that are encoded at once.
    #[arg(long, default_value_t = 64, value_name = "N")]
    batch: usize,
    #[command(flatten)]
    intervals: IntervalArgs,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse_size(text: &str) -> Result<ClipSize, String> {
    ClipSize::parse(text)
        .ok_or_else(|| "expected ViT-B/32, ViT-B/16, ViT-L/14 or ViT-L/14@336px".to_owned())
}

impl MeasureArgs {
    /// The folder of drawn scenes, with all of them in it.
    pub fn drawn(&self) -> anyhow::Result<&Path> {
        let bar = progress::bar(0, "drawing scenes");
        let written = write_world(&self.world, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        written?;
        Ok(&self.world)
    }

    /// Measures benchmarks. `otherwise` are the encoders where none is named.
    pub fn measure(
        &self,
        (table, name): (Table, &str),
        scale: Scale,
        benchmarks: Vec<Box<dyn Benchmark>>,
        otherwise: &[&str],
    ) -> anyhow::Result<()> {
        let named = match self.text_encoders.is_empty() {
            true => otherwise.iter().map(|spec| (*spec).to_owned()).collect(),
            false => self.text_encoders.clone(),
        };
        let encoders = parse_encoders(&named)?;
        let models = models(&self.compute, &self.hub)?;
        let clip = self.clip.as_deref();
        let clip = clip.or((scale == Scale::Paper).then_some(PAPER_CLIP));
        let spinner = progress::spinner("loading encoders");
        let opened = EncoderBench::open(&models, clip, self.clip_size).and_then(|bench| {
            let bootstrap = self.intervals.bootstrap();
            Measuring::new(table, (scale, bootstrap), benchmarks, bench, encoders)
        });
        spinner.finish_and_clear();
        let cache = (!self.no_cache).then(|| EmbeddingCache::new(&self.cache));
        let measuring = opened?.with_cache(cache).with_batch(self.batch);
        let out = match &self.out {
            Some(out) => out.clone(),
            None => Path::new("out").join(name),
        };
        if self.part.dry_run {
            return self.say(&out, &measuring);
        }
        let run = RunFolder::open(&out, measuring.plan()?)?;
        let (worked, tallies) = measuring.run(&run, self.part.shard)?;
        report_tallies(&tallies)?;
        if worked.left > 0 {
            return report_left(worked);
        }
        let spinner = progress::spinner("drawing intervals");
        let found = finals(&run)?;
        spinner.finish_and_clear();
        run.write_finals(&found)?;
        report(&run, &found.table)
    }

    fn say(&self, out: &Path, measuring: &Measuring<'_>) -> anyhow::Result<()> {
        let outlook = RunFolder::outlook(out, &measuring.plan()?, self.part.shard)?;
        let mut stdout = io::stdout().lock();
        let trainings = measuring.trainings();
        for (title, pictures, texts) in measuring.sizes() {
            writeln!(
                stdout,
                "{title}: {pictures} pictures once for all encoders that share a vision tower, {texts} \
                 texts for each of {trainings} trainings of encoders, where the cache has none"
            )?;
        }
        let left = outlook.items - outlook.done;
        writeln!(
            stdout,
            "shard {}: {} items (a benchmark with a training of an encoder), {} done, {left} left",
            self.part.shard, outlook.items, outlook.done
        )?;
        match outlook.each {
            Some(each) => writeln!(
                stdout,
                "about {} left, at {:.2} s an item so far",
                HumanDuration(each.mul_f64(left as f64)),
                each.as_secs_f64()
            )?,
            None => writeln!(
                stdout,
                "how long that takes is not known before a first item is done in this folder"
            )?,
        }
        Ok(())
    }
}

/// On the standard error: what was in the cache is no part of a result.
fn report_tallies(tallies: &Tallies) -> io::Result<()> {
    let mut out = io::stderr().lock();
    for (what, tally) in [("pictures", tallies.pictures), ("texts", tallies.texts)] {
        write!(
            out,
            "{what}: {} from the cache, {} encoded",
            tally.cached, tally.encoded
        )?;
        if tally.truncated > 0 {
            write!(out, ", of which {} were too long and cut", tally.truncated)?;
        }
        if tally.damaged > 0 {
            write!(
                out,
                "; {} stored vectors were damaged and passed over",
                tally.damaged
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

//! The run: a benchmark, an encoder and a training after the other.

use std::cell::RefCell;

use indicatif::{ProgressBar, ProgressStyle};
use negkit_benchmarks::{
    Benchmark, Embedded, EmbeddingCache, EmbeddingTally, Hash, embed_pictures, embed_texts,
};
use negkit_metrics::Bootstrap;

use super::encoders::{EncoderBench, EncoderSpec};
use super::records::MeasuredRecord;
use super::{EncoderSettings, MeasuringSettings, Scale, Table, TowerHashes};
use crate::{EvalError, Plan, Result, RunError, RunFolder, Shard, Worked};

/// What came out of the cache and what had to be encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Pictures.
    pub pictures: EmbeddingTally,
    /// Texts.
    pub texts: EmbeddingTally,
}

/// A run that is ready to begin.
pub struct Measuring<'m> {
    table: Table,
    settings: MeasuringSettings,
    benchmarks: Vec<Box<dyn Benchmark>>,
    bench: EncoderBench<'m>,
    encoders: Vec<EncoderSpec>,
    cache: Option<EmbeddingCache>,
    batch: usize,
}

/// The pictures of a benchmark as one vision tower sees them.
struct Seen {
    benchmark: usize,
    tower: Hash,
    embedded: Embedded,
}

impl<'m> Measuring<'m> {
    /// Puts benchmarks and encoders together. Every encoder is opened once, so that none turns out to
    /// be missing after hours.
    ///
    /// # Errors
    /// When there is no benchmark, or an encoder cannot be opened or does not fit the CLIP.
    pub fn new(
        table: Table,
        (scale, bootstrap): (Scale, Bootstrap),
        benchmarks: Vec<Box<dyn Benchmark>>,
        bench: EncoderBench<'m>,
        encoders: Vec<EncoderSpec>,
    ) -> Result<Self> {
        if benchmarks.is_empty() {
            let reason = "the run has no benchmarks: expected at least one".to_owned();
            return Err(RunError::Settings { reason }.into());
        }
        let mut all = Vec::with_capacity(encoders.len());
        for encoder in &encoders {
            let mut seeds: Vec<TowerHashes> = Vec::with_capacity(encoder.seeds.len());
            for spec in &encoder.seeds {
                let opened = bench.encoder(&encoder.name, spec)?;
                let own = opened.vision.hash() != bench.vision().hash();
                let text = opened.text.hash().map(|hash| hash.to_string());
                let hashes = TowerHashes {
                    text: text.unwrap_or_default(),
                    vision: own.then(|| opened.vision.hash().to_string()),
                };
                if seeds.contains(&hashes) {
                    return Err(EvalError::Encoders(format!(
                        "two trainings of '{}' have the same weights, one of them in {spec}: expected \
                         different ones, for their spread is reported",
                        encoder.name
                    )));
                }
                seeds.push(hashes);
            }
            all.push(EncoderSettings {
                name: encoder.name.clone(),
                seeds,
            });
        }
        let compute = bench.models().compute();
        let settings = MeasuringSettings {
            scale,
            dtype: compute.dtype.as_str().to_owned(),
            device: match compute.device.is_cuda() {
                true => "cuda".to_owned(),
                false => "cpu".to_owned(),
            },
            clip: bench.name().to_owned(),
            clip_size: bench.size().map(|size| size.to_string()),
            vision: bench.vision().hash().to_string(),
            bootstrap,
            encoders: all,
            benchmarks: benchmarks.iter().map(|one| one.info().clone()).collect(),
        };
        Ok(Self {
            table,
            settings,
            benchmarks,
            bench,
            encoders,
            cache: None,
            batch: 64,
        })
    }

    /// With embeddings stored in `cache`; without it every run encodes everything.
    #[must_use]
    pub fn with_cache(mut self, cache: Option<EmbeddingCache>) -> Self {
        self.cache = cache;
        self
    }

    /// With so many pictures or texts encoded at once.
    #[must_use]
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// The plan of the run: an item a benchmark with a training of an encoder.
    ///
    /// # Errors
    /// When two benchmarks have one name.
    pub fn plan(&self) -> Result<Plan> {
        let keys = keys(&self.settings);
        Ok(Plan::new(self.table.key(), &self.settings, keys)?)
    }

    /// Pictures and texts of each benchmark, to be encoded where the cache has none.
    pub fn sizes(&self) -> Vec<(String, usize, usize)> {
        let sizes = self.benchmarks.iter().map(|one| {
            let title = one.info().title.clone();
            (title, one.pictures().len(), one.texts().len())
        });
        sizes.collect()
    }

    /// Trainings of all encoders.
    pub fn trainings(&self) -> usize {
        self.encoders
            .iter()
            .map(|encoder| encoder.seeds.len())
            .sum()
    }

    /// Measures what has no record yet.
    ///
    /// # Errors
    /// As [`RunFolder::work`]. A picture that is missing or broken ends nothing: records and table name
    /// it, and its items are not scored.
    pub fn run(&self, run: &RunFolder, shard: Shard) -> Result<(Worked, Tallies)> {
        let places = places(&self.settings);
        let seen: RefCell<Option<Seen>> = RefCell::new(None);
        let mut tallies = Tallies::default();
        let worked = run.work(shard, |position, item| {
            let (benchmark, encoder, seed) = places[position];
            self.measure(benchmark, (encoder, seed), item, &seen, &mut tallies)
        })?;
        Ok((worked, tallies))
    }

    fn measure(
        &self,
        place: usize,
        (encoder, seed): (usize, usize),
        item: &str,
        seen: &RefCell<Option<Seen>>,
        tallies: &mut Tallies,
    ) -> Result<MeasuredRecord> {
        let benchmark = &*self.benchmarks[place];
        let spec = &self.encoders[encoder];
        let opened = self.bench.encoder(&spec.name, &spec.seeds[seed])?;
        let cache = self.cache.as_ref();
        let mut seen = seen.borrow_mut();
        let tower = opened.vision.hash();
        let fresh = |seen: &Seen| seen.benchmark == place && seen.tower == tower;
        if !seen.as_ref().is_some_and(fresh) {
            let pictures = benchmark.pictures();
            let bar = bar(item, "pictures", pictures.len());
            let embedded = embed_pictures(&opened.vision, pictures, cache, self.batch, &mut |n| {
                bar.inc(n as u64);
            })?;
            bar.finish_and_clear();
            tallies.pictures.add(embedded.tally);
            *seen = Some(Seen {
                benchmark: place,
                tower,
                embedded,
            });
        }
        let texts = benchmark.texts();
        let bar = bar(item, "texts", texts.len());
        let found = embed_texts(&opened.text, texts, cache, self.batch, &mut |n| {
            bar.inc(n as u64)
        })?;
        bar.finish_and_clear();
        tallies.texts.add(found.tally);
        let Some(seen) = seen.as_ref() else {
            let reason = format!("{} has no pictures", benchmark.info().title);
            return Err(RunError::Settings { reason }.into());
        };
        let measures = benchmark.score(&seen.embedded.vectors, &found.vectors)?;
        Ok(MeasuredRecord::new(&seen.embedded.problems, measures))
    }
}

/// Benchmark, encoder and training of every item, in the order of the plan: encoders of one benchmark
/// follow each other, so that its pictures are read once.
pub(super) fn places(settings: &MeasuringSettings) -> Vec<(usize, usize, usize)> {
    let mut places = Vec::new();
    for benchmark in 0..settings.benchmarks.len() {
        for (encoder, of) in settings.encoders.iter().enumerate() {
            places.extend((0..of.seeds.len()).map(|seed| (benchmark, encoder, seed)));
        }
    }
    places
}

fn keys(settings: &MeasuringSettings) -> Vec<String> {
    let key = |(benchmark, encoder, seed): (usize, usize, usize)| {
        let benchmark = &settings.benchmarks[benchmark].key;
        let encoder = &settings.encoders[encoder].name;
        format!("{benchmark}/{encoder}/{}", seed + 1)
    };
    places(settings).into_iter().map(key).collect()
}

fn bar(item: &str, what: &str, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_prefix(format!("{item}: {what}"));
    let template = "{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}, {per_sec})";
    // The template is a constant; without it the bar is only plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

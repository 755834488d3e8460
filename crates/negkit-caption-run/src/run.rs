//! A run over a job.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use negkit_captions::{
    CaptionWriter, ObjectVerifier, QualityGate, Reason, Rejected, Transcript, p1_caption,
    p2_caption, rand_p1_caption,
};
use negkit_digest::{file_sha256, sha256};
use negkit_run::{Many, Plan, RunFolder, Settled, Shard, WorkedMany};
use serde::{Deserialize, Serialize};

use crate::finals::{Cost, Summary, write_finals};
use crate::{CaptionRecord, CaptionRunError, Item, Job, Outcome, RejectedCaption, Task};

/// Who works on one caption.
pub struct Crew<'a> {
    /// Who writes.
    pub writer: Box<dyn CaptionWriter + 'a>,
    /// Who looks; P2 needs nobody.
    pub verifier: Option<Box<dyn ObjectVerifier + 'a>>,
}

/// Gives writer and verifier for each caption, so that what they say goes into its own transcript.
pub trait Staff: Sync {
    /// The crew for one caption.
    fn crew<'a>(&'a self, transcript: &'a Transcript) -> Crew<'a>;
}

/// Everything that decides a run's result, as `run.toml` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `p1`, `rand-p1` or `p2`.
    pub pipeline: String,
    /// SHA-256 of the captions file.
    pub captions_sha256: String,
    /// SHA-256 of the questions (P2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions_sha256: Option<String>,
    /// SHA-256 of their answers (P2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations_sha256: Option<String>,
    /// SHA-256 of the objects, a line each (Rand-P1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_sha256: Option<String>,
    /// Decides draws of objects, and of what rules write.
    pub seed: u64,
    /// Who writes, with all that decides what: model, sampling, hashes of prompts. Where a model runs
    /// is no part of it.
    pub writer: BTreeMap<String, String>,
    /// Who looks, likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verifier: BTreeMap<String, String>,
    /// The gate.
    pub gate: GateSettings,
}

/// The gate's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GateSettings {
    kept_share: f64,
    most_words: u64,
    most_added: u64,
}

impl Settings {
    /// Settings of a job.
    ///
    /// # Errors
    /// When a file of the job cannot be read.
    pub fn new(
        job: &Job,
        seed: u64,
        writer: BTreeMap<String, String>,
        verifier: BTreeMap<String, String>,
        gate: &QualityGate,
    ) -> Result<Self, CaptionRunError> {
        let (questions, annotations) = match &job.task {
            Task::P2(vqa) => (
                Some(digest(&vqa.questions)?),
                Some(digest(&vqa.annotations)?),
            ),
            _ => (None, None),
        };
        let objects = match &job.task {
            Task::RandP1(objects) => {
                let lines = objects
                    .vocabulary
                    .iter()
                    .map(|object| format!("{object}\n"));
                Some(sha256(lines.collect::<String>()))
            }
            _ => None,
        };
        Ok(Self {
            pipeline: job.task.name().to_owned(),
            captions_sha256: digest(&job.captions)?,
            questions_sha256: questions,
            annotations_sha256: annotations,
            objects_sha256: objects,
            seed,
            writer,
            verifier,
            gate: GateSettings {
                kept_share: gate.kept_share,
                most_words: gate.most_words as u64,
                most_added: gate.most_added as u64,
            },
        })
    }
}

/// SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> Result<String, CaptionRunError> {
    file_sha256(path).map_err(|cause| CaptionRunError::Read {
        path: path.to_owned(),
        cause,
    })
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Captions of the shard.
    pub items: usize,
    /// Of these, those that are settled, kept or rejected.
    pub done: usize,
    /// Of these, dead letters.
    pub failed: usize,
    /// What the settled ones have cost.
    pub cost: Cost,
}

/// A run: its folder, and the gate that nothing passes by.
pub struct CaptionRun<'a> {
    folder: RunFolder,
    job: &'a Job,
    gate: QualityGate,
}

fn plan(job: &Job, settings: &Settings) -> Result<Plan, CaptionRunError> {
    let table = format!("captions-{}", job.task.name());
    Ok(Plan::new(&table, settings, job.keys())?)
}

impl<'a> CaptionRun<'a> {
    /// Makes the folder, or opens that of a run with the same settings.
    ///
    /// # Errors
    /// When the run in it has other settings, naming each, or the folder cannot be written.
    pub fn open(
        root: impl Into<PathBuf>,
        job: &'a Job,
        settings: &Settings,
        gate: QualityGate,
    ) -> Result<Self, CaptionRunError> {
        Ok(Self {
            folder: RunFolder::open(root, plan(job, settings)?)?,
            job,
            gate,
        })
    }

    /// How far the run in that folder is; nothing is made or changed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn outlook(
        root: &Path,
        job: &Job,
        settings: &Settings,
        shard: Shard,
    ) -> Result<Outlook, CaptionRunError> {
        let plan = plan(job, settings)?;
        let seen = RunFolder::outlook(root, &plan, shard)?;
        let mut outlook = Outlook {
            items: seen.items,
            done: seen.done,
            failed: 0,
            cost: Cost::default(),
        };
        if root.join("run.toml").is_file() {
            let settled = RunFolder::read(root)?.settled()?;
            let mut seen = Default::default();
            for position in (0..plan.items().len()).filter(|position| shard.holds(*position)) {
                outlook.failed += usize::from(settled.failure(position).is_some());
                if let Some(record) = settled.record::<CaptionRecord>(position)? {
                    outlook.cost.add(&record, &mut seen);
                }
            }
        }
        Ok(outlook)
    }

    /// Works on all captions that are not settled; see [`RunFolder::work_many`].
    ///
    /// # Errors
    /// When too many in a row fail, or a record cannot be written.
    pub fn work(
        &self,
        many: &Many,
        staff: &dyn Staff,
        note: impl Fn() -> String,
    ) -> Result<WorkedMany, CaptionRunError> {
        let one = |position: usize, _: &str| self.settle(&self.job.items[position], staff);
        Ok(self.folder.work_many(many, one, note)?)
    }

    fn settle(&self, item: &Item, staff: &dyn Staff) -> Settled<CaptionRecord> {
        let transcript = Transcript::default();
        let outcome = {
            let crew = staff.crew(&transcript);
            let verifier: &dyn ObjectVerifier = match &crew.verifier {
                Some(verifier) => &**verifier,
                None => &Nobody,
            };
            let (caption, writer, gate) = (&item.caption, &*crew.writer, &self.gate);
            match (&self.job.task, &item.pair) {
                (Task::RandP1(objects), _) => {
                    rand_p1_caption(caption, objects, writer, verifier, gate)
                }
                (_, Some(pair)) => p2_caption(caption, pair, writer, gate),
                (_, None) => p1_caption(caption, writer, verifier, gate),
            }
        };
        let outcome = match outcome {
            Ok(kept) => Outcome::Kept(kept),
            Err(rejected) => {
                let Rejected { reason, .. } = &*rejected;
                if let Reason::Failed(error) = reason
                    && error.may_pass()
                {
                    return Settled::Failed(error.to_string());
                }
                let question = item.pair.as_ref().map(|pair| pair.question.as_str());
                Outcome::Rejected(RejectedCaption::new(&rejected, question))
            }
        };
        Settled::Done(CaptionRecord {
            outcome,
            exchanges: transcript.into_exchanges(),
        })
    }

    /// Writes the final files, where every caption of the run is settled or a dead letter.
    ///
    /// # Errors
    /// When some are not, or a file cannot be written.
    pub fn finish(&self) -> Result<Summary, CaptionRunError> {
        write_finals(&self.folder, &self.job.captions)
    }

    /// Puts runs of shards together into `out` and writes the final files there. The result has the
    /// same bytes as that of a run without shards.
    ///
    /// # Errors
    /// When settings differ, something is missing, or `captions` is not the file of the run.
    pub fn merge(
        out: &Path,
        runs: &[PathBuf],
        captions: &Path,
    ) -> Result<Summary, CaptionRunError> {
        let folder = negkit_run::merge(out, runs)?;
        write_finals(&folder, captions)
    }
}

/// Looks at nothing: the verifier of a pipeline that asks none.
struct Nobody;

impl ObjectVerifier for Nobody {
    fn is_there(
        &self,
        _: &negkit_captions::ImageRef,
        _: &str,
    ) -> Result<negkit_captions::Verdict, negkit_captions::CaptionError> {
        Err(negkit_captions::CaptionError::NothingToWrite {
            reason: "no verifier was given".to_owned(),
        })
    }
}

//! The loop.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::atomic;
use crate::checkpoint::{Best, Checkpoints, Exact, Position, read};
use crate::curves;
use crate::gradients::{Computed, Workers};
use crate::log::CsvLog;
use crate::optimizer::{AdamW, AdamWSettings};
use crate::progress::Progress;
use crate::{Keep, ParamStore, Task, TrainError, TrainSettings};

/// Batches that are made before they are needed.
const BATCHES_AHEAD: usize = 2;

/// What a training came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Updates done.
    pub steps: u64,
    /// The lowest first score of all validations; `None` where the task gives no scores.
    pub best: Option<f64>,
    /// The step after which that was, from 1.
    pub best_step: Option<u64>,
    /// Scores of the last validation.
    pub metrics: Vec<(String, f64)>,
    /// Time spent, over all runs.
    pub seconds: f64,
}

/// Trains the parameters of `store` on `task`, or goes on where `folder` stopped.
///
/// The store holds the weights that `settings` says to keep afterwards; those of the moving average
/// where there is one. The folder gets `train.json` (the settings), `checkpoint.safetensors`
/// (everything that is needed to go on), `best.safetensors` (the weights with the best score),
/// `log.csv`, `validation.csv` and `curves.png`. A finished training is not repeated: its weights
/// are loaded.
///
/// # Errors
/// When settings make no sense, or the folder holds a training with other settings, another task
/// recipe or other first weights; when loss or gradient stop being numbers (the folder keeps the
/// last checkpoint); when the task or the device fails, or files cannot be written.
pub fn train<T: Task>(
    store: &ParamStore,
    task: &T,
    settings: &TrainSettings,
    folder: &Path,
) -> Result<Summary, TrainError> {
    settings.check()?;
    std::fs::create_dir_all(folder).map_err(TrainError::io(folder, "create"))?;
    let _lock = lock(folder)?;
    let described = describe(store, settings, task.recipe(), folder)?;
    let mut optimizer = AdamW::new(store.trainable(), AdamWSettings::of(settings))?;
    let checkpoints = Checkpoints::new(folder, &described);
    let position = checkpoints.restore(&mut optimizer)?.unwrap_or_default();
    if position.step == 0 {
        // From here on there is always one to speak of, such as when the first step fails.
        checkpoints.save(&optimizer, &position)?;
    }
    let run = Run {
        task,
        settings,
        log: CsvLog::open(&folder.join("log.csv"), position.step)?,
        validation: CsvLog::open(&folder.join("validation.csv"), position.step)?,
        progress: Progress::new(settings.steps, position.step),
        begun: Instant::now(),
        seconds_before: position.seconds,
        optimizer,
        workers: Workers::new(settings.parts, settings.recompute, store.trainable())?,
        checkpoints,
        position,
        folder,
    };
    run.finish()
}

struct Run<'a, T: Task> {
    task: &'a T,
    settings: &'a TrainSettings,
    folder: &'a Path,
    optimizer: AdamW,
    workers: Workers,
    checkpoints: Checkpoints,
    position: Position,
    log: CsvLog,
    validation: CsvLog,
    progress: Progress,
    begun: Instant,
    seconds_before: f64,
}

impl<T: Task> Run<'_, T> {
    fn finish(mut self) -> Result<Summary, TrainError> {
        let (first, steps, task) = (self.position.step, self.settings.steps, self.task);
        std::thread::scope(|scope| {
            let (sender, batches) = sync_channel(BATCHES_AHEAD);
            let maker = scope.spawn(move || {
                for step in first..steps {
                    // Nobody listens any more when the loop has failed.
                    if sender.send(task.batch(step)).is_err() {
                        break;
                    }
                }
            });
            let result = self.all_steps(&batches);
            // A maker that waits for room in the queue has to be told before it can be joined.
            drop(batches);
            match maker.join() {
                Ok(()) => result,
                Err(panic) => Err(TrainError::Task(format!(
                    "panicked while it made a batch: {}",
                    panic_message(&*panic)
                ))),
            }
        })?;
        match (self.settings.keep, &self.position.best) {
            (Keep::Best, Some(_)) => self.checkpoints.load_best(&self.optimizer)?,
            (Keep::Best, None) => {
                return Err(TrainError::Task(
                    "gives no scores, so that there is no best one to keep".to_owned(),
                ));
            }
            (Keep::Last, _) => self.optimizer.swap_average()?,
        }
        self.progress.finish();
        let Position {
            step,
            seconds,
            best,
            scores,
        } = self.position;
        Ok(Summary {
            steps: step,
            best: best.map(|best| best.score.0),
            best_step: best.map(|best| best.step),
            metrics: scores.into_iter().map(|(n, score)| (n, score.0)).collect(),
            seconds,
        })
    }

    fn all_steps(
        &mut self,
        batches: &Receiver<Result<T::Batch, TrainError>>,
    ) -> Result<(), TrainError> {
        while self.position.step < self.settings.steps && !self.is_exhausted() {
            let batch = batches.recv().map_err(|_| {
                TrainError::Task(format!("stopped making batches at {}", self.position.step))
            })?;
            self.one_step(batch?)?;
            let step = self.position.step;
            let is_last = step == self.settings.steps;
            if is_last || is_due(step, self.settings.validate_every) {
                self.validate()?;
            }
            if is_last || self.is_exhausted() || is_due(step, self.settings.checkpoint_every) {
                self.position.seconds = self.seconds();
                self.checkpoints.save(&self.optimizer, &self.position)?;
            }
        }
        Ok(())
    }

    /// Whether so many validations have passed without a better one that the training ends.
    fn is_exhausted(&self) -> bool {
        let (Some(patience), Some(best)) = (self.settings.patience, self.position.best) else {
            return false;
        };
        self.position.step - best.step >= patience * self.settings.validate_every
    }

    fn one_step(&mut self, batch: T::Batch) -> Result<(), TrainError> {
        let rate = self.settings.rate(self.position.step);
        let parts = match self.settings.parts {
            1 => vec![batch],
            parts => self.task.split(batch, parts)?,
        };
        let Computed {
            loss,
            metrics,
            gradients,
        } = self.workers.compute(self.task, parts)?;
        if !loss.is_finite() {
            return Err(self.non_finite("the loss".to_owned(), loss));
        }
        if self.position.step == 0 {
            self.optimizer.check_reached(&gradients)?;
        }
        let norm = self.optimizer.gradient_norm(&gradients)?;
        if !norm.is_finite() {
            let broken = self.optimizer.broken_gradient(&gradients)?;
            let (what, value) = match broken {
                Some((name, value)) => (format!("the gradient of {name}"), value),
                None => ("the norm of the gradient".to_owned(), norm),
            };
            return Err(self.non_finite(what, value));
        }
        let scale = AdamW::clip_scale(norm, self.settings.clip_norm);
        self.optimizer.update(&gradients, rate, scale)?;
        self.position.step += 1;
        let step = self.position.step;
        let mut row = vec![("loss", loss)];
        row.extend(metrics);
        row.extend([
            ("learning_rate", rate),
            ("gradient_norm", norm),
            ("seconds", self.seconds()),
        ]);
        self.log.append(step, &row)?;
        self.progress.step(step, loss, rate);
        Ok(())
    }

    fn validate(&mut self) -> Result<(), TrainError> {
        self.optimizer.swap_average()?;
        let scores = self.task.validate()?;
        let step = self.position.step;
        if let Some((_, score)) = scores.first() {
            let best = self.position.best;
            // NaN is never better.
            if score.is_finite() && best.is_none_or(|best| *score < best.score.0) {
                self.checkpoints.save_best(&self.optimizer)?;
                let score = Exact(*score);
                self.position.best = Some(Best { step, score });
            }
            self.validation.append(step, &scores)?;
            self.progress.validated(step, &scores);
        }
        self.optimizer.swap_average()?;
        let owned = scores.into_iter();
        self.position.scores = owned.map(|(n, s)| (n.to_owned(), Exact(s))).collect();
        curves::draw(self.folder)
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    fn non_finite(&self, what: String, value: f64) -> TrainError {
        TrainError::NonFinite {
            step: self.position.step + 1,
            what,
            value,
            kept: format!(
                "the last checkpoint is whole in {}",
                self.checkpoints.path().display()
            ),
        }
    }
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// Held until the training ends, however it ends: the system lets go of it with the process.
fn lock(folder: &Path) -> Result<File, TrainError> {
    let path = folder.join("train.lock");
    let file = File::create(&path).map_err(TrainError::io(&path, "create"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Busy {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(TrainError::io(&path, "lock")(e)),
    }
}

/// Writes `train.json`, or checks that the one in the folder says the same. Gives what it says of
/// everything that decides the result.
fn describe(
    store: &ParamStore,
    settings: &TrainSettings,
    recipe: Value,
    folder: &Path,
) -> Result<String, TrainError> {
    let path = folder.join("train.json");
    let (all, trainable) = store.sizes();
    let settings = serde_json::to_value(settings).map_err(TrainError::other)?;
    let asked = json!({
        "settings": settings,
        "recipe": recipe,
        "parameters": { "all": all, "trainable": trainable },
        "first_weights": store.digest()?,
    });
    // Through text and back, so that both sides of the comparison lost the same in JSON.
    let asked_text = serde_json::to_string(&asked).map_err(TrainError::other)?;
    let asked: Value = serde_json::from_str(&asked_text).map_err(TrainError::other)?;
    match read(&path)? {
        Some(bytes) => {
            let mut found: Value =
                serde_json::from_slice(&bytes).map_err(|e| TrainError::damaged(&path, e))?;
            let found = found["decides"].take();
            let mut differences = Vec::new();
            compare(&mut differences, "", &found, &asked);
            if !differences.is_empty() {
                return Err(TrainError::Changed {
                    folder: folder.to_owned(),
                    differences,
                });
            }
        }
        None => {
            remove_old(folder)?;
            let document = json!({ "first_weights_from": store.origin(), "decides": asked });
            let text = serde_json::to_string_pretty(&document).map_err(TrainError::other)?;
            atomic::write(&path, format!("{text}\n").as_bytes())?;
        }
    }
    Ok(asked_text)
}

/// Without `train.json` nobody knows what the rest of a folder belongs to.
fn remove_old(folder: &Path) -> Result<(), TrainError> {
    for name in ["checkpoint.safetensors", "best.safetensors"] {
        let path: PathBuf = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::io(&path, "remove")(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lists where two documents differ, leaf by leaf.
fn compare(differences: &mut Vec<String>, name: &str, found: &Value, asked: &Value) {
    if let (Value::Object(found), Value::Object(asked)) = (found, asked) {
        let mut keys: Vec<&String> = found.keys().chain(asked.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let value = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or_default();
        for key in keys {
            let name = match name {
                "" => key.clone(),
                name => format!("{name}.{key}"),
            };
            compare(differences, &name, &value(found, key), &value(asked, key));
        }
    } else if found != asked {
        differences.push(format!(
            "{name}: the folder has {found}, asked for is {asked}"
        ));
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

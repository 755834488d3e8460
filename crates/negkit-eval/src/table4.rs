//! Table 4: pictures with the text encoder swapped, scored by Neg Score and TIFA.
//!
//! An item is a prompt with an encoder: all its pictures are painted, each is asked all questions, and
//! the answers are the record. Every encoder gets the same prompts and the same starting noise; every
//! prompt has noise of its own, so that prompts can be drawn as independent. There is no safety
//! checker, which would black pictures out.

mod finals;
mod prompts;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::RgbImage;
use negkit::Compute;
use negkit::diffusion::scheduler::SchedulerKind;
use negkit::diffusion::{PictureRequest, SamplingSettings, StableDiffusion};
use negkit::image::{GenerationParameters, PARAMETERS_KEY};
use negkit::text::TextEncoder;
use negkit::txt2img::{NamedEncoder, encoder_slugs};
use negkit_metrics::{Bootstrap, NegAnswers};
use negkit_sbert::SentenceEncoder;
use negkit_vqa::{Answer, Inquiry, Question, QuestionAnswerer, Refusal};
use serde::{Deserialize, Serialize};

use crate::choice::chosen;
use crate::{ComputeUsed, EvalError, ModelUsed, Plan, Result, RunError, RunFolder, Shard, Worked};

pub use finals::{finals, finals_so_far, negation_word};
pub use prompts::{Prompt, PromptQuestion, Task, mini_prompts, paper_prompts, some};

/// The name of the table, in `run.toml`.
pub const TABLE: &str = "table4";

/// The scale of the small world's prompts.
pub const MINI: &str = "mini";

/// Noises that a prompt has for itself; no more pictures are painted of it.
const NOISES_EACH: u64 = 1000;
/// First noise of TIFA's prompts, behind that of the prompts with a negation.
const TIFA_NOISE: u64 = 1_000_000_000;

/// The models of a run.
pub struct Table4Models {
    /// Name of the Stable Diffusion.
    pub name: String,
    /// Paints.
    pub painter: StableDiffusion,
    /// The text encoders, each under its name; `None` is the painter's own.
    pub encoders: Vec<NamedEncoder>,
    /// Answers questions on what was painted.
    pub answerer: Box<dyn QuestionAnswerer>,
    /// Turns a free answer into one of a question's choices, under its name; without it an answer in
    /// other words is wrong.
    pub sentences: Option<(String, SentenceEncoder)>,
    /// What they compute with.
    pub compute: Compute,
}

/// Which noise pictures are painted from. Every encoder gets the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// Every prompt has noise of its own, from this seed on: so prompts can be drawn as independent.
    Seed(u64),
    /// Every prompt is painted from the noise of these very seeds, one picture each.
    Seeds(Vec<u64>),
}

impl Noise {
    /// The seeds of a prompt's pictures.
    fn of(&self, prompt: &Prompt, pictures: usize) -> Vec<u64> {
        match self {
            Self::Seed(first) => {
                let first = first.wrapping_add(prompt.noise());
                (0..pictures as u64)
                    .map(|number| first.wrapping_add(number))
                    .collect()
            }
            Self::Seeds(seeds) => seeds.iter().copied().take(pictures).collect(),
        }
    }

    /// Refuses to paint `pictures` of a prompt, where there is no noise for so many.
    fn check(&self, what: &str, pictures: usize) -> Result<()> {
        let refused = |reason: String| Err(RunError::Settings { reason }.into());
        let most = match self {
            Self::Seed(_) => NOISES_EACH as usize,
            Self::Seeds(seeds) => {
                let twice = (1..seeds.len()).find(|i| seeds[..*i].contains(&seeds[*i]));
                if let Some(twice) = twice {
                    return refused(format!("the seed {} is given twice", seeds[twice]));
                }
                seeds.len()
            }
        };
        match (1..=most).contains(&pictures) {
            true => Ok(()),
            false => refused(format!("{what}: expected 1 to {most}, found {pictures}")),
        }
    }
}

/// What a user decides about a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Table4Options {
    /// Where the prompts are from: [`MINI`], or `paper`.
    pub scale: String,
    /// Pictures of every prompt with a negation.
    pub images_per_prompt: usize,
    /// Pictures of every prompt of TIFA.
    pub tifa_images_per_prompt: usize,
    /// Which noise they are painted from.
    pub noise: Noise,
    /// How pictures are painted.
    pub sampling: SamplingSettings,
    /// How intervals are drawn.
    pub bootstrap: Bootstrap,
}

/// All that decides the result, as `run.toml` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table4Settings {
    /// Where the prompts are from.
    pub scale: String,
    /// Prompts with a negation.
    pub neg_prompts: usize,
    /// Prompts of TIFA.
    pub tifa_prompts: usize,
    /// SHA-256 of all prompts and questions.
    pub prompts_sha256: String,
    /// Pictures of every prompt with a negation.
    pub images_per_prompt: usize,
    /// Pictures of every prompt of TIFA.
    pub tifa_images_per_prompt: usize,
    /// Which noise they are painted from.
    #[serde(flatten)]
    pub noise: Noise,
    /// Inference steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// The scheduler.
    pub scheduler: String,
    /// Width of the pictures, in pixels.
    pub width: usize,
    /// Height of the pictures, in pixels.
    pub height: usize,
    /// DDIM's eta.
    pub eta: f64,
    /// Pictures painted at a time: sums are rounded in another order in another batch.
    pub batch_size: usize,
    /// Always false.
    pub safety_checker: bool,
    /// What was left out of the sampling, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savings: Option<String>,
    /// Where and in what the models compute.
    #[serde(flatten)]
    pub compute: ComputeUsed,
    /// How intervals are drawn.
    pub bootstrap: Bootstrap,
    /// The denoising network.
    pub unet: ModelUsed,
    /// The autoencoder.
    pub vae: ModelUsed,
    /// The text encoders, in the order of the table.
    pub text_encoders: Vec<ModelUsed>,
    /// Answered the questions.
    pub answerer: ModelUsed,
    /// Turned answers into choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentences: Option<ModelUsed>,
}

/// The answer to one question about one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// The question.
    pub question: String,
    /// What it is about: `affirmed` or `negated`, or TIFA's type, such as `color`.
    pub element_type: String,
    /// The right answer.
    pub expected: String,
    /// The answer, in the model's words.
    pub answer: String,
    /// The choice that it was taken for; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// The probability that the model gave it, where it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Why what the model said is no answer, and what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Whether it is right; what is no answer is wrong.
    pub right: bool,
}

/// A picture and what was asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureRecord {
    /// Its file, within the folder of the run.
    pub file: String,
    /// Seed of its noise.
    pub seed: u64,
    /// The answers, in the order of the questions.
    pub answers: Vec<AnswerRecord>,
}

/// A prompt painted with an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table4Record {
    /// Id of the prompt among those of its task.
    pub id: String,
    /// The score that it counts for.
    pub task: Task,
    /// The prompt.
    pub prompt: String,
    /// What its negation is about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the text encoder.
    pub text_encoder: String,
    /// The end of the prompt that did not fit the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<String>,
    /// Its pictures.
    pub pictures: Vec<PictureRecord>,
}

/// How much a run has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Pictures, each decoded once.
    pub pictures: usize,
    /// Steps of the denoising network, over all pictures; each with and without the prompt where
    /// there is guidance.
    pub steps: usize,
    /// Questions.
    pub questions: usize,
}

/// A run of Table 4 with its models.
pub struct Table4 {
    models: Table4Models,
    own: Arc<dyn TextEncoder>,
    slugs: Vec<String>,
    prompts: Vec<Prompt>,
    options: Table4Options,
    scheduler: SchedulerKind,
    plan: Plan,
}

impl Table4 {
    /// A run with these models on these prompts. Hashes of all weights are taken.
    ///
    /// # Errors
    /// When there are no encoders, one is there twice, one does not fit the painter, there are no
    /// prompts, or a weight file cannot be read.
    pub fn new(
        mut models: Table4Models,
        prompts: Vec<Prompt>,
        options: Table4Options,
    ) -> Result<Self> {
        let names: Vec<&str> = models
            .encoders
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() {
            return Err(EvalError::Encoders("no text encoder was given".to_owned()));
        }
        if let Some(twice) = (1..names.len()).find(|i| names[..*i].contains(&names[*i])) {
            let text = format!("the text encoder '{}' is given twice", names[twice]);
            return Err(EvalError::Encoders(text));
        }
        for (what, images) in [
            ("pictures of a prompt", options.images_per_prompt),
            ("pictures of a TIFA prompt", options.tifa_images_per_prompt),
        ] {
            options.noise.check(what, images)?;
        }
        let slugs = encoder_slugs(names.iter().copied());
        let own = models.painter.text().clone();
        let text_encoders = hashes_of_encoders(&mut models, &own)?;
        let scheduler = models
            .painter
            .scheduler_kind(&options.sampling)
            .map_err(negkit::Error::from)?;
        let settings = settings(&models, &prompts, &options, scheduler, text_encoders)?;
        let items = prompts
            .iter()
            .flat_map(|prompt| slugs.iter().map(|slug| format!("{}/{slug}", prompt.key())));
        let plan = Plan::new(TABLE, &settings, items.collect())?;
        Ok(Self {
            models,
            own,
            slugs,
            prompts,
            options,
            scheduler,
            plan,
        })
    }

    /// What is to be done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How much the items of a shard have to do that `is_to_do`.
    pub fn calls(&self, is_to_do: impl Fn(usize) -> bool) -> Calls {
        let mut calls = Calls {
            pictures: 0,
            steps: 0,
            questions: 0,
        };
        for position in (0..self.plan.items().len()).filter(|position| is_to_do(*position)) {
            let prompt = &self.prompts[position / self.slugs.len()];
            let pictures = self.pictures_of(prompt);
            calls.pictures += pictures;
            calls.steps += pictures * self.options.sampling.steps;
            calls.questions += pictures * prompt.questions.len();
        }
        calls
    }

    /// How long an item takes: that of the first prompt and of the last one, painted and asked, and
    /// forgotten.
    ///
    /// # Errors
    /// When the work fails.
    pub fn measure(&mut self) -> Result<Duration> {
        let last = self.plan.items().len() - 1;
        let begun = Instant::now();
        for position in [0, last] {
            self.paint_and_ask(position)?;
        }
        Ok(begun.elapsed() / 2)
    }

    /// Does the items of a shard, and writes the final files when all items of the run are done.
    ///
    /// # Errors
    /// As [`RunFolder::work`], and when there is no score.
    pub fn run(&mut self, folder: &RunFolder, shard: Shard) -> Result<Worked> {
        let worked = folder.work(shard, |position, _| self.work(folder, position))?;
        if worked.left == 0 {
            folder.write_finals(&finals(folder)?)?;
        }
        Ok(worked)
    }

    fn pictures_of(&self, prompt: &Prompt) -> usize {
        match prompt.task {
            Task::NegScore => self.options.images_per_prompt,
            Task::Tifa => self.options.tifa_images_per_prompt,
        }
    }

    fn work(&mut self, folder: &RunFolder, position: usize) -> Result<Table4Record> {
        let (pictures, mut record) = self.paint_and_ask(position)?;
        let prompt = &self.prompts[position / self.slugs.len()];
        for (picture, made) in pictures.iter().zip(&mut record.pictures) {
            let name = self.picture_name(position, made.seed);
            let text = self.parameters(prompt, &record.text_encoder, made.seed)?;
            made.file = folder.write_picture(&name, picture, &[(PARAMETERS_KEY, &text)])?;
        }
        Ok(record)
    }

    /// A picture's path within the folder of pictures: what a stored answer knows it by.
    fn picture_name(&self, position: usize, seed: u64) -> String {
        let prompt = &self.prompts[position / self.slugs.len()];
        let slug = &self.slugs[position % self.slugs.len()];
        format!("{}-{slug}-seed{seed}.png", prompt.key())
    }

    /// The pictures of an item and their answers, not yet in files.
    fn paint_and_ask(&mut self, position: usize) -> Result<(Vec<RgbImage>, Table4Record)> {
        let prompt = &self.prompts[position / self.slugs.len()];
        let (encoder, text) = &self.models.encoders[position % self.slugs.len()];
        let text = text.clone().unwrap_or_else(|| self.own.clone());
        self.models
            .painter
            .set_text_encoder(text)
            .map_err(negkit::Error::from)?;
        let seeds = self.options.noise.of(prompt, self.pictures_of(prompt));
        let requests: Vec<PictureRequest> = seeds
            .into_iter()
            .map(|seed| PictureRequest {
                prompt: prompt.text.clone(),
                negative_prompt: String::new(),
                seed,
            })
            .collect();
        let painted = self
            .models
            .painter
            .generate(&requests, &self.options.sampling, None, |_| {
                ControlFlow::Continue(())
            })
            .map_err(negkit::Error::from)?;
        let truncated = painted.first().and_then(|made| made.truncated.clone());
        let pictures: Vec<RgbImage> = painted.into_iter().map(|made| made.picture).collect();
        let files: Vec<String> = requests
            .iter()
            .map(|request| self.picture_name(position, request.seed))
            .collect();
        let answers = ask(&*self.models.answerer, prompt, &files, &pictures)?;
        let records = requests
            .iter()
            .zip(answers)
            .map(|(request, answers)| {
                Ok(PictureRecord {
                    file: String::new(),
                    seed: request.seed,
                    answers: self.judged(prompt, answers)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let record = Table4Record {
            id: prompt.id.clone(),
            task: prompt.task,
            prompt: prompt.text.clone(),
            kind: prompt.kind.clone(),
            text_encoder: encoder.clone(),
            truncated,
            pictures: records,
        };
        Ok((pictures, record))
    }

    fn judged(&self, prompt: &Prompt, answers: Vec<Answer>) -> Result<Vec<AnswerRecord>> {
        if answers.len() != prompt.questions.len() {
            return Err(RunError::Record {
                item: prompt.key(),
                reason: format!(
                    "expected {} answers, found {}",
                    prompt.questions.len(),
                    answers.len()
                ),
            }
            .into());
        }
        let pairs = prompt.questions.iter().zip(answers);
        pairs
            .map(|(question, answer)| self.judge(prompt, question, answer))
            .collect()
    }

    fn judge(
        &self,
        prompt: &Prompt,
        question: &PromptQuestion,
        answer: Answer,
    ) -> Result<AnswerRecord> {
        // JSON would write it as if there were none.
        if answer.confidence.is_some_and(|share| !share.is_finite()) {
            return Err(RunError::Record {
                item: prompt.key(),
                reason: format!(
                    "the answer to '{}' has no finite confidence",
                    question.question
                ),
            }
            .into());
        }
        let choice = match prompt.task {
            Task::NegScore => None,
            Task::Tifa if answer.refusal.is_some() => None,
            Task::Tifa => chosen(
                &answer.text,
                &question.choices,
                self.models.sentences.as_ref().map(|(_, model)| model),
            )?,
        };
        let right = match prompt.task {
            Task::NegScore if question.expected == "yes" => {
                NegAnswers::from_answers(&answer.text, "").affirmed
            }
            Task::NegScore => NegAnswers::from_answers("", &answer.text).negated,
            Task::Tifa => choice.as_deref() == Some(question.expected.as_str()),
        };
        Ok(AnswerRecord {
            question: question.question.clone(),
            element_type: question.element_type.clone(),
            expected: question.expected.clone(),
            answer: answer.text,
            choice,
            confidence: answer.confidence,
            refusal: answer.refusal,
            right,
        })
    }

    fn parameters(&self, prompt: &Prompt, encoder: &str, seed: u64) -> Result<String> {
        let sampling = &self.options.sampling;
        let parameters = GenerationParameters {
            prompt: prompt.text.clone(),
            negative_prompt: String::new(),
            steps: u32::try_from(sampling.steps).ok(),
            sampler: Some(self.scheduler.name().to_owned()),
            cfg_scale: Some(sampling.guidance_scale),
            seed: Some(seed),
            size: Some((sampling.width as u32, sampling.height as u32)),
            model_hash: None,
            model: Some(self.models.name.clone()),
            extra: vec![
                ("Text encoder".to_owned(), encoder.to_owned()),
                (
                    "Version".to_owned(),
                    format!("negkit {}", env!("CARGO_PKG_VERSION")),
                ),
            ],
        };
        Ok(parameters.format().map_err(negkit::Error::from)?)
    }
}

/// Asks all questions of a prompt about each of its pictures.
fn ask(
    answerer: &dyn QuestionAnswerer,
    prompt: &Prompt,
    files: &[String],
    pictures: &[RgbImage],
) -> Result<Vec<Vec<Answer>>> {
    let choices: Vec<Vec<&str>> = prompt
        .questions
        .iter()
        .map(|question| question.choices.iter().map(String::as_str).collect())
        .collect();
    let asked = prompt.questions.iter().zip(&choices);
    let questions: Vec<Question<'_>> = asked
        .map(|(question, choices)| match prompt.task {
            Task::NegScore => Question::yes_no(&question.question),
            Task::Tifa => Question {
                text: &question.question,
                choices,
            },
        })
        .collect();
    let inquiries: Vec<Inquiry<'_>> = pictures
        .iter()
        .zip(files)
        .map(|(picture, file)| Inquiry {
            picture,
            key: Some(file),
            questions: &questions,
        })
        .collect();
    Ok(answerer.inquire_batch(&inquiries)?)
}

/// Names and hashes of the encoders, each of which is tried in the painter.
fn hashes_of_encoders(
    models: &mut Table4Models,
    own: &Arc<dyn TextEncoder>,
) -> Result<Vec<ModelUsed>> {
    let mut used = Vec::with_capacity(models.encoders.len());
    for (name, encoder) in &models.encoders {
        let encoder = encoder.as_ref().unwrap_or(own);
        models
            .painter
            .set_text_encoder(encoder.clone())
            .map_err(negkit::Error::from)?;
        used.push(ModelUsed::new(name, &encoder.info().weights)?);
    }
    models
        .painter
        .set_text_encoder(own.clone())
        .map_err(negkit::Error::from)?;
    Ok(used)
}

fn settings(
    models: &Table4Models,
    prompts: &[Prompt],
    options: &Table4Options,
    scheduler: SchedulerKind,
    text_encoders: Vec<ModelUsed>,
) -> Result<Table4Settings> {
    let count = |task| prompts.iter().filter(|prompt| prompt.task == task).count();
    let sampling = &options.sampling;
    let answerer = models.answerer.info();
    let sentences = models.sentences.as_ref();
    Ok(Table4Settings {
        scale: options.scale.clone(),
        neg_prompts: count(Task::NegScore),
        tifa_prompts: count(Task::Tifa),
        prompts_sha256: prompts::digest(prompts)?,
        images_per_prompt: options.images_per_prompt,
        tifa_images_per_prompt: options.tifa_images_per_prompt,
        noise: options.noise.clone(),
        steps: sampling.steps,
        guidance_scale: sampling.guidance_scale,
        scheduler: scheduler.name().to_owned(),
        width: sampling.width,
        height: sampling.height,
        eta: sampling.eta,
        batch_size: sampling.batch_size,
        safety_checker: false,
        savings: sampling.savings.described(),
        compute: ComputeUsed::from(&models.compute),
        bootstrap: options.bootstrap,
        unet: ModelUsed::new(&models.name, models.painter.unet_weights())?,
        vae: ModelUsed::new(&models.name, models.painter.vae_weights())?,
        text_encoders,
        answerer: ModelUsed::new(&answerer.name, &answerer.weights)?,
        sentences: sentences
            .map(|(name, model)| ModelUsed::new(name, model.weights()))
            .transpose()?,
    })
}

//! Writers and verifiers by name.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use negkit_caption_run::{Crew, Staff, Task};
use negkit_caption_writers::{
    ChatVerifier, ChatWriter, Lexicon, Prompts, RuleWriter, Statistics, Step,
};
use negkit_captions::{ObjectVerifier, Transcript};
use negkit_chat::{AnswerCache, ChatClient, ChatConfig, Sampling, Spent};
use negkit_data::coco::Captions;
#[cfg(feature = "onnx")]
use negkit_detect_onnx::DetectorVerifier;
use negkit_world::Scene;
use negkit_world::writers::{WorldVerifier, WorldWriter};
use serde::Deserialize;

#[cfg(feature = "onnx")]
use super::detector::DetectorSettings;

/// How chat models are asked.
#[derive(Args)]
#[command(next_help_heading = "Chat models")]
pub struct ChatArgs {
    /// Prompts of one's own: a folder as `negkit captions prompts` writes it.
    #[arg(long, value_name = "FOLDER")]
    prompts: Option<PathBuf>,
    /// Keep all answers in this folder, and never pay for a request twice. Runs may share it. Models
    /// are told apart by their names alone.
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Temperature of the writer. The verifier always says what it thinks likeliest.
    #[arg(long, default_value_t = 0.6, value_name = "T")]
    temperature: f64,
    /// Share of probability that the writer draws its words from.
    #[arg(long, default_value_t = 0.9, value_name = "P")]
    top_p: f64,
    /// Longest time of one request, in seconds.
    #[arg(long, default_value_t = 300, value_name = "S",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Repetitions of a request that failed for a passing reason.
    #[arg(long, default_value_t = 5, value_name = "N")]
    retries: usize,
}

enum Writer {
    Chat(Arc<ChatClient>, ChatWriter<'static>),
    Rules(Box<RuleWriter>),
    World(WorldWriter),
}

type Scenes = Box<dyn Fn(u64) -> Option<Scene> + Sync>;

enum Verifier {
    Chat(Arc<ChatClient>, ChatVerifier<'static>),
    #[cfg(feature = "onnx")]
    Detector(Box<DetectorVerifier>),
    World(Box<WorldVerifier<Scenes>>),
}

/// Writer and verifier, as they were named.
pub struct Named {
    writer: Writer,
    verifier: Option<Verifier>,
    /// What decides what they say, for `run.toml`.
    pub writer_settings: BTreeMap<String, String>,
    /// The same of the verifier.
    pub verifier_settings: BTreeMap<String, String>,
}

/// What writers and verifiers are opened with.
pub struct Opening<'a> {
    pub task: &'a Task,
    pub captions: &'a Path,
    pub images: Option<&'a Path>,
    pub writer: &'a str,
    pub verifier: Option<&'a str>,
    pub scenes: Option<&'a Path>,
    pub chat: &'a ChatArgs,
    #[cfg(feature = "onnx")]
    pub detector: Option<&'a DetectorSettings>,
    pub seed: u64,
    pub concurrency: usize,
}

const CHAT: &str = "chat:";
const ONNX: &str = "onnx:";

#[derive(Deserialize)]
struct SceneLine {
    image_id: u64,
    scene: Scene,
}

impl Opening<'_> {
    /// Opens them.
    pub fn open(&self) -> anyhow::Result<Named> {
        let chat = self.chat;
        let prompts = match &chat.prompts {
            Some(folder) => Prompts::open(folder)?,
            None => Prompts::built_in()?,
        };
        let prompts = Arc::new(prompts);
        let (writer, writer_settings) = self.writer(&prompts)?;
        let (verifier, verifier_settings) = match self.verifier {
            None => (None, BTreeMap::new()),
            Some(spec) => {
                let (verifier, settings) = self.verifier(spec, &prompts)?;
                (Some(verifier), settings)
            }
        };
        Ok(Named {
            writer,
            verifier,
            writer_settings,
            verifier_settings,
        })
    }

    fn client(
        &self,
        spec: &str,
        sampling: Sampling,
        steps: &[Step],
        prompts: &Prompts,
    ) -> anyhow::Result<(Arc<ChatClient>, BTreeMap<String, String>)> {
        let mut config = ChatConfig::from_spec(spec)?;
        config.timeout = Duration::from_secs(self.chat.timeout);
        config.retry.repeats = self.chat.retries;
        config.concurrency = self.concurrency;
        config.sampling = sampling;
        let mut settings = settings("chat");
        settings.insert("model".into(), config.model.clone());
        settings.insert(
            "temperature".into(),
            config.sampling.temperature.to_string(),
        );
        if let Some(top_p) = config.sampling.top_p {
            settings.insert("top_p".into(), top_p.to_string());
        }
        for step in steps {
            let hash = prompts.of(*step).map(|prompt| prompt.sha256().to_owned());
            settings.insert(
                format!("prompt_{}_sha256", step.name()),
                hash.unwrap_or_default(),
            );
        }
        let mut client = ChatClient::new(config)?;
        if let Some(folder) = &self.chat.cache {
            client = client.cache(AnswerCache::open(folder)?);
        }
        Ok((Arc::new(client), settings))
    }

    fn writer(&self, prompts: &Arc<Prompts>) -> anyhow::Result<(Writer, BTreeMap<String, String>)> {
        if let Some(spec) = self.writer.strip_prefix(CHAT) {
            let sampling = Sampling {
                temperature: self.chat.temperature,
                top_p: Some(self.chat.top_p),
                ..Sampling::default()
            };
            let steps: &[Step] = match self.task {
                Task::P1 => &[Step::Object, Step::Absence],
                Task::RandP1(_) => &[Step::Absence],
                Task::P2(_) => &[Step::Denial],
            };
            let (client, settings) = self.client(spec, sampling, steps, prompts)?;
            let writer = ChatWriter::new(Arc::clone(&client), Arc::clone(prompts));
            return Ok((Writer::Chat(client, writer), settings));
        }
        match self.writer {
            "rules" => {
                let lexicon = Lexicon::built_in()?;
                let all = Captions::open(self.captions)?;
                let captions = all
                    .captions
                    .iter()
                    .map(|c| (c.image_id, c.caption.as_str()));
                let statistics = Statistics::count(&lexicon, captions);
                let writer = RuleWriter::new(lexicon, statistics, self.seed);
                Ok((Writer::Rules(Box::new(writer)), settings("rules")))
            }
            "world" => Ok((
                Writer::World(WorldWriter::new(self.seed)),
                settings("world"),
            )),
            other => bail!("'{other}' is no writer: expected chat:MODEL@URL, rules or world"),
        }
    }

    fn verifier(
        &self,
        spec: &str,
        prompts: &Arc<Prompts>,
    ) -> anyhow::Result<(Verifier, BTreeMap<String, String>)> {
        if self.images.is_none() && (spec.starts_with(CHAT) || spec.starts_with(ONNX)) {
            bail!("'{spec}' looks at pictures: name their folder with --images");
        }
        if let Some(spec) = spec.strip_prefix(CHAT) {
            let sampling = Sampling::default();
            let (client, settings) = self.client(spec, sampling, &[Step::Verify], prompts)?;
            let verifier = ChatVerifier::new(Arc::clone(&client), Arc::clone(prompts));
            return Ok((Verifier::Chat(client, verifier), settings));
        }
        if let Some(model) = spec.strip_prefix(ONNX) {
            return self.detector(Path::new(model));
        }
        match spec {
            "world" => {
                let scenes = self.scenes()?;
                let find: Scenes = Box::new(move |id| scenes.get(&id).cloned());
                let verifier = WorldVerifier::new(find);
                Ok((Verifier::World(Box::new(verifier)), settings("world")))
            }
            other => bail!("'{other}' is no verifier: expected chat:MODEL@URL, onnx:FILE or world"),
        }
    }

    #[cfg(feature = "onnx")]
    fn detector(&self, model: &Path) -> anyhow::Result<(Verifier, BTreeMap<String, String>)> {
        let detector = self.detector.context("this task asks no verifier")?;
        let verifier = detector.open(model)?;
        let (file, opened) = (model.file_name().unwrap_or_default(), verifier.detector());
        let mut settings = settings("onnx");
        for (name, value) in [
            ("model", file.to_string_lossy().into_owned()),
            ("model_sha256", opened.sha256().to_owned()),
            ("names_sha256", opened.names_sha256().to_owned()),
            ("no_below", detector.no_below.to_string()),
            ("yes_from", detector.yes_from.to_string()),
        ] {
            settings.insert(name.to_owned(), value);
        }
        Ok((Verifier::Detector(Box::new(verifier)), settings))
    }

    #[cfg(not(feature = "onnx"))]
    fn detector(&self, model: &Path) -> anyhow::Result<(Verifier, BTreeMap<String, String>)> {
        bail!(
            "{} cannot be used: this negkit was built without detectors. Build it with \
             `--features onnx`",
            model.display()
        )
    }

    /// The scenes of a dataset that `negkit world generate` wrote.
    fn scenes(&self) -> anyhow::Result<HashMap<u64, Scene>> {
        let beside = || {
            let dataset = self.captions.parent().and_then(Path::parent);
            dataset.unwrap_or(Path::new("")).join("scenes.json")
        };
        let path = self.scenes.map_or_else(beside, Path::to_owned);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "the scenes of the pictures cannot be read from {}: name the scenes.json of the \
                 dataset with --scenes",
                path.display()
            )
        })?;
        let scenes: Vec<SceneLine> = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no list of scenes", path.display()))?;
        Ok(scenes
            .into_iter()
            .map(|line| (line.image_id, line.scene))
            .collect())
    }
}

fn settings(kind: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("kind".to_owned(), kind.to_owned())])
}

impl Named {
    /// What chat models have cost since the start; `None` where there is none.
    pub fn spent(&self) -> Option<Spent> {
        let writer = match &self.writer {
            Writer::Chat(client, _) => Some(client),
            _ => None,
        };
        let verifier = match &self.verifier {
            Some(Verifier::Chat(client, _)) => Some(client),
            _ => None,
        };
        let all = writer.into_iter().chain(verifier);
        let all = all.map(|client| client.spent());
        all.reduce(|a, b| Spent {
            requests: a.requests + b.requests,
            cached: a.cached + b.cached,
            prompt_tokens: a.prompt_tokens + b.prompt_tokens,
            completion_tokens: a.completion_tokens + b.completion_tokens,
        })
    }
}

impl Staff for Named {
    fn crew<'a>(&'a self, transcript: &'a Transcript) -> Crew<'a> {
        let verifier = self
            .verifier
            .as_ref()
            .map(|verifier| -> Box<dyn ObjectVerifier + 'a> {
                match verifier {
                    Verifier::Chat(_, verifier) => Box::new(verifier.keeping(transcript)),
                    #[cfg(feature = "onnx")]
                    Verifier::Detector(verifier) => Box::new(&**verifier),
                    Verifier::World(verifier) => Box::new(&**verifier),
                }
            });
        Crew {
            writer: match &self.writer {
                Writer::Chat(_, writer) => Box::new(writer.keeping(transcript)),
                Writer::Rules(writer) => Box::new(&**writer),
                Writer::World(writer) => Box::new(writer),
            },
            verifier,
        }
    }
}

//! From what a user names to what answers questions about pictures, and to what compares answers.

use std::path::Path;

use negkit_blip::BlipVqa;
use negkit_chat::{ChatAnswerer, ChatClient, ChatConfig, JsonLines};
use negkit_hub::{ModelKind, Want};
use negkit_nn::read_config;
use negkit_sbert::SentenceEncoder;
use negkit_vqa::mini::MiniVqa;
use negkit_vqa::replay::ReplayAnswerer;
use negkit_vqa::{QuestionAnswerer, VqaError};
use serde::Deserialize;

use crate::{Error, Models, Result, mini};

/// Names the small answerer.
const MINI: &str = "mini";
const BLIP: &str = "blip:";
const CHAT: &str = "chat:";
const REPLAY: &str = "replay:";

/// The one field of a `config.json` by which models are told apart.
#[derive(Deserialize)]
struct ModelType {
    model_type: String,
}

impl Models {
    /// What answers questions about pictures.
    ///
    /// | `spec` | what it is |
    /// |---|---|
    /// | `mini` | the small model in `weights/mini/vqa` |
    /// | `blip-vqa-base`, `owner/name`, a folder | a known name, a hub id or a folder of mini-vqa or of BLIP |
    /// | `blip:SPEC` | the same, and nothing but BLIP |
    /// | `chat:MODEL@URL` | a model behind an OpenAI-compatible endpoint, such as `chat:llava@http://127.0.0.1:11434/v1`, see [`negkit_chat`] |
    /// | `replay:FILE` | stored answers, see [`negkit_vqa::replay`] |
    ///
    /// # Errors
    /// When the files cannot be found, read, or do not fit each other.
    pub fn answerer(&self, spec: &str) -> Result<Box<dyn QuestionAnswerer>> {
        self.answerer_keeping(spec, None)
    }

    /// As [`Models::answerer`]. All that a chat model says is appended to the file `raw`, as
    /// [`negkit_chat::RawAnswer`] a line; the other answerers say nothing but their answers.
    ///
    /// # Errors
    /// As [`Models::answerer`], and when the file cannot be opened.
    pub fn answerer_keeping(
        &self,
        spec: &str,
        raw: Option<&Path>,
    ) -> Result<Box<dyn QuestionAnswerer>> {
        if let Some(model) = spec.strip_prefix(CHAT) {
            let client = ChatClient::new(ChatConfig::from_spec(model)?)?;
            let answerer = ChatAnswerer::new(client);
            return Ok(match raw {
                Some(path) => Box::new(answerer.record(JsonLines::append(path)?)),
                None => Box::new(answerer),
            });
        }
        if spec == MINI && !Path::new(spec).exists() {
            let found = self.choose(None, mini::VQA)?;
            return self.open_answerer(Path::new(found.spec()));
        }
        if let Some(file) = spec.strip_prefix(REPLAY) {
            let stored = ReplayAnswerer::open(file).map_err(VqaError::from)?;
            return Ok(Box::new(stored));
        }
        let want = Want::new(ModelKind::QuestionAnswering);
        match spec.strip_prefix(BLIP) {
            Some(spec) => {
                let found = self.resolve(spec, &want)?;
                Ok(Box::new(BlipVqa::load(found.path, self.compute())?))
            }
            None => self.open_answerer(&self.resolve(spec, &want)?.path),
        }
    }

    fn open_answerer(&self, folder: &Path) -> Result<Box<dyn QuestionAnswerer>> {
        let path = folder.join("config.json");
        let ModelType { model_type } = read_config(&path).map_err(VqaError::from)?;
        match model_type.as_str() {
            "blip" => Ok(Box::new(BlipVqa::load(folder, self.compute())?)),
            "mini-vqa" => Ok(Box::new(MiniVqa::load(folder, self.compute())?)),
            _ => Err(Error::NoAnswerer {
                path: folder.to_owned(),
                found: model_type,
            }),
        }
    }

    /// A model that says which sentences are alike, such as `all-mpnet-base-v2`.
    ///
    /// # Errors
    /// When the files cannot be found, read, or do not fit each other.
    pub fn sentence_encoder(&self, spec: &str) -> Result<SentenceEncoder> {
        let found = self.resolve(spec, &Want::new(ModelKind::SentenceEncoder))?;
        Ok(SentenceEncoder::load(found.path, self.compute())?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::fs;

    use image::RgbImage;
    use negkit_hub::{Hub, HubConfig};
    use negkit_nn::Compute;
    use negkit_vqa::{Inquiry, Question};

    use super::*;

    fn models(weights: &Path) -> Models {
        let mut config = HubConfig::new(weights.join("cache"), weights);
        config.offline = true;
        Models::new(Hub::new(config).unwrap(), Compute::cpu())
    }

    fn error(models: &Models, spec: &str) -> String {
        match models.answerer(spec) {
            Ok(_) => panic!("{spec} was opened"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn answerers_are_named_by_kind_and_place() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let models = models(&repository.join("weights"));
        let small = models.answerer("mini").unwrap();
        assert_eq!(small.info().model, "mini-vqa");
        let folder = repository.join("weights/mini/vqa");
        let small = models.answerer(folder.to_str().unwrap()).unwrap();
        assert_eq!(small.info().model, "mini-vqa");

        let chat = models.answerer("chat:a/b@http://127.0.0.1:1/v1").unwrap();
        assert_eq!(
            (chat.info().name, chat.info().model),
            ("a/b".into(), "chat".into())
        );

        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("a.csv");
        fs::write(&file, "picture,question,answer\na,is it day?,yes\n").unwrap();
        let stored = models.answerer(&format!("replay:{}", file.display()));
        let picture = RgbImage::new(1, 1);
        let inquiry = Inquiry {
            picture: &picture,
            key: Some("a"),
            questions: &[Question::yes_no("is it day?")],
        };
        assert_eq!(stored.unwrap().inquire(&inquiry).unwrap()[0].text, "yes");
    }

    #[test]
    fn what_is_no_answerer_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let models = models(scratch.path());
        let folder = scratch.path().join("clip");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("config.json"), r#"{"model_type": "clip"}"#).unwrap();
        let said = error(&models, folder.to_str().unwrap());
        assert!(said.contains("'clip'") && said.contains("'blip'"), "{said}");
        // A name that is known says what is missing where.
        let said = error(&models, "blip-vqa-base");
        assert!(said.contains("preprocessor_config.json"), "{said}");
        let said = error(&models, "blip:blip-vqa-base");
        assert!(said.contains("preprocessor_config.json"), "{said}");
        let said = error(&models, "sd-1.4");
        assert!(said.contains("question answering"), "{said}");
        assert!(error(&models, "chat:llava").contains("MODEL@URL"));
        assert!(error(&models, "replay:none.csv").contains("none.csv"));
        let said = models.sentence_encoder("all-mpnet-base-v2").map(|_| ());
        let said = said.unwrap_err().to_string();
        assert!(said.contains("modules.json"), "{said}");
    }
}

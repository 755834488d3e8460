//! Chat models as writer and verifier.

use std::sync::Arc;

use negkit_captions::{
    CaptionError, CaptionWriter, Exchange, ImageRef, ObjectVerifier, Sighting, SourceCaption,
    Transcript, Verdict,
};
use negkit_chat::{ChatClient, Completion, Message};

use crate::{Prompts, Step, parse};

/// A client with its prompts, and where its exchanges go.
#[derive(Clone)]
struct Asker<'a> {
    client: Arc<ChatClient>,
    prompts: Arc<Prompts>,
    transcript: Option<&'a Transcript>,
}

impl Asker<'_> {
    fn unavailable(&self, reason: String) -> CaptionError {
        CaptionError::Unavailable {
            service: self.client.config().model.clone(),
            reason,
        }
    }

    /// Asks for a step; `picture` is the file of the picture that is asked about.
    fn ask(
        &self,
        step: Step,
        values: &[(&str, &str)],
        picture: Option<(u64, &[u8])>,
    ) -> Result<Completion, CaptionError> {
        let prompt = self.prompts.of(step);
        let prompt =
            prompt.ok_or_else(|| self.unavailable(format!("no prompt {}", step.name())))?;
        let filled = prompt
            .opening(values)
            .and_then(|opening| Ok((opening, prompt.request(values)?)));
        let (mut messages, request) = filled.map_err(|e| self.unavailable(e.to_string()))?;
        messages.push(match picture {
            None => Message::user(request),
            Some((id, bytes)) => {
                let about = Message::about_file(bytes, request);
                about.map_err(|error| CaptionError::Picture {
                    id,
                    reason: error.to_string(),
                })?
            }
        });
        let had = self.client.complete(&messages);
        let had = had.map_err(|error| self.unavailable(error.to_string()))?;
        if let Some(transcript) = self.transcript {
            transcript.add(Exchange {
                step: step.name().to_owned(),
                model: self.client.config().model.clone(),
                prompt_sha256: prompt.sha256().to_owned(),
                request_sha256: had.request.clone(),
                answer: had.text.clone(),
                finish_reason: had.finish_reason.clone(),
                prompt_tokens: had.usage.map(|usage| usage.prompt_tokens),
                completion_tokens: had.usage.map(|usage| usage.completion_tokens),
            });
        }
        Ok(had)
    }
}

/// What can be used of an answer. The rest of one that was cut off could have taken it back.
fn read<T>(
    said: &Completion,
    read: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, CaptionError> {
    let unusable = |expected| CaptionError::UnusableAnswer {
        expected,
        answer: said.text.clone(),
    };
    if said.is_cut_off() {
        return Err(unusable("an answer that is not cut off"));
    }
    read(&said.text).map_err(unusable)
}

/// A language model that writes: P1's first and third step, and P2.
#[derive(Clone)]
pub struct ChatWriter<'a>(Asker<'a>);

impl ChatWriter<'_> {
    /// Writes through `client`, told what `prompts` say. The paper's sampling is a temperature of 0.6
    /// and a `top_p` of 0.9; it is the client's.
    pub fn new(client: Arc<ChatClient>, prompts: Arc<Prompts>) -> Self {
        Self(Asker {
            client,
            prompts,
            transcript: None,
        })
    }

    /// The same, keeping its exchanges.
    pub fn keeping<'t>(&self, transcript: &'t Transcript) -> ChatWriter<'t> {
        ChatWriter(self.0.keeping(transcript))
    }
}

impl Asker<'_> {
    fn keeping<'t>(&self, transcript: &'t Transcript) -> Asker<'t> {
        Asker {
            client: Arc::clone(&self.client),
            prompts: Arc::clone(&self.prompts),
            transcript: Some(transcript),
        }
    }
}

impl CaptionWriter for ChatWriter<'_> {
    fn name_absent_object(&self, caption: &SourceCaption) -> Result<String, CaptionError> {
        let values = [("caption", caption.text.trim())];
        let said = self.0.ask(Step::Object, &values, None)?;
        read(&said, parse::object)
    }

    fn write_absence(&self, caption: &SourceCaption, object: &str) -> Result<String, CaptionError> {
        let values = [("caption", caption.text.trim()), ("object", object)];
        let said = self.0.ask(Step::Absence, &values, None)?;
        read(&said, |text| parse::caption(text, &caption.text))
    }

    fn write_denial(
        &self,
        caption: &SourceCaption,
        question: &str,
    ) -> Result<String, CaptionError> {
        let values = [
            ("caption", caption.text.trim()),
            ("question", question.trim()),
        ];
        let said = self.0.ask(Step::Denial, &values, None)?;
        read(&said, |text| parse::caption(text, &caption.text))
    }
}

/// A model that sees: P1's second step. What is not plainly yes or no is [`Verdict::Unsure`].
#[derive(Clone)]
pub struct ChatVerifier<'a>(Asker<'a>);

impl ChatVerifier<'_> {
    /// Looks through `client`, told what `prompts` say.
    pub fn new(client: Arc<ChatClient>, prompts: Arc<Prompts>) -> Self {
        Self(Asker {
            client,
            prompts,
            transcript: None,
        })
    }

    /// The same, keeping its exchanges.
    pub fn keeping<'t>(&self, transcript: &'t Transcript) -> ChatVerifier<'t> {
        ChatVerifier(self.0.keeping(transcript))
    }
}

impl ObjectVerifier for ChatVerifier<'_> {
    fn is_there(&self, image: &ImageRef, object: &str) -> Result<Verdict, CaptionError> {
        self.look(image, object).map(|sighting| sighting.verdict)
    }

    fn look(&self, image: &ImageRef, object: &str) -> Result<Sighting, CaptionError> {
        let picture = |reason: String| CaptionError::Picture {
            id: image.id,
            reason,
        };
        let Some(file) = &image.file else {
            return Err(picture("no file is known for it".to_owned()));
        };
        let bytes = std::fs::read(file);
        let bytes = bytes.map_err(|error| picture(format!("{}: {error}", file.display())))?;
        let values = [("object", object)];
        let said = self
            .0
            .ask(Step::Verify, &values, Some((image.id, &bytes)))?;
        let unsure = |why: String| Sighting {
            verdict: Verdict::Unsure,
            note: Some(why),
        };
        if said.is_cut_off() {
            return Ok(unsure("the answer was cut off".to_owned()));
        }
        Ok(
            match negkit_chat::parse::choice(&said.text, &["yes", "no"]) {
                Ok(0) => Verdict::Yes.into(),
                Ok(_) => Verdict::No.into(),
                Err(reason) => unsure(format!("{}: {reason}", self.0.client.config().model)),
            },
        )
    }
}

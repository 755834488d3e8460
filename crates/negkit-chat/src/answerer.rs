//! Questions about pictures, put to a chat model.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use image::RgbImage;
use negkit_text::WeightsSource;
use negkit_vqa::{
    Answer, AnswererInfo, Inquiry, Question, QuestionAnswerer, Refusal, RefusalReason, VqaError,
};

use crate::{ChatClient, ChatError, Completion, Message, RawAnswer, Recorder, Role, parse};

const QUESTION: &str = "{question}";
const CHOICES: &str = "{choices}";

/// What is said around a question. `{question}` and `{choices}` are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// Said first, where there is anything to say.
    pub system: Option<String>,
    /// Around a question that is answered in the model's own words.
    pub free: String,
    /// Around a question with choices. Yes and no are filled in as "yes, no", others a line each
    /// with a letter.
    pub choice: String,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            system: None,
            free: format!(
                "{QUESTION}\nLook at the picture and answer in one word or a short phrase, and with \
                 nothing else."
            ),
            choice: format!(
                "{QUESTION}\nLook at the picture and answer with exactly one of these, and with \
                 nothing else:\n{CHOICES}"
            ),
        }
    }
}

impl Templates {
    /// All that is asked in words.
    pub fn prompt(&self, question: &Question<'_>) -> String {
        let Question { text, choices } = question;
        let (template, choices) = match choices {
            [] => (&self.free, String::new()),
            _ if parse::is_yes_no(choices) => (&self.choice, choices.join(", ")),
            _ => {
                let lines = choices.iter().enumerate().map(|(at, choice)| {
                    match parse::letter(at, choices.len()) {
                        Some(letter) => format!("{letter}) {choice}"),
                        None => (*choice).to_owned(),
                    }
                });
                (&self.choice, lines.collect::<Vec<_>>().join("\n"))
            }
        };
        // In pieces, so that nothing within a question is taken for a place to fill in.
        let pieces = template.split(QUESTION);
        let pieces: Vec<String> = pieces.map(|each| each.replace(CHOICES, &choices)).collect();
        pieces.join(text)
    }
}

/// A [`QuestionAnswerer`] that asks a chat model, one request a question, several at a time.
///
/// What the model says is kept by the [`Recorder`] before it is used. What is no answer becomes an
/// [`Answer`] with a [`Refusal`], so that one odd reply neither ends a run nor enters a score; a
/// model that cannot be reached is an error.
pub struct ChatAnswerer {
    client: ChatClient,
    templates: Templates,
    recorder: Option<Box<dyn Recorder>>,
}

impl ChatAnswerer {
    /// Asks through `client`, with the default templates, keeping nothing.
    pub fn new(client: ChatClient) -> Self {
        Self {
            client,
            templates: Templates::default(),
            recorder: None,
        }
    }

    /// Keeps every raw answer.
    pub fn record(mut self, recorder: impl Recorder + 'static) -> Self {
        self.recorder = Some(Box::new(recorder));
        self
    }

    /// Says other words around the questions.
    pub fn templates(mut self, templates: Templates) -> Self {
        self.templates = templates;
        self
    }

    /// The client.
    pub fn client(&self) -> &ChatClient {
        &self.client
    }

    fn ask(
        &self,
        picture: &str,
        key: Option<&str>,
        question: &Question<'_>,
    ) -> Result<Answer, ChatError> {
        let prompt = self.templates.prompt(question);
        let system = self.templates.system.as_ref();
        let mut messages: Vec<Message> = system
            .map(|text| Message::new(Role::System, text))
            .into_iter()
            .collect();
        messages.push(Message::about_url(picture.to_owned(), prompt.clone()));
        let said = self.client.complete(&messages)?;
        let answer = match read(&said, question.choices) {
            Ok(text) => Answer::new(text, None),
            Err(reason) => Answer::refused(Refusal {
                reason,
                raw: said.text.clone(),
            }),
        };
        if let Some(recorder) = &self.recorder {
            let choices = question.choices.iter();
            recorder.record(&RawAnswer {
                picture: key.map(str::to_owned),
                question: question.text.to_owned(),
                choices: choices.map(|choice| (*choice).to_owned()).collect(),
                answer: answer.refusal.is_none().then(|| answer.text.clone()),
                refusal: answer.refusal.clone(),
                raw: said.text,
                finish_reason: said.finish_reason,
                model: self.client.config().model.clone(),
                prompt,
            })?;
        }
        Ok(answer)
    }

    fn failed(&self, error: ChatError) -> VqaError {
        VqaError::Other {
            answerer: self.client.config().model.clone(),
            cause: Box::new(error),
        }
    }
}

/// The answer in what was said: a choice in its own spelling, or a phrase.
fn read(said: &Completion, choices: &[&str]) -> Result<String, RefusalReason> {
    // The rest of an answer that was cut off could have taken it back.
    if said.is_cut_off() {
        return Err(RefusalReason::CutOff);
    }
    if choices.is_empty() {
        return parse::free(&said.text);
    }
    let choice = parse::choice(&said.text, choices)?;
    choices
        .get(choice)
        .map(|choice| (*choice).to_owned())
        .ok_or(RefusalReason::NoChoice)
}

impl QuestionAnswerer for ChatAnswerer {
    fn answer(&self, picture: &RgbImage, questions: &[&str]) -> Result<Vec<Answer>, VqaError> {
        let questions: Vec<Question<'_>> = questions.iter().map(|q| Question::free(q)).collect();
        self.inquire(&Inquiry {
            picture,
            key: None,
            questions: &questions,
        })
    }

    fn inquire(&self, inquiry: &Inquiry<'_>) -> Result<Vec<Answer>, VqaError> {
        let mut answers = self.inquire_batch(std::slice::from_ref(inquiry))?;
        Ok(answers.pop().unwrap_or_default())
    }

    fn inquire_batch(&self, inquiries: &[Inquiry<'_>]) -> Result<Vec<Vec<Answer>>, VqaError> {
        let mut jobs = Vec::new();
        for (at, inquiry) in inquiries.iter().enumerate() {
            for (index, question) in inquiry.questions.iter().enumerate() {
                if question.text.trim().is_empty() {
                    return Err(VqaError::EmptyQuestion { index });
                }
                jobs.push((at, question));
            }
        }
        let mut pictures = Vec::with_capacity(inquiries.len());
        for inquiry in inquiries {
            let format = self.client.config().picture_format;
            pictures.push(match inquiry.questions {
                [] => String::new(),
                _ => Message::encode(inquiry.picture, format).map_err(|e| self.failed(e))?,
            });
        }
        let found = self.work_off(&jobs, &pictures, inquiries);
        let mut answers: Vec<Vec<Answer>> = inquiries.iter().map(|_| Vec::new()).collect();
        for ((at, _), answer) in jobs.iter().zip(found) {
            answers[*at].push(answer.map_err(|e| self.failed(e))?);
        }
        Ok(answers)
    }

    fn info(&self) -> AnswererInfo {
        let config = self.client.config();
        AnswererInfo {
            name: config.model.clone(),
            model: "chat".to_owned(),
            weights: WeightsSource::new(format!("{} at {}", config.model, config.url()), None),
        }
    }
}

impl ChatAnswerer {
    /// Answers in the order of `jobs`. After a failure no further question is begun, and the failure
    /// comes before whatever was left out.
    fn work_off(
        &self,
        jobs: &[(usize, &Question<'_>)],
        pictures: &[String],
        inquiries: &[Inquiry<'_>],
    ) -> Vec<Result<Answer, ChatError>> {
        let slots: Mutex<Vec<Option<Answer>>> = Mutex::new(vec![None; jobs.len()]);
        let failure: Mutex<Option<ChatError>> = Mutex::new(None);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((inquiry, question)) = jobs.get(at) else {
                    return;
                };
                match self.ask(&pictures[*inquiry], inquiries[*inquiry].key, question) {
                    Ok(answer) => {
                        slots.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(answer);
                    }
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(error);
                    }
                }
            }
        };
        let threads = self.client.config().concurrency.min(jobs.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return vec![Err(error)];
        }
        let slots = slots.into_inner().unwrap_or_else(PoisonError::into_inner);
        let answers = slots.into_iter();
        answers
            .map(|each| each.ok_or(ChatError::Unanswered))
            .collect()
    }
}

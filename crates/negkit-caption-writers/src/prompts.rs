//! What a chat model is told, in files that a user can change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior};
use negkit_chat::{Message, Role};
use negkit_digest::sha256;
use serde::Deserialize;
use thiserror::Error;

/// What a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// P1, step 1: a likely object. Filled in: `caption`.
    Object,
    /// P1, step 2: whether it is there. Filled in: `object`.
    Verify,
    /// P1, step 3: its absence in a caption. Filled in: `caption`, `object`.
    Absence,
    /// P2: a "no" in a caption. Filled in: `caption`, `question`.
    Denial,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 4] = [Self::Object, Self::Verify, Self::Absence, Self::Denial];

    /// Its name, and that of its file without `.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Verify => "verify",
            Self::Absence => "absence",
            Self::Denial => "denial",
        }
    }

    /// What its templates fill in.
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Object => &["caption"],
            Self::Verify => &["object"],
            Self::Absence => &["caption", "object"],
            Self::Denial => &["caption", "question"],
        }
    }

    /// The file that is compiled in.
    fn default_text(self) -> &'static str {
        match self {
            Self::Object => include_str!("../data/prompts/object.toml"),
            Self::Verify => include_str!("../data/prompts/verify.toml"),
            Self::Absence => include_str!("../data/prompts/absence.toml"),
            Self::Denial => include_str!("../data/prompts/denial.toml"),
        }
    }
}

/// What is wrong with a prompt.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A file cannot be read or written.
    #[error("cannot access the prompt {}: {cause}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// A file would be overwritten.
    #[error("{} is there already; move it away to have the prompt written anew", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A folder holds none of the prompts.
    #[error(
        "{} holds none of object.toml, verify.toml, absence.toml, denial.toml: expected a folder as \
         `negkit captions prompts` writes it",
        path.display()
    )]
    NoPrompts {
        /// The folder.
        path: PathBuf,
    },
    /// A file does not say what a prompt is.
    #[error("prompt {place}: {reason}")]
    Malformed {
        /// The file, or the step whose prompt is compiled in.
        place: String,
        /// What was expected and found.
        reason: String,
    },
    /// A template cannot be filled in.
    #[error("prompt {place}, {part}: {reason}")]
    Template {
        /// The file, or the step whose prompt is compiled in.
        place: String,
        /// `system`, `user` or an example.
        part: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptFile {
    system: Option<String>,
    user: String,
    #[serde(default)]
    examples: Vec<BTreeMap<String, String>>,
}

/// The prompt of one step: who the model is, worked examples, and what it is asked.
#[derive(Debug, Clone)]
pub struct Prompt {
    place: String,
    system: Option<String>,
    user: String,
    /// What was asked and what was answered, filled in.
    examples: Vec<(String, String)>,
    sha256: String,
}

impl Prompt {
    /// Reads a prompt from the text of its file; `place` is what errors call it.
    ///
    /// # Errors
    /// When it is no prompt, a template does not parse, fills in something that the step has not, or
    /// leaves out something that it has.
    pub fn parse(step: Step, place: &str, text: &str) -> Result<Self, PromptError> {
        let malformed = |reason: String| PromptError::Malformed {
            place: place.to_owned(),
            reason,
        };
        let file: PromptFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start].bytes().filter(|b| *b == b'\n').count()
            });
            malformed(format!("line {line}: {}", error.message()))
        })?;
        let mut prompt = Self {
            place: place.to_owned(),
            system: file.system,
            user: file.user,
            examples: Vec::new(),
            sha256: sha256(text),
        };
        prompt.check_variables(step)?;
        for (index, mut values) in file.examples.into_iter().enumerate() {
            let part = format!("examples[{index}]");
            let wrong = |reason: String| PromptError::Template {
                place: place.to_owned(),
                part: part.clone(),
                reason,
            };
            let answer = values.remove("answer").unwrap_or_default();
            let given: Vec<&str> = values.keys().map(String::as_str).collect();
            if answer.trim().is_empty() || given != step.variables() {
                return Err(wrong(format!(
                    "expected texts for {} and answer, found {}",
                    step.variables().join(", "),
                    given.join(", ")
                )));
            }
            let values: Vec<(&str, &str)> = values
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            let asked = prompt.fill("user", &prompt.user, &values)?;
            prompt.examples.push((asked, answer.trim().to_owned()));
        }
        Ok(prompt)
    }

    fn check_variables(&self, step: Step) -> Result<(), PromptError> {
        let known: BTreeSet<&str> = step.variables().iter().copied().collect();
        let mut used = BTreeSet::new();
        let parts = [
            ("system", self.system.as_deref()),
            ("user", Some(&*self.user)),
        ];
        for (part, template) in parts {
            let Some(template) = template else { continue };
            let wrong = |reason: String| PromptError::Template {
                place: self.place.clone(),
                part: part.to_owned(),
                reason,
            };
            let environment = environment();
            let parsed = environment
                .template_from_str(template)
                .map_err(|error| wrong(error.to_string()))?;
            for variable in parsed.undeclared_variables(false) {
                if !known.contains(variable.as_str()) {
                    return Err(wrong(format!(
                        "expected only {} to be filled in, found {variable}",
                        step.variables().join(" and ")
                    )));
                }
                used.insert(variable);
            }
        }
        match known.iter().find(|name| !used.contains(**name)) {
            None => Ok(()),
            Some(missing) => Err(PromptError::Template {
                place: self.place.clone(),
                part: "user".to_owned(),
                reason: format!(
                    "expected {{{{ {missing} }}}} somewhere, or the model is not told it"
                ),
            }),
        }
    }

    fn fill(
        &self,
        part: &str,
        template: &str,
        values: &[(&str, &str)],
    ) -> Result<String, PromptError> {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let values: BTreeMap<String, String> = values.collect();
        let filled = environment().render_str(template, values);
        let filled = filled.map_err(|error| PromptError::Template {
            place: self.place.clone(),
            part: part.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(filled.trim().to_owned())
    }

    /// SHA-256 of the text that it was read from.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The conversation so far: system and examples.
    pub(crate) fn opening(&self, values: &[(&str, &str)]) -> Result<Vec<Message>, PromptError> {
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(Message::new(
                Role::System,
                self.fill("system", system, values)?,
            ));
        }
        for (asked, answered) in &self.examples {
            messages.push(Message::user(asked));
            messages.push(Message::new(Role::Assistant, answered));
        }
        Ok(messages)
    }

    /// What is asked.
    pub(crate) fn request(&self, values: &[(&str, &str)]) -> Result<String, PromptError> {
        self.fill("user", &self.user, values)
    }
}

fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

/// The prompts of all steps.
#[derive(Debug, Clone)]
pub struct Prompts(BTreeMap<Step, Prompt>);

impl Prompts {
    /// Those that are compiled in.
    ///
    /// # Errors
    /// Never in practice: they are tested.
    pub fn built_in() -> Result<Self, PromptError> {
        let mut all = BTreeMap::new();
        for step in Step::ALL {
            let prompt = Prompt::parse(step, step.name(), step.default_text())?;
            all.insert(step, prompt);
        }
        Ok(Self(all))
    }

    /// Those of a folder; a step that has no file there has the one that is compiled in.
    ///
    /// # Errors
    /// When the folder holds none, or one that is wrong.
    pub fn open(folder: &Path) -> Result<Self, PromptError> {
        let mut all = Self::built_in()?;
        let mut found = false;
        for step in Step::ALL {
            let path = folder.join(format!("{}.toml", step.name()));
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    found = true;
                    let prompt = Prompt::parse(step, &path.display().to_string(), &text)?;
                    all.0.insert(step, prompt);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(PromptError::Access { path, cause }),
            }
        }
        match found {
            true => Ok(all),
            false => Err(PromptError::NoPrompts {
                path: folder.to_owned(),
            }),
        }
    }

    /// Writes those that are compiled in into a folder, to be changed there. No file is overwritten.
    ///
    /// # Errors
    /// When one is there already or cannot be written.
    pub fn write_built_in(folder: &Path) -> Result<Vec<PathBuf>, PromptError> {
        let access = |path: &Path, cause| PromptError::Access {
            path: path.to_owned(),
            cause,
        };
        std::fs::create_dir_all(folder).map_err(|cause| access(folder, cause))?;
        let files = Step::ALL.map(|step| (folder.join(format!("{}.toml", step.name())), step));
        if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
            return Err(PromptError::Exists { path: path.clone() });
        }
        for (path, step) in &files {
            std::fs::write(path, step.default_text()).map_err(|cause| access(path, cause))?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }

    /// The prompt of a step.
    pub fn of(&self, step: Step) -> Option<&Prompt> {
        self.0.get(&step)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn said(messages: &[Message]) -> serde_json::Value {
        serde_json::to_value(messages).unwrap()
    }

    #[test]
    fn the_prompts_that_are_compiled_in_are_whole() {
        let prompts = Prompts::built_in().unwrap();
        let absence = prompts.of(Step::Absence).unwrap();
        let values = [("caption", "a {{ dog }} \"here\""), ("object", "cat")];
        let messages = said(&absence.opening(&values).unwrap());
        // The system's words and two worked examples.
        let roles: Vec<&str> = messages
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["role"].as_str().unwrap())
            .collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
        let asked = absence.request(&values).unwrap();
        // Nothing within a caption is taken for a template.
        assert!(
            asked.starts_with("Caption: a {{ dog }} \"here\"\nNot in the photo: cat\n"),
            "{asked}"
        );
        let verify = prompts.of(Step::Verify).unwrap();
        let asked = verify.request(&[("object", "hot dog")]).unwrap();
        assert!(asked.contains("any hot dog to be seen"), "{asked}");
        assert!(prompts.of(Step::Denial).unwrap().sha256().len() == 64);
    }

    #[test]
    fn a_prompt_that_is_wrong_says_where() {
        let failed = |text: &str, parts: &[&str]| {
            let error = Prompt::parse(Step::Absence, "absence.toml", text).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("prompt absence.toml"), "{text}");
            for part in parts {
                assert!(text.contains(part), "{part} is not in {text}");
            }
        };
        failed("user = 3", &["line 1"]);
        failed("user = 'x'\nusre = 'y'", &["usre"]);
        failed("system = 'x'", &["user"]);
        failed("user = '{{ caption'", &["user"]);
        failed("user = '{{ caption }}'", &["{{ object }}"]);
        failed(
            "user = '{{ caption }} {{ object }} {{ picture }}'",
            &["picture", "caption and object"],
        );
        let good = "user = '{{ caption }} {{ object }}'\n[[examples]]\n";
        failed(
            &format!("{good}caption = 'a'"),
            &["examples[0]", "caption, object and answer"],
        );
        failed(
            &format!("{good}caption = 'a'\nobject = 'b'"),
            &["examples[0]"],
        );
        failed(
            &format!("{good}caption = 'a'\nobject = 'b'\nanswer = 'c'\ncolour = 'd'"),
            &["examples[0]", "colour"],
        );
    }

    #[test]
    fn a_folder_of_prompts_is_written_changed_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts");
        assert_eq!(Prompts::write_built_in(&path).unwrap().len(), 4);
        let same = Prompts::open(&path).unwrap();
        let built_in = Prompts::built_in().unwrap();
        for step in Step::ALL {
            assert_eq!(
                same.of(step).unwrap().sha256(),
                built_in.of(step).unwrap().sha256()
            );
        }
        let error = Prompts::write_built_in(&path).unwrap_err().to_string();
        assert!(error.contains("object.toml is there already"), "{error}");
        std::fs::write(
            path.join("object.toml"),
            "user = 'What else? {{ caption }}'",
        )
        .unwrap();
        std::fs::remove_file(path.join("denial.toml")).unwrap();
        let changed = Prompts::open(&path).unwrap();
        let asked = changed
            .of(Step::Object)
            .unwrap()
            .request(&[("caption", "x")])
            .unwrap();
        assert_eq!(asked, "What else? x");
        assert!(changed.of(Step::Denial).is_some());
        let error = Prompts::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("negkit captions prompts"), "{error}");
    }
}

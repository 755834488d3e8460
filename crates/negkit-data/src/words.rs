//! Which texts hold a negation.

/// Words to look for in texts, whole words and in any case.
///
/// ```
/// use negkit_data::WordList;
///
/// let negations = WordList::default();
/// assert_eq!(negations.found_in("the man with NO hat"), Some("no"));
/// assert_eq!(negations.found_in("the man at the notice board"), None);
/// assert_eq!(WordList::new(["isn't"]).found_in("it isn't 'red'"), Some("isn't"));
/// assert_eq!(WordList::new(["red"]).found_in("it isn't 'red'"), Some("red"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordList(Vec<String>);

impl Default for WordList {
    /// no, not, without: all 440 expressions of NegRefCOCOg hold one of them and no other word of
    /// negation.
    fn default() -> Self {
        Self::new(["no", "not", "without"])
    }
}

impl WordList {
    /// A list of these words.
    pub fn new(words: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let words = words.into_iter();
        Self(words.map(|word| word.as_ref().to_lowercase()).collect())
    }

    /// The words, in lower case.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// The first word of the text that is in the list.
    #[must_use]
    pub fn found_in(&self, text: &str) -> Option<&str> {
        text.split(|c: char| !c.is_alphanumeric() && c != '\'')
            .map(|word| word.trim_matches('\'').to_lowercase())
            .find_map(|word| self.0.iter().find(|listed| **listed == word))
            .map(String::as_str)
    }
}

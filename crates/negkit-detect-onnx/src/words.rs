//! Words, read as classes of a detector.

use std::collections::BTreeMap;

use negkit_captions::names_object;

use crate::DetectError;

/// How a word relates to what a detector can find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It is the class at this index.
    Class(usize),
    /// It is some of that class: where the class is absent, so is it.
    Narrower(usize),
    /// These classes are some of it: where one is there, so is it.
    Broader(Vec<usize>),
}

/// The list of words.
#[derive(Debug, Clone)]
pub struct ClassWords {
    readings: BTreeMap<String, Reading>,
}

impl ClassWords {
    /// The list that is compiled in, for the 80 classes of COCO in the order of `classes`, by either
    /// of their spellings ("tvmonitor" or "tv").
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn coco(classes: &[String]) -> Result<Self, DetectError> {
        Self::parse(include_str!("../data/words.txt"), classes)
    }

    /// Reads lines of `class | the same | narrower` and of `broader: word | classes`, with commas
    /// between words; `#` begins a remark. Lines of classes that the detector does not have are
    /// passed over. The name of a class always means that class, and one without a line is known by
    /// its name alone.
    ///
    /// # Errors
    /// [`DetectError::Words`] for a line that is neither, and a word that is there twice.
    pub fn parse(text: &str, classes: &[String]) -> Result<Self, DetectError> {
        let mut readings = BTreeMap::new();
        let mut class_of_line = BTreeMap::new();
        let mut broader = Vec::new();
        for (index, content) in text.lines().enumerate() {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let wrong = |reason: String| DetectError::Words { line, reason };
            if let Some(rest) = content.strip_prefix("broader:") {
                let Some((word, some)) = rest.split_once('|') else {
                    return Err(wrong("expected a word, | and its classes".to_owned()));
                };
                broader.push((line, word.trim().to_owned(), list(some)));
                continue;
            }
            let fields: Vec<&str> = content.split('|').map(str::trim).collect();
            let [first, same, narrower] = fields[..] else {
                let reason = format!("expected three fields, found {}", fields.len());
                return Err(wrong(reason));
            };
            let mut names = list(same);
            names.insert(0, first.to_owned());
            let Some(class) = classes.iter().position(|class| names.contains(class)) else {
                continue;
            };
            class_of_line.insert(first.to_owned(), class);
            for name in names {
                add(&mut readings, line, name, Reading::Class(class))?;
            }
            for name in list(narrower) {
                add(&mut readings, line, name, Reading::Narrower(class))?;
            }
        }
        for (line, word, some) in broader {
            let known = some.iter().filter_map(|name| class_of_line.get(name));
            let found: Vec<usize> = known.copied().collect();
            if !found.is_empty() {
                add(&mut readings, line, word, Reading::Broader(found))?;
            }
        }
        for (class, name) in classes.iter().enumerate() {
            readings.insert(name.to_lowercase(), Reading::Class(class));
        }
        Ok(Self { readings })
    }

    /// How a word, in the singular or the plural, relates to the classes; `None` where the list does
    /// not say.
    pub fn read(&self, word: &str) -> Option<&Reading> {
        let word = word.trim().to_lowercase();
        if let Some(reading) = self.readings.get(&word) {
            return Some(reading);
        }
        // The plural of a word of the list; of two words that are, both mean the same.
        let singular = self.readings.iter().find(|(known, _)| {
            known.split(' ').count() == word.split_whitespace().count()
                && names_object(&word, known)
        });
        singular.map(|(_, reading)| reading)
    }
}

fn list(text: &str) -> Vec<String> {
    let words = text.split(',').map(|word| word.trim().to_owned());
    words.filter(|word| !word.is_empty()).collect()
}

fn add(
    readings: &mut BTreeMap<String, Reading>,
    line: usize,
    word: String,
    reading: Reading,
) -> Result<(), DetectError> {
    match readings.insert(word.clone(), reading) {
        None => Ok(()),
        Some(_) => Err(DetectError::Words {
            line,
            reason: format!("expected a word of its own, found '{word}' again"),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn classes() -> Vec<String> {
        ["person", "dog", "tvmonitor", "wine glass"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn words_are_classes_narrower_or_broader() {
        let words = ClassWords::coco(&classes()).unwrap();
        for (word, expected) in [
            ("dog", Some(Reading::Class(1))),
            ("Dogs", Some(Reading::Class(1))),
            ("TV", Some(Reading::Class(2))),
            ("televisions", Some(Reading::Class(2))),
            ("people", Some(Reading::Class(0))),
            ("persons", Some(Reading::Class(0))),
            ("woman", Some(Reading::Narrower(0))),
            ("puppies", Some(Reading::Narrower(1))),
            ("wine glasses", Some(Reading::Class(3))),
            ("animal", Some(Reading::Broader(vec![1]))),
            // Spectacles, for all that the list can tell.
            ("glasses", None),
            ("hot dog", None),
            ("tree", None),
            ("", None),
        ] {
            assert_eq!(words.read(word), expected.as_ref(), "{word}");
        }
    }

    #[test]
    fn a_class_is_that_class_whatever_the_list_says() {
        let classes = ["person", "woman", "animal", "gadget"].map(str::to_owned);
        let words = ClassWords::coco(&classes).unwrap();
        for (class, name) in classes.iter().enumerate() {
            assert_eq!(words.read(name), Some(&Reading::Class(class)), "{name}");
        }
        assert_eq!(words.read("man"), Some(&Reading::Narrower(0)));
    }

    #[test]
    fn plurals_in_the_list_agree() {
        let list = include_str!("../data/words.txt");
        let lines = list
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("broader:"));
        let classes: Vec<String> = lines
            .map(|line| line.split('|').next().unwrap().trim().to_owned())
            .collect();
        assert_eq!(classes.len(), 80);
        let words = ClassWords::parse(list, &classes).unwrap();
        for (word, reading) in &words.readings {
            for (other, differently) in &words.readings {
                let same = word.split(' ').count() == other.split(' ').count()
                    && names_object(word, other);
                assert!(!same || reading == differently, "{word}, {other}");
            }
        }
    }

    #[test]
    fn lines_that_are_wrong_are_named() {
        for (text, part) in [
            ("dog | x", "line 1: expected three fields"),
            (
                "\ndog | a | a",
                "line 2: expected a word of its own, found 'a' again",
            ),
            ("broader: animal", "line 1: expected a word, |"),
        ] {
            let said = ClassWords::parse(text, &classes()).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}

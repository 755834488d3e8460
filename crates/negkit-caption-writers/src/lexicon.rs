//! Things that captions name: what rules know instead of a language.

use std::collections::HashMap;

use thiserror::Error;

/// How a thing is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has a singular and a plural.
    Thing,
    /// A person may wear it.
    Worn,
    /// A person may carry it.
    Carried,
    /// It has no number: "no snow".
    Mass,
    /// It has only a plural: "no skis".
    Pair,
    /// A person.
    Person,
    /// An animal.
    Animal,
    /// A setting, which is never said to be absent.
    Place,
}

/// A thing and its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// One of it.
    pub singular: String,
    /// Several of it.
    pub plural: String,
    /// How it is spoken of.
    pub kind: Kind,
    /// Other names, in every form in which they are recognised.
    pub names: Vec<String>,
}

/// A line of a lexicon that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("lexicon, line {line}: {reason}")]
pub struct LexiconError {
    /// The line, from 1.
    pub line: usize,
    /// What was expected and found.
    pub reason: String,
}

/// Things by their names.
#[derive(Debug, Clone)]
pub struct Lexicon {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    most_words: usize,
}

/// The words of a text, in lower case, with where they stand in it.
pub(crate) fn words(text: &str) -> Vec<(usize, String)> {
    let in_word = |c: char| c.is_alphanumeric() || c == '\'' || c == '-';
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, in_word(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push((from, text[from..at].to_lowercase()));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// A thing that a text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Index of the thing.
    pub(crate) entry: usize,
    /// Indices of its first word and of the word after it.
    pub(crate) words: std::ops::Range<usize>,
}

impl Lexicon {
    /// The one that is compiled in.
    ///
    /// # Errors
    /// Never in practice: it is tested.
    pub fn built_in() -> Result<Self, LexiconError> {
        Self::parse(include_str!("../data/lexicon.txt"))
    }

    /// Reads lines of `singular | plural | kind | other names`; `#` begins a remark.
    ///
    /// # Errors
    /// A line that is none of these, or a name that two things have.
    pub fn parse(text: &str) -> Result<Self, LexiconError> {
        let mut lexicon = Self {
            entries: Vec::new(),
            by_name: HashMap::new(),
            most_words: 1,
        };
        for (line, content) in text.lines().enumerate() {
            let wrong = |reason: String| LexiconError {
                line: line + 1,
                reason,
            };
            if content.trim().is_empty() || content.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = content.split('|').map(str::trim).collect();
            let [singular, plural, kind, names] = fields[..] else {
                return Err(wrong(format!(
                    "expected four fields, found {}",
                    fields.len()
                )));
            };
            let kind = match kind {
                "thing" => Kind::Thing,
                "worn" => Kind::Worn,
                "carried" => Kind::Carried,
                "mass" => Kind::Mass,
                "pair" => Kind::Pair,
                "person" => Kind::Person,
                "animal" => Kind::Animal,
                "place" => Kind::Place,
                other => return Err(wrong(format!("expected a kind of thing, found '{other}'"))),
            };
            let names: Vec<String> = names
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect();
            let entry = Entry {
                singular: singular.to_owned(),
                plural: plural.to_owned(),
                kind,
                names,
            };
            lexicon.add(entry).map_err(wrong)?;
        }
        Ok(lexicon)
    }

    fn add(&mut self, entry: Entry) -> Result<(), String> {
        let index = self.entries.len();
        for name in [&entry.singular, &entry.plural]
            .into_iter()
            .chain(&entry.names)
        {
            if name.is_empty() {
                return Err("expected a singular and a plural".to_owned());
            }
            self.most_words = self.most_words.max(name.split_whitespace().count());
            match self.by_name.insert(name.clone(), index) {
                Some(other) if other != index => {
                    let other = &self.entries[other].singular;
                    return Err(format!(
                        "expected a name of its own, found '{name}' of '{other}'"
                    ));
                }
                _ => {}
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// All things.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The thing of that name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let name = name.trim().to_lowercase();
        self.by_name.get(&name).map(|index| &self.entries[*index])
    }

    /// The things that a text names, from left to right; the longest name counts.
    pub(crate) fn named(&self, words: &[(usize, String)]) -> Vec<Named> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let longest = (1..=self.most_words.min(words.len() - at))
                .rev()
                .find_map(|count| {
                    let texts: Vec<&str> = words[at..at + count]
                        .iter()
                        .map(|(_, word)| word.as_str())
                        .collect();
                    let entry = self.by_name.get(&texts.join(" "))?;
                    Some((*entry, count))
                });
            match longest {
                Some((entry, count)) => {
                    found.push(Named {
                        entry,
                        words: at..at + count,
                    });
                    at += count;
                }
                None => at += 1,
            }
        }
        found
    }
}

impl Entry {
    /// "a chair", "an umbrella"; what has no number or only a plural has no article.
    pub(crate) fn one(&self) -> String {
        match self.kind {
            Kind::Mass | Kind::Pair => self.singular.clone(),
            _ => format!("{} {}", article(&self.singular), self.singular),
        }
    }

    /// Whether it is spoken of in the plural.
    pub(crate) fn has_only_plural(&self) -> bool {
        self.kind == Kind::Pair
    }
}

/// "a" or "an", by the first sound as far as letters tell.
pub(crate) fn article(word: &str) -> &'static str {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    let exceptions = ["uni", "use", "eu", "one"];
    match vowel && !exceptions.iter().any(|start| word.starts_with(start)) {
        true => "an",
        false => "a",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_longest_name_counts() {
        let lexicon = Lexicon::built_in().unwrap();
        let names = |text: &str| -> Vec<String> {
            let words = words(text);
            let found = lexicon.named(&words);
            found
                .iter()
                .map(|named| lexicon.entries()[named.entry].singular.clone())
                .collect()
        };
        assert_eq!(names("A hot dog, and two dogs!"), ["hot dog", "dog"]);
        assert_eq!(names("A teddy bear beside a bear"), ["teddy bear", "bear"]);
        assert_eq!(names("Two women at a TV"), ["person", "television"]);
        assert!(names("").is_empty());
        assert_eq!(lexicon.find("Bike").unwrap().singular, "bicycle");
        assert!(lexicon.entries().len() > 130);
    }

    #[test]
    fn lines_that_are_wrong_are_named() {
        for (text, part) in [
            ("a | b | thing", "line 1: expected four fields, found 3"),
            ("\n# x\na | b | think |", "line 3: expected a kind"),
            (
                "a | as | thing | \nb | bs | thing | a",
                "line 2: expected a name of its own",
            ),
            ("a | | thing |", "expected a singular and a plural"),
        ] {
            let said = Lexicon::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn articles_follow_the_sound() {
        let lexicon = Lexicon::built_in().unwrap();
        for (name, expected) in [
            ("umbrella", "an umbrella"),
            ("snow", "snow"),
            ("skis", "skis"),
            ("bench", "a bench"),
        ] {
            assert_eq!(lexicon.find(name).unwrap().one(), expected);
        }
        assert_eq!((article("unicorn"), article("oven")), ("a", "an"));
    }
}

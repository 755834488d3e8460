//! Articles, plurals, numbers and lists.

use crate::catalog::{Colour, Kind};

/// The words with "a" or "an" before them.
pub fn with_article(words: &str) -> String {
    let vowel = words
        .chars()
        .next()
        .is_some_and(|first| matches!(first.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u'));
    format!("{} {words}", if vowel { "an" } else { "a" })
}

/// One of that kind that was not spoken of before: "a chair", "glasses", "the sun".
pub fn indefinite(kind: Kind) -> String {
    match kind {
        Kind::Glasses => "glasses".to_owned(),
        Kind::Sun => "the sun".to_owned(),
        _ => with_article(kind.name()),
    }
}

/// As [`indefinite`], with the colour if there is one: "a red hat".
pub fn indefinite_coloured(kind: Kind, colour: Option<Colour>) -> String {
    match colour {
        Some(colour) if kind == Kind::Glasses => format!("{colour} {kind}"),
        Some(colour) => with_article(&format!("{colour} {kind}")),
        None => indefinite(kind),
    }
}

/// The number in words up to twelve, in digits from there on.
pub fn number_word(number: usize) -> String {
    const WORDS: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    WORDS
        .get(number)
        .map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// "a", "a and b", "a, b and c".
pub fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

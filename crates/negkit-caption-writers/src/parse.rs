//! Reading objects and captions out of what a chat model says, without guessing.

use negkit_chat::parse::plain;

/// Most words of an object.
const MOST_WORDS: usize = 3;

/// Words that are no object, though they look like one.
const NO_OBJECTS: &[&str] = &[
    "sorry",
    "none",
    "nothing",
    "no",
    "yes",
    "unknown",
    "object",
    "unsure",
    "unable",
    "sure",
    "ok",
    "okay",
    "n/a",
    "anything",
    "something",
    "it",
    "i",
    "person's",
    "answer",
    "caption",
    "photo",
    "picture",
    "image",
    "refuse",
    "cannot",
];

/// One object: at most three words, in lower case and without an article.
///
/// # Errors
/// What was expected, where the answer is something else: several lines, a sentence, a list, another
/// script.
pub fn object(said: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "one object in at most three English words";
    let text = plain(said).trim_end_matches(['.', '!']).trim_end();
    if text.contains(['\n', ',', ':', ';', '/', '(']) {
        return Err(EXPECTED);
    }
    let lower = text.to_lowercase();
    let mut words: Vec<&str> = lower.split_whitespace().collect();
    if words.len() > 1 && matches!(words[0], "a" | "an" | "the" | "some") {
        words.remove(0);
    }
    let in_word = |c: char| c.is_ascii_lowercase() || c == '-' || c == '\'';
    let word = |word: &&str| word.chars().all(in_word) && word.contains(char::is_alphabetic);
    let fits = (1..=MOST_WORDS).contains(&words.len())
        && words.iter().all(word)
        && !words.iter().any(|each| NO_OBJECTS.contains(each));
    match fits {
        true => Ok(words.join(" ")),
        false => Err(EXPECTED),
    }
}

/// One caption in one line. Quotes around the whole of it are taken off, unless the original has
/// them too, and a full stop that the original has not.
///
/// # Errors
/// What was expected, where the answer is something else: several lines, markdown, a text that
/// speaks about the caption.
pub fn caption(said: &str, original: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "one caption in one line, and nothing else";
    let original = original.trim();
    let mut text = negkit_chat::parse::after_thinking(said).trim();
    for (open, close) in [
        ("**", "**"),
        ("`", "`"),
        ("\"", "\""),
        ("“", "”"),
        ("*", "*"),
        ("'", "'"),
    ] {
        let inner = text
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner
            && !original.starts_with(open)
        {
            text = inner.trim();
        }
    }
    let markdown = text.starts_with(['#', '-', '*', '>', '|'])
        || text.contains("**")
        || text.contains("```")
        || text.contains('|');
    // "Caption: a dog …" and "Here is the caption: a dog …".
    let speaks_about = text.contains(':') && !original.contains(':');
    if text.is_empty() || text.contains(['\n', '\r']) || markdown || speaks_about {
        return Err(EXPECTED);
    }
    if !original.ends_with('.') {
        text = text.strip_suffix('.').unwrap_or(text).trim_end();
    }
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_is_a_word_or_three() {
        for (said, expected) in [
            ("umbrella", "umbrella"),
            ("Umbrella.", "umbrella"),
            (" **An umbrella** \n", "umbrella"),
            ("\"traffic light\"", "traffic light"),
            ("<think>a hat? no</think>\nT-shirt", "t-shirt"),
            ("baby's high chair", "baby's high chair"),
            ("TV", "tv"),
        ] {
            assert_eq!(object(said).as_deref(), Ok(expected), "{said:?}");
        }
        for said in [
            "",
            " ",
            "...",
            "Sorry",
            "I cannot help with that",
            "umbrella\nhat",
            "umbrella, hat",
            "Object: umbrella",
            "An object that is likely to be seen would be an umbrella",
            "雨伞",
            "зонт",
            "1. umbrella",
            "- umbrella",
            "<think>umbrella",
            "none",
            "12",
        ] {
            assert!(object(said).is_err(), "{said:?}");
        }
    }

    #[test]
    fn a_caption_is_one_line() {
        let original = "a man on a beach";
        let good = "a man on a beach without a hat";
        for said in [
            good,
            "\"a man on a beach without a hat\"",
            "“a man on a beach without a hat.”",
            "**a man on a beach without a hat**\n",
            "<think>hm:\n- no</think> a man on a  beach without a hat.",
        ] {
            assert_eq!(caption(said, original).as_deref(), Ok(good), "{said:?}");
        }
        for said in [
            "",
            "\"\"",
            "Caption: a man on a beach without a hat",
            "Here you are:\na man on a beach without a hat",
            "a man on a beach without a hat\n\nI removed the hat.",
            "- a man on a beach without a hat",
            "# Caption",
            "| a man | no hat |",
            "a man on a **beach** without a hat",
        ] {
            assert!(caption(said, original).is_err(), "{said:?}");
        }
        // What the original has, its new form may have.
        let quoted = "\"Stop\" is on a sign.";
        let said = "\"Stop\" is on a sign with no car.";
        assert_eq!(caption(said, quoted).as_deref(), Ok(said));
        let timed = "a clock that shows 10:30";
        assert!(caption("a clock that shows 10:30 and no bird", timed).is_ok());
    }
}

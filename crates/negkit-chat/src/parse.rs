//! Reading answers out of what a chat model says, without guessing.
//!
//! Markup around an answer (quotes, asterisks, a reasoning model's `<think>…</think>` before it) is
//! left aside, and the case of letters. Beyond that:
//!
//! - Of yes and no the exact word must stand at the start. "No" must be the whole of its clause, for
//!   "no people are there" need not mean no; "yes and no" is neither.
//! - Of other choices the text or the letter must be the whole answer or its first clause, and no
//!   other choice may be named after it.
//! - Without choices, a word or a short phrase is an answer, and a text is not.

use negkit_vqa::RefusalReason;

/// Most words of a free answer: a phrase, not a text.
pub const MOST_WORDS: usize = 12;
/// Choices that have a letter.
const LETTERS: usize = 26;

/// The letter before a choice, where the choices are few enough to have one.
pub fn letter(choice: usize, choices: usize) -> Option<char> {
    let letter = u8::try_from(choice)
        .ok()
        .map(|at| char::from(b'A' + at.min(25)));
    letter.filter(|_| choice < choices && choices <= LETTERS)
}

/// Whether the choices are yes and no.
pub fn is_yes_no(choices: &[&str]) -> bool {
    let is = |word: &str| choices.iter().any(|c| c.trim().eq_ignore_ascii_case(word));
    choices.len() == 2 && is("yes") && is("no")
}

/// The position in `choices` of the one that is meant.
///
/// # Errors
/// Why that cannot be said.
pub fn choice(said: &str, choices: &[&str]) -> Result<usize, RefusalReason> {
    let said = bare(said);
    if said.is_empty() {
        return Err(RefusalReason::Empty);
    }
    if is_yes_no(choices) {
        let word = if yes_or_no(&said)? { "yes" } else { "no" };
        let at = choices
            .iter()
            .position(|c| c.trim().eq_ignore_ascii_case(word));
        return at.ok_or(RefusalReason::NeitherYesNorNo);
    }
    let texts: Vec<String> = choices.iter().map(|choice| bare(choice)).collect();
    let whole = named(&said, &texts);
    if let [one] = whole[..] {
        return Ok(one);
    }
    if whole.len() > 1 {
        return Err(RefusalReason::SeveralChoices);
    }
    let (first, rest) = clause(&said);
    let one = match named(first, &texts)[..] {
        [one] => one,
        [] => return Err(RefusalReason::NoChoice),
        _ => return Err(RefusalReason::SeveralChoices),
    };
    let others = texts.iter().enumerate().filter(|(at, _)| *at != one);
    let mut others = others.map(|(_, text)| text);
    if others.any(|other| holds(rest, other)) {
        return Err(RefusalReason::SeveralChoices);
    }
    Ok(one)
}

/// A free answer: the words without markup and the full stop.
///
/// # Errors
/// When there are none, or more than [`MOST_WORDS`].
pub fn free(said: &str) -> Result<String, RefusalReason> {
    let after = after_thinking(said);
    let text = trim(after).trim_end_matches('.').trim_end();
    match text.split_whitespace().count() {
        0 => Err(RefusalReason::Empty),
        count if count > MOST_WORDS => Err(RefusalReason::TooLong),
        _ => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

/// Lower case, without thoughts and markup around it.
fn bare(said: &str) -> String {
    let text = trim(after_thinking(said)).to_lowercase();
    trim(text.trim_end_matches(['.', '!'])).to_owned()
}

/// What is said, without thoughts and without markup around it.
pub fn plain(said: &str) -> &str {
    trim(after_thinking(said))
}

/// What follows the thoughts of a reasoning model; thoughts that do not end are followed by nothing.
pub fn after_thinking(said: &str) -> &str {
    let said = said.trim();
    match said.strip_prefix("<think>") {
        Some(thoughts) => thoughts.split_once("</think>").map_or("", |(_, rest)| rest),
        None => said,
    }
}

fn trim(text: &str) -> &str {
    let markup =
        |c: char| c.is_whitespace() || matches!(c, '*' | '"' | '\'' | '`' | '“' | '”' | '_');
    text.trim_matches(markup)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .filter(|word| !word.is_empty())
}

fn yes_or_no(said: &str) -> Result<bool, RefusalReason> {
    let mut all = words(said);
    let (first, second, third) = (all.next(), all.next(), all.next());
    let (is_yes, other) = match first {
        Some("yes") => (true, "no"),
        Some("no") => (false, "yes"),
        _ => return Err(RefusalReason::NeitherYesNorNo),
    };
    let and = matches!(second, Some("and" | "or"));
    if second == Some(other) || (and && third == Some(other)) {
        return Err(RefusalReason::SeveralChoices);
    }
    let after = said.strip_prefix("no").unwrap_or_default();
    let goes_on = after
        .strip_prefix([' ', '-'])
        .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_alphanumeric()));
    if !is_yes && goes_on {
        return Err(RefusalReason::NeitherYesNorNo);
    }
    Ok(is_yes)
}

/// The choices that `text` is, by their texts or their letters.
fn named(text: &str, choices: &[String]) -> Vec<usize> {
    let text = trim(text);
    let mut found: Vec<usize> = Vec::new();
    for (at, choice) in choices.iter().enumerate() {
        if text == choice || by_letter(text, at, choice, choices.len()) {
            found.push(at);
        }
    }
    found
}

/// Whether `text` is the letter of a choice, alone, in brackets, or before the choice's own text.
fn by_letter(text: &str, at: usize, choice: &str, choices: usize) -> bool {
    let Some(letter) = letter(at, choices) else {
        return false;
    };
    let text = text.strip_prefix('(').unwrap_or(text);
    let Some(rest) = text.strip_prefix(letter.to_ascii_lowercase()) else {
        return false;
    };
    match rest.strip_prefix([')', '.', ':']) {
        Some(rest) => matches!(trim(rest), "") || trim(rest) == choice,
        None => rest.is_empty(),
    }
}

/// The first clause and what follows it.
fn clause(text: &str) -> (&str, &str) {
    let bracket = usize::from(text.starts_with('('));
    let mut start = text[bracket..].chars();
    let is_letter = start.next().is_some_and(|c| c.is_ascii_lowercase())
        && start.next().is_some_and(|c| matches!(c, ')' | '.' | ':'));
    let after_letter = if is_letter { bracket + 2 } else { 0 };
    let ends = |c: char| matches!(c, ',' | ';' | '\n' | '.' | '!' | '(' | '—');
    match text[after_letter..].find(ends) {
        Some(at) => text.split_at(after_letter + at),
        None => (text, ""),
    }
}

/// Whether `text` holds the words of `other` in a row.
fn holds(text: &str, other: &str) -> bool {
    let text: Vec<&str> = words(text).collect();
    let other: Vec<&str> = words(other).collect();
    !other.is_empty() && text.windows(other.len()).any(|window| window == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use RefusalReason::{Empty, NeitherYesNorNo, NoChoice, SeveralChoices, TooLong};

    #[test]
    fn yes_and_no_are_words_at_the_start() {
        for (said, expected) in [
            ("yes", Ok(0)),
            ("Yes.", Ok(0)),
            ("**No**", Ok(1)),
            ("NO, there is none.", Ok(1)),
            ("No. Yes would be wrong.", Err(SeveralChoices)),
            ("Yes there is a chair", Ok(0)),
            ("\n \"yes\"", Ok(0)),
            ("<think>no, or yes?</think>\n\nNo", Ok(1)),
            ("<think>yes", Err(Empty)),
            ("", Err(Empty)),
            (" ** ", Err(Empty)),
            ("Yes and no.", Err(SeveralChoices)),
            ("yes/no", Err(SeveralChoices)),
            ("No or yes", Err(SeveralChoices)),
            ("No people are there.", Err(NeitherYesNorNo)),
            ("no-one", Err(NeitherYesNorNo)),
            ("None", Err(NeitherYesNorNo)),
            ("Yesterday", Err(NeitherYesNorNo)),
            ("nope", Err(NeitherYesNorNo)),
            ("There is a chair.", Err(NeitherYesNorNo)),
            ("I think yes", Err(NeitherYesNorNo)),
            ("A", Err(NeitherYesNorNo)),
        ] {
            assert_eq!(choice(said, &["yes", "no"]), expected, "{said:?}");
        }
        assert_eq!(choice("no", &["No", "Yes"]), Ok(0));
    }

    #[test]
    fn a_choice_is_named_by_text_or_letter() {
        let choices = ["red", "light blue", "blue", "a dog"];
        for (said, expected) in [
            ("red", Ok(0)),
            ("Red.", Ok(0)),
            ("Light Blue", Ok(1)),
            ("B", Ok(1)),
            ("c)", Ok(2)),
            ("(C) blue", Ok(2)),
            ("A: red", Ok(0)),
            ("D. A dog", Ok(3)),
            ("a dog", Ok(3)),
            ("red, as far as I see", Ok(0)),
            ("Red. The car is red.", Ok(0)),
            ("red, or maybe blue", Err(SeveralChoices)),
            ("A) blue", Err(NoChoice)),
            ("E", Err(NoChoice)),
            ("a cat", Err(NoChoice)),
            ("The car is red", Err(NoChoice)),
            ("reddish", Err(NoChoice)),
            ("yes", Err(NoChoice)),
            ("", Err(Empty)),
        ] {
            assert_eq!(choice(said, &choices), expected, "{said:?}");
        }
        // A letter that is another choice's text says nothing.
        assert_eq!(choice("b", &["b", "a"]), Err(SeveralChoices));
        assert_eq!(choice("2", &["1", "2", "3", "4"]), Ok(1));
        assert_eq!(choice("2.", &["1", "2", "3", "4"]), Ok(1));
    }

    #[test]
    fn a_free_answer_is_a_phrase() {
        assert_eq!(free(" *A red  car.*\n"), Ok("A red car".to_owned()));
        assert_eq!(free("surfer"), Ok("surfer".to_owned()));
        assert_eq!(free(" . "), Err(Empty));
        assert_eq!(free(&"word ".repeat(MOST_WORDS + 1)), Err(TooLong));
        assert!(free(&"word ".repeat(MOST_WORDS)).is_ok());
    }
}

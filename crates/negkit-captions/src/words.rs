//! Words of captions, compared as far as grammar changes them.

/// Words that carry no content: a rewritten caption may drop or change them.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "is", "are", "was", "were", "be", "being", "been", "there", "it", "its",
    "in", "on", "at", "of", "to", "and", "or", "but", "with", "by", "for", "from", "as", "this",
    "that", "these", "those", "some", "any", "has", "have", "having", "had", "do", "does", "did",
    "very", "he", "she", "they", "his", "her", "their", "who", "which", "where", "while",
];

/// Plurals that no ending tells.
const IRREGULAR: &[(&str, &str)] = &[
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("person", "people"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("goose", "geese"),
    ("mouse", "mice"),
    ("ox", "oxen"),
    ("fireman", "firemen"),
    ("policeman", "policemen"),
    ("snowman", "snowmen"),
];

/// A word of a text, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) word: String,
    /// Whether a mark between clauses stands before it.
    pub(crate) breaks: bool,
}

/// The words of a text. Apostrophes belong to a word only within it.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let in_word = |c: char| c.is_alphanumeric() || c == '\'' || c == '’';
    let mut tokens: Vec<Token> = Vec::new();
    let mut breaks = false;
    let mut rest = text;
    while let Some(start) = rest.find(in_word) {
        breaks |= rest[..start].contains([',', ';', ':', '.', '!', '?', '(', ')', '—', '–']);
        let word = &rest[start..];
        let end = word.find(|c| !in_word(c)).unwrap_or(word.len());
        let bare = word[..end].replace('’', "'").to_lowercase();
        let bare = bare.trim_matches('\'');
        if !bare.is_empty() {
            tokens.push(Token {
                word: bare.to_owned(),
                breaks,
            });
            breaks = false;
        }
        rest = &word[end..];
    }
    tokens
}

/// Whether the word says something of the picture.
pub(crate) fn is_content(word: &str) -> bool {
    !FUNCTION_WORDS.contains(&word)
}

/// Whether two words are the same but for a plural's ending.
pub(crate) fn same_word(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let regular = matches!(long.strip_prefix(short), Some("" | "s" | "es"));
    // city, cities; knife, knives; shelf, shelves.
    let changed = [("y", "ies"), ("fe", "ves"), ("f", "ves")];
    let changed = changed.iter().any(|(one, several)| {
        let stems = short.strip_suffix(one).zip(long.strip_suffix(several));
        stems.is_some_and(|(short, long)| short == long && !short.is_empty())
    });
    regular || changed || IRREGULAR.contains(&(a, b)) || IRREGULAR.contains(&(b, a))
}

/// Whether two words are forms of one: a plural, or a verb's "-ing" and "-s".
pub(crate) fn same_stem(a: &str, b: &str) -> bool {
    let stem = |word: &str| {
        let stem = word.strip_suffix("ing").filter(|stem| stem.len() > 2);
        let stem = stem.unwrap_or(word);
        // riding, ride; sitting, sit.
        let stem = stem.strip_suffix('e').unwrap_or(stem);
        let mut letters = stem.chars().rev();
        let doubled = letters
            .next()
            .is_some_and(|last| letters.next() == Some(last));
        stem[..stem.len() - usize::from(doubled && stem.is_ascii())].to_owned()
    };
    same_word(a, b) || same_word(&stem(a), &stem(b))
}

/// Where the words of `object` stand in a row, in the singular or the plural.
pub(crate) fn places(tokens: &[Token], object: &str) -> Vec<std::ops::Range<usize>> {
    let wanted = self::tokens(object);
    if wanted.is_empty() || wanted.len() > tokens.len() {
        return Vec::new();
    }
    let fits = |window: &[Token]| {
        let pairs = window.iter().zip(&wanted);
        pairs.clone().all(|(a, b)| same_word(&a.word, &b.word))
            && window[1..].iter().all(|token| !token.breaks)
    };
    let windows = tokens.windows(wanted.len()).enumerate();
    windows
        .filter(|(_, window)| fits(window))
        .map(|(at, _)| at..at + wanted.len())
        .collect()
}

/// Whether the text names the object, in the singular or the plural.
pub fn names_object(text: &str, object: &str) -> bool {
    !places(&tokens(text), object).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_are_the_same_word() {
        for (one, several) in [
            ("bench", "benches"),
            ("knife", "knives"),
            ("shelf", "shelves"),
            ("city", "cities"),
            ("mouse", "mice"),
            ("person", "people"),
            ("tie", "ties"),
        ] {
            assert!(same_word(one, several) && same_word(several, one), "{one}");
        }
        for (a, b) in [("car", "cart"), ("bus", "bush"), ("cup", "cupid")] {
            assert!(!same_word(a, b), "{a} {b}");
        }
        assert!(same_stem("wear", "wearing") && same_stem("ride", "riding"));
        assert!(same_stem("sit", "sitting") && !same_stem("sing", "sit"));
    }

    #[test]
    fn an_object_is_named_by_its_words_in_a_row() {
        assert!(names_object("two Tennis Rackets", "tennis racket"));
        assert!(names_object("a sign that says 'hat'", "hat"));
        assert!(!names_object("tennis, racket", "tennis racket"));
        assert!(!names_object("a hot dog", ""));
        assert!(!names_object("", "hat"));
    }
}

//! What holds for the ids of any text whatever, and for any damage to a tokenizer's files.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use negkit_text::tokenizer::{ClipTokenizer, TokenBatch};
use proptest::prelude::*;

const BOS: u32 = 49406;
const EOS: u32 = 49407;
/// Unlike eos, so that the rows show where padding begins.
const PAD: u32 = 0;

fn tokenizer() -> &'static ClipTokenizer {
    static TOKENIZER: OnceLock<ClipTokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| ClipTokenizer::built_in().unwrap().with_pad_id(PAD).unwrap())
}

/// Any characters, mixed with the texts that a tokenizer treats specially.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "<|startoftext|>",
        "<|endoftext|>",
        "<|ENDOFTEXT|>",
        "</w>",
        "'s",
        " ",
        "\u{301}",
        "é",
        "👩‍🚀",
        "cat",
    ]);
    let piece = prop_oneof![
        3 => any::<String>(),
        2 => special.prop_map(str::to_owned),
        1 => "[ -~]{0,40}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn check_row(batch: &TokenBatch, i: usize, context_length: usize) -> Result<(), TestCaseError> {
    let row = &batch.ids[i];
    let kept = batch.token_count[i].min(context_length - 2);
    prop_assert_eq!(row.len(), context_length);
    prop_assert_eq!(row[0], BOS);
    prop_assert_eq!(row[kept + 1], EOS);
    prop_assert!(row[kept + 2..].iter().all(|id| *id == PAD));
    prop_assert_eq!(
        row.iter().position(|id| *id == EOS),
        Some(batch.eot_positions[i])
    );
    prop_assert_eq!(
        batch.truncated[i],
        batch.token_count[i] > context_length - 2
    );
    prop_assert_eq!(batch.removed_text[i].is_some(), batch.truncated[i]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_row_is_framed(
        texts in prop::collection::vec(text(), 0..4),
        context_length in 2_usize..90,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = tokenizer().encode(&texts, context_length).unwrap();
        prop_assert_eq!(batch.ids.len(), texts.len());
        for i in 0..texts.len() {
            check_row(&batch, i, context_length)?;
        }
    }

    #[test]
    fn a_longer_context_only_adds_tokens(text in text(), short in 2_usize..40, more in 0_usize..40) {
        let cut = tokenizer().encode(&[&text], short).unwrap();
        let longer = tokenizer().encode(&[&text], short + more).unwrap();
        let kept = cut.token_count[0].min(short - 2);
        prop_assert_eq!(&cut.ids[0][..=kept], &longer.ids[0][..=kept]);
        prop_assert_eq!(cut.token_count, longer.token_count);
    }

    #[test]
    fn ids_decode_to_text_with_the_same_ids(words in prop::collection::vec("[a-z]{1,12}|[0-9]", 0..12)) {
        let text = words.join(" ");
        let batch = tokenizer().encode(&[&text], 200).unwrap();
        let kept = batch.token_count[0];
        let decoded = tokenizer().decode(&batch.ids[0][1..=kept], false).unwrap();
        prop_assert_eq!(decoded, text);
    }

    #[test]
    fn damaged_files_are_errors_or_tokenizers(
        which in prop::sample::select(vec!["tokenizer.json", "tokenizer_config.json"]),
        at in any::<prop::sample::Index>(),
        length in 0_usize..12,
        noise in prop_oneof![Just(String::new()), "[ -~]{1,3}", Just("null".to_owned()), Just("-1".to_owned())],
    ) {
        let small = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../eval/parity/fixtures/tokenizer/small");
        let folder = tempfile::tempdir().unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            let mut content = fs::read_to_string(small.join(name)).unwrap();
            if name == which {
                let start = at.index(content.len());
                let end = (start + length).min(content.len());
                if content.is_char_boundary(start) && content.is_char_boundary(end) {
                    content.replace_range(start..end, &noise);
                }
            }
            fs::write(folder.path().join(name), content).unwrap();
        }
        if let Ok(tokenizer) = ClipTokenizer::from_folder(folder.path()) {
            let batch = tokenizer.encode(&["no dog, not a CAT é"], 16);
            if let Ok(batch) = batch {
                prop_assert_eq!(batch.ids[0].len(), 16);
                prop_assert_eq!(batch.ids[0][0], tokenizer.info().bos.id);
                prop_assert_eq!(batch.ids[0][batch.eot_positions[0]], tokenizer.info().eos.id);
            }
        }
    }
}

//! CLIP's normalizer, pre-tokenizer and decoder around a vocabulary.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{
    Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern,
};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::vocabulary::{END_OF_WORD, Vocabulary};

/// What CLIP takes for one word: a marker, an English contraction, a run of letters, a single
/// digit, or a run of anything else that is not white space.
const WORD: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The pipeline of `transformers.CLIPTokenizer` (`models/clip/tokenization_clip.py`): NFC,
/// collapsed white space and lower case; words by [`WORD`], then GPT-2's byte-level split; BPE
/// with `</w>` at the end of a word.
///
/// bos and eos are not part of it: [`ClipTokenizer`](super::ClipTokenizer) sets them when it cuts
/// a text to the context length.
pub(super) fn clip_pipeline(
    vocabulary: &Vocabulary,
    unk_token: &str,
) -> tokenizers::Result<Tokenizer> {
    let tokens: Vocab = vocabulary
        .tokens
        .iter()
        .map(|(token, id)| (token.clone(), *id))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(tokens, vocabulary.merges.clone())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(END_OF_WORD.to_owned())
        .unk_token(unk_token.to_owned())
        .fuse_unk(false)
        .build()?;
    let collapse = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let words = Split::new(
        SplitPattern::Regex(WORD.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )?;
    let bytes = ByteLevel::default().add_prefix_space(false);

    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        NFC.into(),
        collapse.into(),
        Lowercase.into(),
    ])))?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

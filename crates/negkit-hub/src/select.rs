//! Choosing, from the files that a repository or folder has, the ones that are needed.

use crate::error::Error;
use crate::location::has_weight_ending;
use crate::table::{Alternative, FileGroup, KnownModel, Table};
use crate::want::{ClipSize, Variant, Want, alphanumeric};

const INDEX_ENDING: &str = ".index.json";

/// The files of `listing` that `want` needs of a known model, or of a repository that is matched
/// with the table's layouts. `place` names it in errors.
///
/// # Errors
/// [`Error::Kind`], [`Error::FilesMissing`] or [`Error::Ambiguous`].
pub(crate) fn select(
    table: &Table,
    model: Option<&KnownModel>,
    place: &str,
    listing: &[String],
    want: &Want,
) -> Result<Vec<String>, Error> {
    if let Some(model) = model {
        return from_groups(&model.files, place, listing, want);
    }
    let layout = table.layouts.iter().find(|layout| {
        listing.contains(&layout.marker)
            && layout.files.iter().any(|g| g.kinds.contains(&want.kind))
    });
    match layout {
        Some(layout) => {
            let place = format!("{place} ({})", layout.what);
            from_groups(&layout.files, &place, listing, want)
        }
        None => single_weight_file(place, listing, want),
    }
}

fn from_groups(
    groups: &[FileGroup],
    place: &str,
    listing: &[String],
    want: &Want,
) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    let mut missing = Vec::new();
    let mut hint = String::new();
    for group in groups.iter().filter(|g| g.kinds.contains(&want.kind)) {
        let found = in_order(group, want.variant).find_map(|alt| match_all(alt, listing));
        match found {
            Some(found) => files.extend(found),
            None if group.optional => {}
            None => {
                if group
                    .any_of
                    .iter()
                    .any(|alt| match_all(alt, listing).is_some())
                {
                    hint = ". Half-precision files are there: ask for the fp16 variant".to_owned();
                }
                missing.push(describe(group, want.variant));
            }
        }
    }
    if missing.is_empty() {
        return Ok(files);
    }
    Err(Error::FilesMissing {
        place: place.to_owned(),
        wanted: want.kind,
        missing,
        hint,
    })
}

/// The alternatives that satisfy `variant`, best first.
pub(crate) fn in_order(group: &FileGroup, variant: Variant) -> impl Iterator<Item = &Alternative> {
    let of = move |wanted: Variant| group.any_of.iter().filter(move |alt| alt.variant == wanted);
    let half = (variant == Variant::Fp16).then(|| of(Variant::Fp16));
    half.into_iter().flatten().chain(of(Variant::Full))
}

fn describe(group: &FileGroup, variant: Variant) -> String {
    let names: Vec<String> = in_order(group, variant)
        .map(|alt| alt.files.join(" + "))
        .collect();
    format!("{} ({})", names.join(" or "), group.what)
}

/// The listed files of an alternative; `None` unless all of them are there.
fn match_all(alternative: &Alternative, listing: &[String]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for name in &alternative.files {
        let listed = match listing.iter().find(|listed| *listed == name) {
            Some(listed) => listed,
            None if alternative.verified => return None,
            None => only(
                listing
                    .iter()
                    .filter(|listed| alphanumeric(listed) == alphanumeric(name)),
            )?,
        };
        found.push(listed.clone());
        if let Some(stem) = listed.strip_suffix(INDEX_ENDING) {
            found.extend(shards(stem, listing)?);
        }
    }
    Some(found)
}

/// The parts `model-00001-of-00002.safetensors` … of `model.safetensors`; `None` unless complete.
fn shards(whole: &str, listing: &[String]) -> Option<Vec<String>> {
    let (stem, ending) = whole.rsplit_once('.')?;
    let number = |listed: &str| -> Option<(u32, u32)> {
        let rest = listed.strip_prefix(stem)?.strip_prefix('-')?;
        let (part, total) = rest
            .strip_suffix(ending)?
            .strip_suffix('.')?
            .split_once("-of-")?;
        Some((part.parse().ok()?, total.parse().ok()?))
    };
    let mut parts: Vec<(u32, u32, &String)> = listing
        .iter()
        .filter_map(|listed| number(listed).map(|(part, total)| (part, total, listed)))
        .collect();
    parts.sort();
    let complete = parts
        .iter()
        .enumerate()
        .all(|(at, (part, total, _))| *part as usize == at + 1 && *total as usize == parts.len());
    (complete && !parts.is_empty()).then(|| {
        parts
            .into_iter()
            .map(|(_, _, listed)| listed.clone())
            .collect()
    })
}

/// A repository of a bare checkpoint: its only weight file, or the only one of the wanted size.
fn single_weight_file(place: &str, listing: &[String], want: &Want) -> Result<Vec<String>, Error> {
    let weights: Vec<&String> = listing.iter().filter(|f| has_weight_ending(f)).collect();
    let of_size = |size: ClipSize| {
        let tag = alphanumeric(size.suffix());
        let tag = tag.trim_end_matches("px").to_owned();
        weights.iter().copied().filter(move |file| {
            let name = alphanumeric(file);
            // ViT-L-14 is the beginning of ViT-L-14-336px.
            name.contains(&tag) && (size == ClipSize::VitL14At336 || !name.contains("vitl14336"))
        })
    };
    let chosen = only(weights.iter().copied()).or_else(|| want.size.and_then(|s| only(of_size(s))));
    match chosen {
        Some(file) => Ok(vec![file.clone()]),
        None if weights.is_empty() => Err(Error::FilesMissing {
            place: place.to_owned(),
            wanted: want.kind,
            missing: vec!["model_index.json, config.json or a weight file".to_owned()],
            hint: String::new(),
        }),
        None => Err(Error::Ambiguous {
            place: place.to_owned(),
            wanted: want.kind,
            candidates: weights.into_iter().cloned().collect(),
        }),
    }
}

fn only<'a>(mut files: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let first = files.next()?;
    files.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::want::ModelKind;

    fn listing(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn choose(names: &[&str], want: Want) -> Result<Vec<String>, Error> {
        select(
            &Table::embedded().unwrap(),
            None,
            "a/b",
            &listing(names),
            &want,
        )
    }

    const CLIP: [&str; 8] = [
        "config.json",
        "flax_model.msgpack",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "tokenizer.json",
        "vocab.json",
    ];

    #[test]
    fn one_weight_file_and_one_tokenizer_are_enough() {
        assert_eq!(
            choose(&CLIP, Want::new(ModelKind::TextEncoder)).unwrap(),
            [
                "config.json",
                "model.safetensors",
                "vocab.json",
                "merges.txt"
            ]
        );
        assert_eq!(
            choose(&CLIP, Want::new(ModelKind::Clip)).unwrap(),
            [
                "config.json",
                "model.safetensors",
                "vocab.json",
                "merges.txt",
                "preprocessor_config.json"
            ]
        );
        let without_safetensors: Vec<&str> = CLIP
            .into_iter()
            .filter(|f| *f != "model.safetensors")
            .collect();
        let files = choose(&without_safetensors, Want::new(ModelKind::TextEncoder)).unwrap();
        assert!(files.contains(&"pytorch_model.bin".to_owned()));
    }

    #[test]
    fn a_text_encoder_is_taken_out_of_a_pipeline() {
        let names = [
            "model_index.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "text_encoder/model.fp16.safetensors",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
        ];
        let want = Want::new(ModelKind::TextEncoder);
        assert_eq!(
            choose(&names, want).unwrap(),
            [
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "tokenizer/vocab.json",
                "tokenizer/merges.txt"
            ]
        );
        assert_eq!(
            choose(&names, want.fp16()).unwrap()[1],
            "text_encoder/model.fp16.safetensors"
        );
        let err = choose(&names, Want::new(ModelKind::Diffusion))
            .unwrap_err()
            .to_string();
        assert!(err.contains("scheduler/scheduler_config.json"), "{err}");
        assert!(err.contains("vae/config.json"), "all of it at once: {err}");
    }

    #[test]
    fn full_precision_is_never_replaced_by_half() {
        let names = ["config.json", "model.fp16.safetensors", "tokenizer.json"];
        let want = Want::new(ModelKind::TextEncoder);
        let err = choose(&names, want).unwrap_err().to_string();
        assert!(err.contains("ask for the fp16 variant"), "{err}");
        assert_eq!(
            choose(&names, want.fp16()).unwrap()[1],
            "model.fp16.safetensors"
        );
        // The other way round the full files do.
        assert_eq!(choose(&CLIP, want.fp16()).unwrap()[1], "model.safetensors");
    }

    #[test]
    fn shards_come_with_their_index_and_only_complete() {
        let mut names = vec![
            "config.json",
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        let want = Want::new(ModelKind::TextEncoder);
        assert_eq!(
            choose(&names, want).unwrap()[1..4],
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors"
            ]
        );
        names.remove(1);
        assert!(matches!(
            choose(&names, want),
            Err(Error::FilesMissing { .. })
        ));
    }

    #[test]
    fn bare_checkpoints_are_told_apart_by_size() {
        let want = Want::new(ModelKind::TextEncoder);
        assert_eq!(choose(&["README.md", "w.pth"], want).unwrap(), ["w.pth"]);
        let names = ["x_ViT-B32.pth", "x_ViT-L14.pth", "x_ViT-L14@336px.pth"];
        let err = choose(&names, want).unwrap_err().to_string();
        assert!(
            err.contains("owner/name:FILE") && err.contains("x_ViT-L14.pth"),
            "{err}"
        );
        let of = |size| choose(&names, want.size(size)).unwrap();
        assert_eq!(of(ClipSize::VitL14), ["x_ViT-L14.pth"]);
        assert_eq!(of(ClipSize::VitL14At336), ["x_ViT-L14@336px.pth"]);
        assert!(choose(&names, want.size(ClipSize::VitB16)).is_err());
        assert!(matches!(
            choose(&["README.md"], want),
            Err(Error::FilesMissing { .. })
        ));
    }

    #[test]
    fn an_unverified_name_is_matched_by_letters_and_digits() {
        let table = Table::embedded().unwrap();
        let model = table
            .find("negationclip", Some(ClipSize::VitL14At336), None)
            .unwrap();
        let names = listing(&[
            "negationclip_ViT-L14.pth",
            "negationclip_ViT-L14@336px.pth",
            "negationclip_ViT-B32.pth",
        ]);
        let want = Want::new(ModelKind::TextEncoder);
        assert_eq!(
            select(&table, Some(model), "x", &names, &want).unwrap(),
            ["negationclip_ViT-L14@336px.pth"]
        );
    }
}

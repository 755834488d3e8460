//! The table of known models against itself and against what `weights/README.md` tells a user.

use std::collections::BTreeSet;

use negkit_hub::{ClipSize, Location, ModelKind, Table, Variant};

const README: &str = include_str!("../../../../weights/README.md");

/// The README's section on one model: from its heading to the next of the same or a higher level.
fn section(heading: &str) -> &'static str {
    let start = README
        .find(&format!("\n### {heading}\n"))
        .unwrap_or_else(|| panic!("weights/README.md has no heading `### {heading}`"));
    let rest = &README[start + 1..];
    let end = ["\n### ", "\n## "]
        .iter()
        .filter_map(|h| rest.find(h))
        .min();
    &rest[..end.unwrap_or(rest.len())]
}

#[test]
fn the_readme_tells_everything_that_the_table_holds() {
    for model in &Table::embedded().unwrap().models {
        let text = section(&model.name);
        let mut facts = vec![
            model.licence.name.clone(),
            model.licence.url.clone(),
            model.source.clone(),
            format!("`{}/", model.folder),
        ];
        facts.extend(model.id.iter().map(|id| format!("`{id}`")));
        facts.extend(model.size.iter().map(|size| format!("`{}`", size.suffix())));
        facts.extend(model.revision.iter().map(|r| format!("`{r}`")));
        facts.extend(model.commit.iter().cloned());
        for alternative in model.files.iter().flat_map(|group| &group.any_of) {
            facts.extend(alternative.files.iter().map(|file| format!("`{file}`")));
            if let Some(bytes) = alternative.bytes.filter(|bytes| *bytes >= 100_000_000) {
                facts.push(match bytes {
                    1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
                    _ => format!("{} MB", bytes / 1_000_000),
                });
            }
            if !alternative.verified {
                facts.push("not verified".to_owned());
            }
        }
        if model.commit.is_none() && model.id.is_some() {
            facts.push("not pinned".to_owned());
        }
        if !model.licence.verified {
            facts.push("not verified".to_owned());
        }
        for fact in facts {
            assert!(
                text.contains(&fact),
                "the section on {} lacks {fact:?}",
                model.label()
            );
        }
    }
}

#[test]
fn the_readme_has_no_model_that_the_table_lacks() {
    let table = Table::embedded().unwrap();
    let headings: BTreeSet<&str> = README
        .lines()
        .filter_map(|l| l.strip_prefix("### "))
        .collect();
    assert_eq!(headings, table.names().into_iter().collect());
}

#[test]
fn every_entry_can_be_named_and_used() {
    let table = Table::embedded().unwrap();
    for model in &table.models {
        let location = Location::parse(&model.label()).unwrap();
        let Location::Known { name, size, .. } = location else {
            panic!("{}", model.label());
        };
        assert_eq!(
            table.find(&name, size, None).unwrap().label(),
            model.label()
        );
        assert!(!model.kinds().is_empty());
        // Nothing invented: a commit is either absent or one.
        assert!(model.commit.as_deref().is_none_or(|c| c.len() == 40));
        assert_eq!(model.id.is_some(), model.revision.is_some());
        for group in &model.files {
            // Full precision is always to be had, and its preferred file is the safe format.
            let full = group.any_of.iter().filter(|a| a.variant == Variant::Full);
            let names: Vec<&String> = full.flat_map(|a| &a.files).collect();
            assert!(!names.is_empty(), "{}: {}", model.label(), group.what);
            if let Some(at) = names.iter().position(|n| n.ends_with(".safetensors")) {
                assert_eq!(at, 0);
            }
        }
    }
}

#[test]
fn the_engines_find_the_sizes_they_are_built_for() {
    let table = Table::embedded().unwrap();
    for name in ["stock", "negationclip", "con-clip"] {
        for size in [ClipSize::VitB32, ClipSize::VitB16, ClipSize::VitL14] {
            let model = table.find(name, None, Some(size)).unwrap();
            assert_eq!(model.size, Some(size));
            assert!(model.kinds().contains(&ModelKind::TextEncoder));
        }
    }
    for (name, kind) in [
        ("sd-1.4", ModelKind::Diffusion),
        ("sd-1.5", ModelKind::Diffusion),
        ("clipseg-rd64", ModelKind::ClipSeg),
        ("clipseg-rd64-refined", ModelKind::ClipSeg),
        ("clipseg-rd16", ModelKind::ClipSeg),
    ] {
        // An engine's preference does not get in the way of a model without sizes.
        let model = table.find(name, None, Some(ClipSize::VitB16)).unwrap();
        assert!(model.kinds().contains(&kind));
        // A size that a user wrote does.
        assert!(table.find(name, Some(ClipSize::VitB16), None).is_err());
    }
    assert!(
        table
            .find("con-clip", Some(ClipSize::VitL14At336), None)
            .is_err()
    );
    assert!(table.find("stock", None, None).is_err());
}

//! From files to vectors: with the small CLIP of weights/mini, through the cache.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use negkit_benchmarks::{
    EmbeddingCache, ImageTower, PictureInput, TextTower, embed_pictures, embed_texts,
};
use negkit_nn::Compute;
use negkit_text::ClipFiles;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The small CLIP, both towers.
fn mini() -> PathBuf {
    repository("weights/mini/clip")
}

fn files() -> ClipFiles {
    ClipFiles::open(mini()).unwrap()
}

fn save(path: &Path, seed: u32) {
    let picture = RgbImage::from_fn(40, 30, |x, y| {
        Rgb([
            (x * 6 + seed) as u8,
            (y * 8) as u8,
            ((x * y + 3 * seed) % 256) as u8,
        ])
    });
    picture.save(path).unwrap();
}

fn whole(path: PathBuf) -> PictureInput {
    PictureInput { path, bbox: None }
}

#[test]
fn a_second_run_finds_every_picture_and_a_changed_one_is_encoded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tower = ImageTower::from_files(&files(), &Compute::cpu()).unwrap();
    for seed in 0..5 {
        save(&at(&format!("{seed}.png")), seed);
    }
    fs::write(at("broken.png"), b"no picture").unwrap();
    let mut pictures: Vec<PictureInput> = (0..5).map(|n| whole(at(&format!("{n}.png")))).collect();
    pictures.push(PictureInput {
        path: at("0.png"),
        bbox: Some([2.5, 3.4, 20., 20.]),
    });
    pictures.insert(2, whole(at("missing.png")));
    pictures.push(whole(at("broken.png")));
    // Outside of the picture's right edge and turned over: no crop.
    pictures.push(PictureInput {
        path: at("1.png"),
        bbox: Some([5., 5., -3., 4.]),
    });
    let cache = EmbeddingCache::new(at("cache"));
    let mut done = 0;
    let first = embed_pictures(&tower, &pictures, Some(&cache), 4, &mut |count| {
        done += count
    })
    .unwrap();
    assert_eq!(done, pictures.len());
    assert_eq!((first.tally.cached, first.tally.encoded), (0, 6));
    let named: Vec<(String, &str)> = first
        .problems
        .iter()
        .map(|one| {
            let name = Path::new(&one.picture).file_name().unwrap();
            let problem = one.problem.split(':').next().unwrap();
            (name.to_string_lossy().into_owned(), problem)
        })
        .collect();
    assert_eq!(named.len(), 3, "{named:?}");
    assert_eq!(named[0], ("missing.png".to_owned(), "missing"));
    assert_eq!(
        (named[1].0.as_str(), named[2].0.as_str()),
        ("broken.png", "1.png")
    );
    assert!(first.vectors.get(2).is_none() && first.vectors.get(7).is_none());
    // The crop is another picture.
    assert_ne!(first.vectors.get(0), first.vectors.get(6));

    let again = embed_pictures(&tower, &pictures, Some(&cache), 3, &mut |_| {}).unwrap();
    assert_eq!((again.tally.cached, again.tally.encoded), (6, 0));
    assert_eq!(again.vectors, first.vectors);
    assert_eq!(again.problems, first.problems);

    // A file that moves is the same picture; one that changes is another.
    fs::rename(at("3.png"), at("moved.png")).unwrap();
    pictures[4].path = at("moved.png");
    save(&at("4.png"), 90);
    let changed = embed_pictures(&tower, &pictures, Some(&cache), 64, &mut |_| {}).unwrap();
    assert_eq!((changed.tally.cached, changed.tally.encoded), (5, 1));
    assert_ne!(changed.vectors.get(5), first.vectors.get(5));

    // Without a cache the same vectors come out, whatever the batches: the lengths agree to rounding.
    let fresh = embed_pictures(&tower, &pictures, None, 1, &mut |_| {}).unwrap();
    assert_eq!(fresh.tally.cached, 0);
    for place in 0..pictures.len() {
        let (a, b) = (fresh.vectors.get(place), changed.vectors.get(place));
        assert_eq!(a.is_some(), b.is_some());
        for (x, y) in a.into_iter().flatten().zip(b.into_iter().flatten()) {
            // A sum of a few hundred f32 may be rounded otherwise in another batch.
            assert!((x - y).abs() < 1e-6, "{x}, {y}");
        }
    }
}

#[test]
fn texts_are_kept_by_tower() {
    let folder = tempfile::tempdir().unwrap();
    let cache = EmbeddingCache::new(folder.path());
    let compute = Compute::cpu();
    let tower = TextTower::from_files(&files(), "tiny", &compute).unwrap();
    let texts: Vec<String> = ["a cat", "no cat", "a dog without a hat"]
        .map(String::from)
        .into();
    let first = embed_texts(&tower, &texts, Some(&cache), 2, &mut |_| {}).unwrap();
    assert_eq!((first.tally.cached, first.tally.encoded), (0, 3));
    let mut more = texts.clone();
    more.insert(1, "a new one".to_owned());
    let second = embed_texts(&tower, &more, Some(&cache), 64, &mut |_| {}).unwrap();
    assert_eq!((second.tally.cached, second.tally.encoded), (3, 1));
    for (old, new) in [(0, 0), (1, 2), (2, 3)] {
        assert_eq!(first.vectors.get(old), second.vectors.get(new));
    }
    let length: f32 = first.vectors.get(0).unwrap().iter().map(|x| x * x).sum();
    assert!((length - 1.).abs() < 1e-6);
}

#[test]
fn a_tower_is_known_by_its_weights_not_by_its_file() {
    let compute = Compute::cpu();
    let hashes = |folder: &Path| {
        let files = ClipFiles::open(folder).unwrap();
        let vision = ImageTower::from_files(&files, &compute).unwrap().hash();
        let text = TextTower::from_files(&files, "a", &compute).unwrap().hash();
        (vision, text.unwrap())
    };
    let (vision, text) = hashes(&mini());
    assert_ne!(vision, text);

    // One file or several: the same tower.
    let of = |name: &str| {
        let folder = repository("eval/parity/fixtures/models/weights").join(name);
        let files = ClipFiles::open(folder).unwrap();
        ImageTower::from_files(&files, &compute).unwrap().hash()
    };
    assert_eq!(of("clip-hf"), of("clip-hf-sharded"));

    // One side exchanged, as the file of a fine-tuned encoder has it: the other side is the same.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(mini()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let index: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let changed = |tensor: &str| {
        let start = index[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        let mut bytes = bytes.clone();
        bytes[8 + header + start] ^= 0x40;
        fs::write(&path, bytes).unwrap();
        hashes(folder.path())
    };
    let (same, other) = changed("text_projection.weight");
    assert_eq!(same, vision);
    assert_ne!(other, text);
    let (other, same) = changed("visual_projection.weight");
    assert_ne!(other, vision);
    assert_eq!(same, text);
}

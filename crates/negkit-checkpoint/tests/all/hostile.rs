//! Files that are malicious, cut off or damaged: errors, never a panic, a hang or a call.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use negkit_checkpoint::naming::{clip, clipseg, compvis, diffusers_vae};
use negkit_checkpoint::{Checkpoint, CheckpointError, PickleError};
use negkit_nn::TensorSource;

use crate::support::fixture;

fn files_of(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_some_and(|e| e != "gz"));
    files.sort();
    files
}

#[test]
fn malicious_pickles_are_refused_by_name() {
    let files = files_of("malicious");
    assert_eq!(files.len(), 25);
    for path in files {
        let error = Checkpoint::open(&path).unwrap_err();
        let CheckpointError::Pickle {
            source: PickleError::Forbidden { global, .. },
            ..
        } = &error
        else {
            panic!("{}: {error}", path.display());
        };
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let wanted = match stem.split('-').next().unwrap() {
            "os" | "nested" | "inst" => "system",
            "popen" => "Popen",
            name => name,
        };
        assert!(global.contains(wanted), "{stem}: {global}");
        assert!(error.to_string().contains(global), "{error}");
    }
}

/// Opens `content` from a file; what opens is read whole and converted every way.
fn try_all(folder: &Path, content: &[u8]) -> bool {
    let path = folder.join("weights");
    fs::write(&path, content).unwrap();
    let Ok(checkpoint) = Checkpoint::open(&path) else {
        return false;
    };
    for (name, view) in checkpoint.iter() {
        if view.elements() < 1 << 16 {
            // Damage can turn a type into one that cannot be loaded, which is an error as well.
            drop(checkpoint.load(name, DType::F32, &Device::Cpu));
        }
    }
    drop(clip::to_transformers(&checkpoint));
    drop(clipseg::to_transformers(&checkpoint));
    drop(compvis::split(&checkpoint));
    drop(diffusers_vae::to_current(&checkpoint));
    true
}

fn all_fixtures() -> Vec<PathBuf> {
    let folders = ["formats", "naming", "malicious"];
    let files: Vec<_> = folders.into_iter().flat_map(files_of).collect();
    assert!(files.len() > 50);
    files
}

#[test]
fn cut_off_files_are_errors_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    for path in all_fixtures() {
        let content = fs::read(&path).unwrap();
        // Every length near the ends, where headers and directories are, and a sample between.
        let step = (content.len() / 97).max(1);
        let lengths =
            (0..content.len()).filter(|n| *n < 128 || n % step == 0 || content.len() - n < 128);
        for length in lengths {
            let opened = try_all(folder.path(), &content[..length]);
            assert!(!opened, "{} opens with {length} bytes", path.display());
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    // xorshift64: the same damage in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let (mut opened, mut refused) = (0, 0);
    for path in all_fixtures() {
        let content = fs::read(&path).unwrap();
        for _ in 0..250 {
            let mut damaged = content.clone();
            for _ in 0..1 + next(3) {
                let at = next(damaged.len());
                damaged[at] = next(256) as u8;
            }
            if try_all(folder.path(), &damaged) {
                opened += 1;
            } else {
                refused += 1;
            }
        }
    }
    // Damage to weights goes unseen, damage to structure does not.
    assert!(
        opened > 100 && refused > 100,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn archives_cannot_unpack_to_more_than_files_hold() {
    // A gigabyte of zeros deflates to a megabyte.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.pth");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("archive/data.pkl", options).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        std::io::Write::write_all(&mut zip, &zeros).unwrap();
    }
    zip.finish().unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::Archive { .. }), "{error}");
    assert!(error.to_string().contains("unpack"), "{error}");
}

#[test]
fn a_view_beyond_its_storage_is_an_error_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let header = br#"{"w":{"dtype":"F32","shape":[4,4],"data_offsets":[0,16]}}"#;
    let mut content = (header.len() as u64).to_le_bytes().to_vec();
    content.extend(header);
    content.extend([0; 16]);
    let path = folder.path().join("w.safetensors");
    fs::write(&path, content).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Safetensors { .. }),
        "{error}"
    );

    // The same in a pickle: a shape that the storage is too small for.
    let legacy = fs::read(fixture("formats/legacy.pth")).unwrap();
    // `base` is [5, 7] with strides (7, 1): BININT1 5, BININT1 7, TUPLE2.
    let at = legacy
        .windows(5)
        .position(|w| w == [b'K', 5, b'K', 7, 0x86])
        .unwrap();
    let mut damaged = legacy.clone();
    damaged[at + 1] = 6;
    let path = folder.path().join("w.pth");
    fs::write(&path, damaged).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::View { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("\"base\"") && text.contains("168 bytes"),
        "{text}"
    );
}

//! A folder to run the command in, and the tiny models to run it on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image::RgbImage;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A file or folder below the fixtures of the parity cases.
pub fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models");
    let path = fixtures.join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// Weights of a tiny model.
pub fn weights(name: &str) -> PathBuf {
    fixture("weights").join(name)
}

/// What one run of the command gave.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// This run, which must have succeeded.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The error message of this run, which must have failed without a panic and say all of
    /// `parts`.
    #[track_caller]
    pub fn refused(self, parts: &[&str]) -> String {
        let Self { code, stderr, .. } = self;
        assert!(
            matches!(code, Some(1 | 2)),
            "ended with {code:?} and {stderr}"
        );
        assert!(stderr.contains("error: "), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "'{part}' is not in: {stderr}");
        }
        stderr
    }

    /// The standard output, which must be JSON and nothing else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }
}

/// An empty folder that the command runs in; everything in it is removed in the end.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, set up so that nothing outside the folder and the arguments is found.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_negkit"));
        let removed = [
            "NEGKIT_WEIGHTS",
            "CARGO_MANIFEST_DIR",
            "HF_ENDPOINT",
            "HF_TOKEN",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "RUST_BACKTRACE",
        ];
        for variable in removed {
            command.env_remove(variable);
        }
        command
            .env("HF_HOME", self.path("no-models"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .args(arguments);
        command
    }

    /// Runs the command.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        let ran = Ran {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    /// Runs the command, its arguments in one string (none may hold a space) with paths after it.
    pub fn run_line(&self, line: &str, more: &[&OsStr]) -> Ran {
        let words = line.split_whitespace().map(OsStr::new);
        self.run(words.chain(more.iter().copied()))
    }

    /// A copy of a folder of weights, to be changed.
    pub fn copy(&self, source: &Path, name: &str) -> PathBuf {
        let target = self.path(name);
        copy_folder(source, &target);
        target
    }

    /// A copy of a tiny CLIP or CLIPSeg with a tokenizer for its 67 entries.
    pub fn copy_with_tokenizer(&self, name: &str) -> PathBuf {
        let folder = self.copy(&weights(name), name);
        write_tokenizer(&folder);
        folder
    }
}

fn copy_folder(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let to = target.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A tokenizer of single letters, with the 67 entries that the tiny towers have rows for; the
/// markers are the last two, as in CLIP's own.
pub fn write_tokenizer(folder: &Path) {
    const ENTRIES: usize = 67;
    let symbols = ('a'..='z').chain(",.'-12".chars());
    let mut names: Vec<String> = symbols
        .flat_map(|c| [c.to_string(), format!("{c}</w>")])
        .collect();
    names.push("3".to_owned());
    names.extend(["<|startoftext|>", "<|endoftext|>"].map(str::to_owned));
    assert_eq!(names.len(), ENTRIES);
    let vocabulary: Map<String, Value> = names
        .into_iter()
        .enumerate()
        .map(|(id, name)| (name, json!(id)))
        .collect();
    let vocabulary = Value::Object(vocabulary).to_string();
    fs::write(folder.join("vocab.json"), vocabulary).unwrap();
    fs::write(folder.join("merges.txt"), "#version: 0.2\n").unwrap();
}

/// A tensor of a safetensors file.
#[derive(Clone)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Reads a safetensors file, lets `edit` change its tensors, and writes it again.
pub fn edit_safetensors(path: &Path, edit: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let bytes = fs::read(path).unwrap();
    let mut tensors: BTreeMap<String, Stored> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| {
            let stored = Stored {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            (name.to_owned(), stored)
        })
        .collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes);
        (name.clone(), view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A `.npy` file of f32 values.
pub fn write_npy(path: &Path, shape: &str, values: &[u8]) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    fs::write(path, bytes).unwrap();
}

/// Decodes a picture.
#[track_caller]
pub fn picture(path: &Path) -> RgbImage {
    image::open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_rgb8()
}

/// Largest and mean difference of two pictures' samples, of 255.
#[track_caller]
pub fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    assert_eq!(a.dimensions(), b.dimensions());
    let differences = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences.clone().map(f64::from).sum();
    (
        differences.max().unwrap_or_default(),
        sum / a.as_raw().len() as f64,
    )
}

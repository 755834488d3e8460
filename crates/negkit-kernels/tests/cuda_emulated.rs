//! The kernels for GPUs (`src/cuda/attention.cu`), run on the CPU by `emulated.cpp`, which does what
//! NVIDIA's manual says that their instructions do. A C++ compiler is needed; where there is none that
//! has a 16-bit float, the tests say so and pass.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Elements of a batch, heads, their size, queries, keys, and whether only keys before are seen: heads
/// of every width that there is a kernel for, less than that and more, with tiles that are full, nearly
/// empty, and hidden.
const CASES: &[[u32; 6]] = &[
    [1, 2, 8, 5, 3, 0],
    [1, 1, 16, 65, 64, 1],
    [2, 1, 32, 64, 65, 0],
    [1, 2, 40, 70, 77, 0],
    [1, 1, 48, 1, 130, 0],
    [1, 1, 64, 77, 77, 1],
    [1, 1, 80, 64, 77, 0],
    [1, 1, 96, 33, 70, 1],
    [1, 1, 160, 20, 100, 0],
    // A VAE's head, and the first part that is not full.
    [1, 1, 512, 10, 70, 0],
    [2, 1, 168, 10, 33, 1],
];

fn told(output: &Output) -> String {
    let [out, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{errors}")
}

fn build(compiler: &str, flags: &[&str], source: &Path, program: &Path) -> std::io::Result<Output> {
    Command::new(compiler)
        .args([
            "-std=c++17",
            "-O1",
            "-g",
            "-pthread",
            "-Wno-unknown-pragmas",
        ])
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(program)
        .output()
}

/// The kernels by the first compiler that has a 16-bit float and, if one does, these flags: what a
/// system's address space forbids, a sanitizer says when it runs.
fn built(folder: &Path, flags: &[&str]) -> Option<PathBuf> {
    let source = folder.join("float.cpp");
    std::fs::write(
        &source,
        "int main() { return static_cast<int>(_Float16(0)); }\n",
    )
    .unwrap();
    let trial = folder.join("float");
    let named = std::env::var("CXX").ok();
    let known = ["c++", "g++", "clang++"].map(String::from);
    let compilers: Vec<String> = named.into_iter().chain(known).collect();
    let able = |flags: &[&str]| {
        compilers.iter().find(|compiler| {
            build(compiler, flags, &source, &trial).is_ok_and(|made| made.status.success())
                && Command::new(&trial)
                    .output()
                    .is_ok_and(|ran| ran.status.success())
        })
    };
    let (compiler, flags) = if let Some(compiler) = able(flags) {
        (compiler, flags)
    } else if let Some(compiler) = able(&[]) {
        eprintln!("tested without {flags:?}: {compilers:?} cannot, or not on this system");
        (compiler, &[][..])
    } else {
        eprintln!("not tested: none of {compilers:?} is a C++ compiler with a 16-bit float");
        return None;
    };
    let program = folder.join("emulated");
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/emulated.cpp");
    let made = build(compiler, flags, &kernels, &program).unwrap();
    assert!(made.status.success(), "{}", told(&made));
    Some(program)
}

fn all_hold(program: &Path, cases: &[[u32; 6]]) {
    let words = cases.iter().flatten().map(u32::to_string);
    let output = Command::new(program).args(words).output().unwrap();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    // Both types of every case.
    assert_eq!(told.matches("allowed").count(), 2 * cases.len(), "{told}");
}

#[test]
fn attention_is_that_in_f64_and_reads_nothing_beyond_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    if let Some(program) = built(folder.path(), &flags) {
        all_hold(&program, CASES);
    }
}

#[test]
fn no_thread_reads_what_another_still_writes() {
    let folder = tempfile::tempdir().unwrap();
    // Copies to shared memory as late as they may happen, and as early.
    for flags in [
        &["-fsanitize=thread"][..],
        &["-fsanitize=thread", "-DNEGKIT_COPY_AT_ONCE"],
    ] {
        if let Some(program) = built(folder.path(), flags) {
            all_hold(&program, &[[1, 1, 40, 70, 130, 0], [1, 1, 264, 10, 70, 1]]);
        }
    }
}

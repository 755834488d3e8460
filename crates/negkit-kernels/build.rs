//! With the feature `cuda`, compiles the kernels for NVIDIA's GPUs to PTX, which the driver turns into
//! code for the card that it finds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SOURCES: &str = "src/cuda";
/// What the kernels' instructions need at least.
const ARCHITECTURE: &str = "compute_80";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    for variable in ["NVCC", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let ptx = out.join("attention.ptx");
    let nvcc = nvcc();
    let compiled = Command::new(&nvcc)
        .args(["-ptx", "-O3", "-std=c++17", "-arch", ARCHITECTURE, "-o"])
        .arg(&ptx)
        .arg(Path::new(SOURCES).join("attention.cu"))
        .output()
        .map_err(|cause| {
            format!(
                "the feature `cuda` needs nvcc, and '{}' does not run: {cause}. Put it on PATH, or \
                 name it in NVCC, or the toolkit's folder in CUDA_HOME (docs/cuda.md)",
                nvcc.display()
            )
        })?;
    if !compiled.status.success() || fs::metadata(&ptx).is_err() {
        return Err(format!(
            "{} could not compile {SOURCES}/attention.cu:\n{}{}",
            nvcc.display(),
            String::from_utf8_lossy(&compiled.stdout),
            String::from_utf8_lossy(&compiled.stderr)
        ));
    }
    Ok(())
}

fn nvcc() -> PathBuf {
    if let Some(named) = env::var_os("NVCC") {
        return named.into();
    }
    let installed = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    installed
        .filter(|nvcc| nvcc.is_file())
        .unwrap_or_else(|| "nvcc".into())
}

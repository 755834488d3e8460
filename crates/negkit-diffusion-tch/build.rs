//! Says what to do when libtorch is missing, and tells the linker where it is when it is there.
//!
//! tch's own build looks for libtorch too, but without one it tries to download it, and what it prints
//! then is the network's error.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    // Then Python is asked, by tch.
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return;
    }
    let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) else {
        if Path::new("/usr/lib/libtorch.so").exists() {
            return;
        }
        fail("LIBTORCH is not set");
    };
    let library = folder.join("lib").join("libtorch_cpu.so");
    if !library.exists() {
        fail(&format!(
            "LIBTORCH is {}, where there is no lib/libtorch_cpu.so",
            folder.display()
        ));
    }
    println!(
        "cargo:rustc-link-arg=-Wl,-rpath,{}",
        folder.join("lib").display()
    );
}

fn fail(found: &str) -> ! {
    eprintln!(
        "\nnegkit-diffusion-tch needs libtorch 2.0.0, and {found}.\n\n    \
         eval \"$(sh eval/tch/setup.sh FOLDER)\"\n\n\
         in the repository installs it from PyPI and prints the variables to set; docs/libtorch.md \
         tells more.\nnegkit itself does without: only this crate needs it.\n"
    );
    exit(1)
}

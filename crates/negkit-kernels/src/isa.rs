//! Which of the processor's instructions the kernels use.
//!
//! Chosen once, when it is first asked for: the best that the processor has, or what the variable
//! `NEGKIT_ISA` says. Kernels take an [`Isa`] as an argument, so that a test runs every one that the
//! machine has.
//!
//! NEON is to become a variant here: pulp has it already, so that the f32 kernels need no new code
//! there. CUDA is none: tensors on another device never come to these kernels (`negkit-nn` keeps that
//! seam), and the one for GPUs is in `cuda.rs`.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use pulp::Arch;
use thiserror::Error;

/// Sets of instructions, each with all that stand before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the compiler makes of plain Rust.
    Portable,
    /// AVX2 and FMA: 8 f32 a register.
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL: 16 f32 a register.
    Avx512,
    /// `vdpbf16ps`: products of pairs of bf16, summed in f32.
    Avx512Bf16,
    /// Intel AMX: products of tiles of bf16, summed in f32.
    AmxBf16,
}

/// Why kernels cannot use what `NEGKIT_ISA` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IsaError {
    /// The text names no set of instructions.
    #[error(
        "{VARIABLE}: unknown instruction set '{0}': expected portable, avx2, avx512, avx512bf16 or \
         amxbf16"
    )]
    Unknown(String),
    /// The processor, or its operating system, lacks it.
    #[error(
        "{VARIABLE}: this machine has no '{wanted}'; the most it has is '{best}'. Unset {VARIABLE} \
         to use that"
    )]
    Unavailable {
        /// The one asked for.
        wanted: Isa,
        /// The most that there is.
        best: Isa,
    },
}

/// The environment variable that overrides the choice.
pub const VARIABLE: &str = "NEGKIT_ISA";

impl Isa {
    /// All, from the least to the most.
    pub const ALL: [Self; 5] = [
        Self::Portable,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
        Self::AmxBf16,
    ];

    /// The most that this machine has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(detect)
    }

    /// All that this machine has.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| *isa <= Self::best())
    }

    /// What the kernels use: [`Isa::best`], or what `NEGKIT_ISA` says.
    ///
    /// # Errors
    /// When the variable's value is unknown or more than the machine has.
    pub fn chosen() -> Result<Self, IsaError> {
        static CHOSEN: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| match std::env::var(VARIABLE) {
                Ok(text) => Self::parse_available(&text),
                Err(_) => Ok(Self::best()),
            })
            .clone()
    }

    /// [`Isa::chosen`] where there is no way to report an error, which whoever opens the device does:
    /// a value that cannot be used leaves it at the best.
    pub fn current() -> Self {
        Self::chosen().unwrap_or_else(|_| Self::best())
    }

    /// The set of this name, if the machine has it.
    ///
    /// # Errors
    /// When the name is unknown or the machine lacks it.
    pub fn parse_available(text: &str) -> Result<Self, IsaError> {
        let (wanted, best) = (text.parse()?, Self::best());
        if wanted > best {
            return Err(IsaError::Unavailable { wanted, best });
        }
        Ok(wanted)
    }

    /// Whether products of bf16 are faster than those of f32.
    pub fn multiplies_bf16(self) -> bool {
        self >= Self::Avx512Bf16
    }

    /// The same for pulp, which compiles every inner loop once for each.
    pub(crate) fn arch(self) -> Arch {
        #[cfg(target_arch = "x86_64")]
        {
            use pulp::x86::{V3, V4};
            if self >= Self::Avx512
                && let Some(v4) = V4::try_new()
            {
                return Arch::V4(v4);
            }
            if self >= Self::Avx2
                && let Some(v3) = V3::try_new()
            {
                return Arch::V3(v3);
            }
        }
        Arch::Scalar
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    use pulp::x86::{V3, V4};
    if V3::try_new().is_none() {
        Isa::Portable
    } else if V4::try_new().is_none() {
        Isa::Avx2
    } else if !is_x86_feature_detected!("avx512bf16") {
        Isa::Avx512
    } else if !crate::product::amx_available() {
        Isa::Avx512Bf16
    } else {
        Isa::AmxBf16
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}

/// What the kernels' inner loops are dispatched on.
pub(crate) fn arch() -> Arch {
    Isa::current().arch()
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(text: &str) -> Result<Self, IsaError> {
        let found = Self::ALL.into_iter().find(|isa| isa.to_string() == text);
        found.ok_or_else(|| IsaError::Unknown(text.to_owned()))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::AmxBf16 => "amxbf16",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse::<Isa>(), Ok(isa));
        }
        for text in ["", "AVX2", "sse", "avx512 "] {
            let error = text.parse::<Isa>().unwrap_err().to_string();
            assert!(error.contains("NEGKIT_ISA") && error.contains("amxbf16"));
        }
    }

    #[test]
    fn what_the_machine_lacks_is_an_error_that_names_what_it_has() {
        for isa in Isa::ALL {
            let found = Isa::parse_available(&isa.to_string());
            if isa <= Isa::best() {
                assert_eq!(found, Ok(isa));
            } else {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(&format!("'{}'", Isa::best())), "{error}");
            }
        }
        assert_eq!(Isa::available().last(), Some(Isa::best()));
    }
}

//! SHA-256 of files and texts, in the digits that `sha256sum` prints.
//!
//! Records, caches and settings are told apart by such digests, and those of one crate are compared with
//! those of another and with those of other programs. So they are all written here.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("captions.json");
//! std::fs::write(&path, "abc")?;
//! let digest = negkit_digest::file_sha256(&path)?;
//! assert_eq!(digest, negkit_digest::sha256("abc"));
//! assert!(digest.starts_with("ba7816bf"));
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hexadecimal(Sha256::digest(bytes))
}

/// SHA-256 of a file, which need not fit into memory.
///
/// # Errors
/// When it cannot be read.
pub fn file_sha256(path: impl AsRef<Path>) -> io::Result<String> {
    read_digest(File::open(path)?, Sha256::new())
}

/// The digest once a hash has taken all that is left to read.
///
/// # Errors
/// When it cannot be read.
pub fn read_digest(mut from: impl Read, mut hash: impl Digest) -> io::Result<String> {
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(hexadecimal(hash.finalize())),
            Ok(read) => hash.update(block.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes as hexadecimal digits in lower case.
///
/// ```
/// assert_eq!(negkit_digest::hexadecimal([0, 171]), "00ab");
/// ```
#[must_use]
pub fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A reader that is interrupted before every block, and gives the bytes in uneven ones.
    struct Interrupted<'a> {
        left: &'a [u8],
        ready: bool,
    }

    impl Read for Interrupted<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.ready = !self.ready;
            if !self.ready {
                return Err(ErrorKind::Interrupted.into());
            }
            let most = into.len().min(700_001);
            self.left.read(&mut into[..most])
        }
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256(""), empty);
        assert_eq!(sha256("abc"), abc);
        assert_eq!(sha256(vec![b'a'; 1_000_000]), million);
    }

    #[test]
    fn a_file_of_several_blocks_is_hashed_whole() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|i| (i % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(file_sha256(&path).unwrap(), sha256(&bytes));
        let interrupted = Interrupted {
            left: &bytes,
            ready: true,
        };
        let digest = read_digest(interrupted, Sha256::new()).unwrap();
        assert_eq!(digest, sha256(&bytes));
        let missing = file_sha256(folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}

//! Fetching one file: continue what is there, check size and hash, put it in place.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use negkit_digest::read_digest;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use crate::cache::Repository;
use crate::client::{Client, Failure, RemoteFile, shown};
use crate::error::{Error, at};

const BUFFER: usize = 256 << 10;

/// A connection that brought this much before it broke is followed by another at once, without
/// counting as a failed try: large files survive any number of breaks.
const WORTH_CONTINUING: u64 = 1 << 20;

/// Fetches `file` into the blobs of `repository` unless it is there, and gives the blob's path.
///
/// What an earlier run left is continued with a `Range` request. Nothing becomes a blob before its
/// size and its hash agree with what the hub announced.
pub(crate) fn fetch(
    client: &Client,
    repository: &Repository,
    remote: &RemoteFile,
    bar: &ProgressBar,
) -> Result<PathBuf, Error> {
    let lock = repository.lock(&remote.etag)?;
    if let Ok(meta) = fs::metadata(&lock.blob) {
        if remote.size.is_none_or(|size| size == meta.len()) {
            return Ok(lock.blob);
        }
        tracing::warn!(blob = %lock.blob.display(), "a blob of the wrong size is fetched again");
    }
    let mut continued = length(&lock.partial) > 0;
    loop {
        client
            .repeated(|| receive_while_it_grows(client, remote, &lock.partial, bar))
            .and_then(|()| check(&lock.partial, remote))
            .or_else(|error| match error {
                Error::WrongSize { .. } | Error::WrongHash { .. } => {
                    remove(&lock.partial)?;
                    // What an earlier run left may be at fault, so it gets a clean try.
                    if std::mem::take(&mut continued) {
                        tracing::warn!(%error, "starting again from nothing");
                        return Ok(());
                    }
                    Err(error)
                }
                error => Err(error),
            })?;
        if lock.partial.exists() {
            break;
        }
    }
    fs::rename(&lock.partial, &lock.blob).map_err(at("move into place", &lock.blob))?;
    Ok(lock.blob)
}

fn receive_while_it_grows(
    client: &Client,
    remote: &RemoteFile,
    partial: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    loop {
        let before = length(partial);
        match receive(client, remote, partial, bar) {
            Err(failure) if failure.transient && length(partial) >= before + WORTH_CONTINUING => {
                tracing::info!(error = %failure.error, "continuing");
            }
            result => return result,
        }
    }
}

/// One connection: appends to `partial` what is missing.
fn receive(
    client: &Client,
    remote: &RemoteFile,
    partial: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    if remote.size.is_some_and(|size| length(partial) > size) {
        remove(partial)?;
    }
    let have = length(partial);
    bar.set_position(have);
    if have > 0 && remote.size == Some(have) {
        return Ok(());
    }
    let response = client.get(&remote.url, have)?;
    let start = match response.status().as_u16() {
        206 => have,
        416 => {
            remove(partial)?;
            return Err(Failure::transient(Error::Protocol {
                url: shown(&remote.url),
                message: format!("nothing from byte {have} on"),
            }));
        }
        // The server knows no ranges: everything comes again.
        _ => 0,
    };
    check_announced(&response, remote, start)?;
    bar.set_position(start);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(start == 0)
        .append(start > 0)
        .open(partial);
    let mut file = file.map_err(at("open", partial))?;
    copy(response.into_body(), &mut file, partial, start, remote, bar)?;
    file.sync_all().map_err(at("write", partial))?;
    Ok(())
}

/// Refuses an answer whose own headers contradict the announced size, before reading it.
fn check_announced(
    response: &Response<Body>,
    remote: &RemoteFile,
    start: u64,
) -> Result<(), Error> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    if start > 0 {
        let range = header("content-range").and_then(parse_content_range);
        if range.is_none_or(|(first, _)| first != start) {
            return Err(Error::Protocol {
                url: shown(&remote.url),
                message: format!("asked for the bytes from {start} on, got others"),
            });
        }
    }
    let length = header("content-length").and_then(|n| n.parse::<u64>().ok());
    match (remote.size, length) {
        (Some(expected), Some(length)) if start.saturating_add(length) != expected => {
            Err(Error::WrongSize {
                url: shown(&remote.url),
                expected,
                found: start.saturating_add(length),
                open_ended: false,
            })
        }
        _ => Ok(()),
    }
}

/// First byte and total of `bytes 5-9/10`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

fn copy(
    mut body: Body,
    file: &mut File,
    partial: &Path,
    start: u64,
    remote: &RemoteFile,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut reader = body.as_reader();
    let mut buffer = vec![0; BUFFER];
    let mut have = start;
    let interrupted = |have: u64, message: String| {
        Failure::transient(Error::Interrupted {
            url: shown(&remote.url),
            have,
            expected: remote.size,
            message,
            attempts: 1,
        })
    };
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(interrupted(have, error.to_string())),
        };
        if n == 0 {
            return match remote.size {
                Some(size) if have < size => {
                    Err(interrupted(have, "the connection was closed".to_owned()))
                }
                _ => Ok(()),
            };
        }
        have += n as u64;
        if let Some(expected) = remote.size.filter(|size| have > *size) {
            return Err(Failure::from(Error::WrongSize {
                url: shown(&remote.url),
                expected,
                found: have,
                open_ended: true,
            }));
        }
        let bytes = buffer.get(..n).unwrap_or_default();
        file.write_all(bytes).map_err(at("write", partial))?;
        bar.inc(n as u64);
    }
}

/// Compares the whole content with the name that the hub gave it.
fn check(path: &Path, remote: &RemoteFile) -> Result<(), Error> {
    let is_hex = remote.etag.chars().all(|c| c.is_ascii_hexdigit());
    let (algorithm, found) = match remote.etag.len() {
        64 if is_hex => ("sha256", hash(path, Sha256::new())?),
        40 if is_hex => {
            let mut git = Sha1::new();
            git.update(format!("blob {}\0", length(path)));
            ("git blob sha1", hash(path, git)?)
        }
        _ => {
            tracing::warn!(
                etag = remote.etag,
                "the hub names no hash: only the size was checked"
            );
            return Ok(());
        }
    };
    if found == remote.etag {
        return Ok(());
    }
    Err(Error::WrongHash {
        url: shown(&remote.url),
        algorithm,
        expected: remote.etag.clone(),
        found,
    })
}

fn hash(path: &Path, digest: impl Digest) -> Result<String, Error> {
    let file = File::open(path).map_err(at("read", path))?;
    read_digest(file, digest).map_err(at("read", path))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A bar for one file on standard error; hidden where that is no terminal.
pub(crate) fn progress_bar(
    shown: bool,
    file: &str,
    nth: usize,
    of: usize,
    size: Option<u64>,
) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::no_length(),
    };
    let template = "{prefix} {msg} [{bar:25}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(format!("{nth}/{of}"));
    bar.set_message(file.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(parse_content_range("bytes */10"), None);
        assert_eq!(parse_content_range("items 5-9/10"), None);
    }
}

//! Answers that were paid for, so that they are not paid for again.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use negkit_digest::hexadecimal;
use serde::{Deserialize, Serialize};

use crate::record::length_of_whole_lines;
use crate::{ChatError, Completion, Usage};

/// A folder of answers, found by the SHA-256 of their requests.
///
/// Each process appends to a file of its own (`answers-1.jsonl` and so on; the first that nobody
/// holds), and reads all that are there when it is opened. So runs follow each other and work side by
/// side with one folder; a kill leaves at most an unfinished line, which is dropped. Only the places
/// of the answers are in memory.
///
/// The request does not tell the endpoint's address, for servers move: two different models must not
/// have the same name.
#[derive(Debug)]
pub struct AnswerCache {
    state: Mutex<State>,
    /// A request is no longer under way.
    settled: Condvar,
}

#[derive(Debug)]
struct State {
    places: HashMap<[u8; 32], Place>,
    under_way: HashSet<[u8; 32]>,
    files: Vec<(PathBuf, File)>,
    /// Index of the file that is appended to, and its length.
    own: usize,
    length: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    file: u32,
    start: u64,
    length: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    request: String,
    model: String,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

impl AnswerCache {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// [`ChatError::Record`] when it cannot be read or written, or a line within a file is damaged.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, ChatError> {
        let folder = folder.as_ref();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| ChatError::Record { path, cause }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let own = Self::own_file(folder)?;
        let mut state = State {
            places: HashMap::new(),
            under_way: HashSet::new(),
            files: Vec::new(),
            own: 0,
            length: 0,
        };
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let known = name.starts_with("answers-") && name.ends_with(".jsonl");
            if known && path != own.0 {
                let file = File::open(&path).map_err(failed(&path))?;
                state.read(path.clone(), file).map_err(failed(&path))?;
            }
        }
        let path = own.0.clone();
        state.length = state.read(own.0, own.1).map_err(failed(&path))?;
        state.own = state.files.len() - 1;
        Ok(Self {
            state: Mutex::new(state),
            settled: Condvar::new(),
        })
    }

    /// The first file that no other process appends to. The system gives it back when the process
    /// ends, however it ends.
    fn own_file(folder: &Path) -> Result<(PathBuf, File), ChatError> {
        for number in 1u32.. {
            let path = folder.join(format!("answers-{number}.jsonl"));
            let failed = |cause| ChatError::Record {
                path: path.clone(),
                cause,
            };
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            let mut file = options.open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {
                    let whole = length_of_whole_lines(&mut file).map_err(failed)?;
                    file.set_len(whole).map_err(failed)?;
                    return Ok((path, file));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(cause)) => return Err(failed(cause)),
            }
        }
        Err(ChatError::Unanswered)
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.lock().places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The answer to the request `key`, from the folder or from `ask`. While one thread asks, others
    /// with the same request wait for its answer.
    pub(crate) fn answer(
        &self,
        key: [u8; 32],
        model: &str,
        ask: impl FnOnce() -> Result<Completion, ChatError>,
    ) -> Result<Completion, ChatError> {
        let mut state = self.lock();
        loop {
            if let Some(place) = state.places.get(&key).copied() {
                return state.completion(place);
            }
            if !state.under_way.contains(&key) {
                break;
            }
            let waited = self.settled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.under_way.insert(key);
        drop(state);
        let turn = Turn { cache: self, key };
        let completion = ask()?;
        let line = Line {
            request: hexadecimal(key),
            model: model.to_owned(),
            text: completion.text.clone(),
            finish_reason: completion.finish_reason.clone(),
            usage: completion.usage,
        };
        let kept = self.lock().append(key, &line);
        drop(turn);
        kept.map(|()| completion)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while a request is under way.
struct Turn<'a> {
    cache: &'a AnswerCache,
    key: [u8; 32],
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.cache.lock().under_way.remove(&self.key);
        self.cache.settled.notify_all();
    }
}

impl State {
    /// Learns where the answers of a file are, and returns the length of its whole lines.
    fn read(&mut self, path: PathBuf, mut file: File) -> std::io::Result<u64> {
        file.seek(SeekFrom::Start(0))?;
        let index = self.files.len() as u32;
        let mut start = 0;
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        let mut number = 0;
        while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            number += 1;
            let read: Option<Line> = serde_json::from_slice(&line).ok();
            let key = read.and_then(|line| from_hex(&line.request));
            let Some(key) = key else {
                let text = format!(
                    "line {number}: expected an answer with the SHA-256 of its request; delete the line"
                );
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
            };
            let place = Place {
                file: index,
                start,
                length: line.len() as u32,
            };
            self.places.insert(key, place);
            start += line.len() as u64;
            line.clear();
        }
        self.files.push((path, file));
        Ok(start)
    }

    fn completion(&mut self, place: Place) -> Result<Completion, ChatError> {
        let (path, file) = &mut self.files[place.file as usize];
        let mut read = || {
            let mut bytes = vec![0; place.length as usize];
            file.seek(SeekFrom::Start(place.start))?;
            file.read_exact(&mut bytes)?;
            Ok(serde_json::from_slice::<Line>(&bytes)?)
        };
        let line = read().map_err(|cause| ChatError::Record {
            path: path.clone(),
            cause,
        })?;
        Ok(Completion {
            text: line.text,
            finish_reason: line.finish_reason,
            usage: line.usage,
            request: line.request,
            cached: true,
        })
    }

    fn append(&mut self, key: [u8; 32], line: &Line) -> Result<(), ChatError> {
        let (path, file) = &mut self.files[self.own];
        let length = self.length;
        let mut write = || {
            let mut bytes = serde_json::to_vec(line)?;
            bytes.push(b'\n');
            file.seek(SeekFrom::Start(length))?;
            file.write_all(&bytes)?;
            Ok(bytes.len())
        };
        let written = write().map_err(|cause| ChatError::Record {
            path: path.clone(),
            cause,
        })?;
        let place = Place {
            file: self.own as u32,
            start: self.length,
            length: written as u32,
        };
        self.places.insert(key, place);
        self.length += written as u64;
        Ok(())
    }
}

//! All files, on all threads.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::counter::{Counter, Tally};
use crate::error::StatsError;
use crate::input::{Found, Input};
use crate::report::Report;
use crate::source::{Chunk, Format, Settings, Source, open};
use crate::words::WordList;

/// How captions are read and counted.
#[derive(Debug, Clone)]
pub struct Survey {
    words: WordList,
    settings: Settings,
    threads: usize,
    examples: usize,
    seed: u64,
}

/// A file that threads are at work on.
struct Open {
    number: usize,
    source: Source,
}

/// Files that are not begun, and those that are not at their end.
struct Queue<'a> {
    files: &'a [Input],
    next: usize,
    open: Vec<Arc<Open>>,
}

impl Survey {
    /// A survey of these words, on as many threads as there are processors, with one example for
    /// each word.
    #[must_use]
    pub fn new(words: WordList) -> Self {
        Self {
            words,
            settings: Settings {
                format: None,
                column: None,
                header: true,
                records: "annotations".to_owned(),
            },
            threads: std::thread::available_parallelism().map_or(1, NonZero::get),
            examples: 1,
            seed: 0,
        }
    }

    /// The format of all files, whatever their names say.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.settings.format = Some(format);
        self
    }

    /// The column or field of the captions; in tables its number is good, too, from 1. Without it,
    /// `caption` or `text` is taken.
    #[must_use]
    pub fn with_column(mut self, column: impl Into<String>) -> Self {
        self.settings.column = Some(column.into());
        self
    }

    /// The first record of a table is no header; the column must be given as a number.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.settings.header = false;
        self
    }

    /// The key of the list in a JSON object, where it is not `annotations`.
    #[must_use]
    pub fn with_records(mut self, key: impl Into<String>) -> Self {
        self.settings.records = key.into();
        self
    }

    /// The number of threads, at least one. It changes nothing but the time.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// How many examples to keep for each word, and the seed that chooses them: all different
    /// captions with that word are equally likely.
    #[must_use]
    pub fn with_examples(mut self, examples: usize, seed: u64) -> Self {
        (self.examples, self.seed) = (examples, seed);
        self
    }

    /// Reads all files. `on_bytes` is told from any thread how many bytes of the files, packed as
    /// they are, were read since it was last called.
    ///
    /// # Errors
    /// When threads cannot be started. What cannot be read is counted and named in the report.
    pub fn run(
        &self,
        found: &Found,
        on_bytes: &(dyn Fn(u64) + Sync),
    ) -> Result<Report, StatsError> {
        let queue = Mutex::new(Queue {
            files: &found.files,
            next: 0,
            open: Vec::new(),
        });
        let tallies = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in 0..self.threads {
                let queue = &queue;
                let thread = std::thread::Builder::new()
                    .name(format!("captions-{worker}"))
                    .spawn_scoped(scope, move || self.work(worker, queue, on_bytes))
                    .map_err(|source| StatsError::Threads {
                        threads: self.threads,
                        source,
                    });
                match thread {
                    Ok(thread) => threads.push(thread),
                    // Those that run will do the work.
                    Err(error) if threads.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            let joined = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            Ok(joined.collect::<Vec<Tally>>())
        })?;
        let mut tally = Tally::new(self.words.len());
        for part in tallies {
            tally.merge(part, self.examples);
        }
        Ok(Report::new(tally, &self.words, found))
    }

    /// Begins files as long as there are any, then helps with those that others have begun.
    fn work(
        &self,
        worker: usize,
        queue: &Mutex<Queue<'_>>,
        on_bytes: &(dyn Fn(u64) + Sync),
    ) -> Tally {
        let mut counter = Counter::new(&self.words, self.examples, self.seed);
        let mut chunk = Chunk::default();
        while let Some(file) = self.take(worker, queue, &mut counter) {
            let name = || lock(queue).files[file.number].to_string();
            counter.begin(file.number, name);
            loop {
                let mut cut = lock(&file.source.cut);
                let more = cut.cut(&mut chunk);
                let read = cut.progress();
                drop(cut);
                on_bytes(read);
                match more {
                    Ok(true) => file.source.parse.parse(&chunk, &mut counter),
                    Ok(false) => break,
                    Err(stop) => {
                        counter.stop(stop);
                        break;
                    }
                }
            }
            lock(queue).open.retain(|other| other.number != file.number);
        }
        counter.into_tally()
    }

    /// The next file to work on. Files are opened under the queue's lock, so that no thread leaves
    /// for want of work while the only file is being opened.
    fn take(
        &self,
        worker: usize,
        queue: &Mutex<Queue<'_>>,
        counter: &mut Counter<'_>,
    ) -> Option<Arc<Open>> {
        let mut queue = lock(queue);
        while let Some(input) = queue.files.get(queue.next) {
            let number = queue.next;
            queue.next += 1;
            match open(input, &self.settings) {
                Ok(source) => {
                    let file = Arc::new(Open { number, source });
                    queue.open.push(Arc::clone(&file));
                    return Some(file);
                }
                Err(stop) => {
                    counter.begin(number, || input.to_string());
                    counter.stop(stop);
                }
            }
        }
        let others = queue.open.len().max(1);
        queue.open.get(worker % others).cloned()
    }
}

/// A thread that panics brings the survey down when it is joined; until then others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! From a file to its records: what it is packed with and written in.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use serde::de::IgnoredAny;

use super::csv::{Column, Dialect};
use super::json::{Elements, List};
use super::lines::{JsonLines, Lines, Text};
use super::record::Fields;
use super::stream::{Bytes, Counting, Records, Stream, too_long};
use super::zstd::Frames;
use super::{CHUNK, Cut, Format, Parse, Source, Stop};
use crate::faults::Place;
use crate::input::Input;

/// How files are to be read.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The format, where names are not to be trusted.
    pub(crate) format: Option<Format>,
    /// The column or field of the captions, where it has no usual name.
    pub(crate) column: Option<String>,
    /// Whether tables have a header.
    pub(crate) header: bool,
    /// The key of the list in a JSON object.
    pub(crate) records: String,
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const PARQUET: &[u8] = b"PAR1";

/// Opens a file.
pub(crate) fn open(input: &Input, settings: &Settings) -> Result<Source, Stop> {
    let fields = Fields::new(settings.column.clone());
    let named = settings.format.or_else(|| match input {
        Input::File(path) => Format::of_name(path),
        Input::Stdin => None,
    });
    match (named, input) {
        (Some(Format::Parquet), Input::File(path)) => {
            let (groups, column) = super::parquet::open(path, &fields)?;
            return Ok(source(groups, column));
        }
        (Some(Format::Parquet), Input::Stdin) => return Err(no_parquet_stream()),
        _ => {}
    }
    let mut bytes = unpack(input)?;
    let mut head = vec![0; CHUNK];
    let mut filled = 0;
    // An error is met again by whoever reads on.
    let error = bytes.fill(&mut head, &mut filled).err();
    head.truncate(filled);
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        let reason =
            "expected UTF-8, found UTF-16; convert the file with `iconv -f utf-16 -t utf-8`";
        return Err(Stop(Place::File, reason.to_owned()));
    }
    if head.starts_with(PARQUET) {
        let Input::File(path) = input else {
            return Err(no_parquet_stream());
        };
        let (groups, column) = super::parquet::open(path, &fields)?;
        return Ok(source(groups, column));
    }
    if let Some(error) = error {
        bytes = bytes.then_fail(error);
    }
    let mark = if head.starts_with("\u{feff}".as_bytes()) {
        3
    } else {
        0
    };
    head.drain(..mark);
    let mark = mark as u64;
    // A file named .json may hold an object a line.
    let format = match named {
        Some(Format::Json) | None => sniff(&head, named),
        Some(format) => format,
    };
    Ok(match format {
        Format::Csv | Format::Tsv => {
            let dialect = match format {
                Format::Csv => Dialect::COMMAS,
                _ => Dialect::TABS,
            };
            let column = column(dialect, &head, settings, &fields)?;
            let start = if settings.header {
                dialect.first_end(&head).unwrap_or(head.len())
            } else {
                0
            };
            let line = 1 + memchr::memchr_iter(b'\n', &head[..start]).count() as u64;
            let rest = head.split_off(start);
            let offset = mark + start as u64;
            source(Stream::new(bytes, dialect, rest, line, offset), column)
        }
        Format::JsonLines => {
            let parse = JsonLines { fields };
            source(Stream::new(bytes, Lines, head, 1, mark), parse)
        }
        Format::Json => {
            let key = settings.records.clone();
            let list = List::new(bytes, key.clone(), head, mark);
            source(list, Elements { fields, key })
        }
        Format::Text | Format::Parquet => source(Stream::new(bytes, Lines, head, 1, mark), Text),
    })
}

fn source(cut: impl Cut + 'static, parse: impl Parse + 'static) -> Source {
    Source {
        cut: Mutex::new(Box::new(cut)),
        parse: Box::new(parse),
    }
}

fn no_parquet_stream() -> Stop {
    let reason =
        "Parquet is read from its end and cannot come from the standard input; name the file";
    Stop(Place::File, reason.to_owned())
}

/// The bytes of a file, unpacked if its first bytes say that it is packed.
fn unpack(input: &Input) -> Result<Bytes, Stop> {
    let stop = |error: io::Error| Stop(Place::File, format!("cannot be opened: {error}"));
    let raw: Box<dyn Read + Send> = match input {
        Input::File(path) => Box::new(File::open(path).map_err(stop)?),
        Input::Stdin => Box::new(io::stdin()),
    };
    let (counting, count) = Counting::new(raw);
    let mut counting: Box<dyn Read + Send> = Box::new(counting);
    let mut magic = Vec::new();
    let longest = ZSTD.len() as u64;
    counting
        .by_ref()
        .take(longest)
        .read_to_end(&mut magic)
        .map_err(stop)?;
    let (gzip, zstd) = (magic.starts_with(GZIP), magic.starts_with(ZSTD));
    let whole = Cursor::new(magic).chain(counting);
    let unpacked: Box<dyn Read + Send> = if gzip {
        // Files put together of several packed ones are read to their end.
        Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(
            1 << 16,
            whole,
        )))
    } else if zstd {
        Box::new(Frames::new(io::BufReader::with_capacity(1 << 16, whole)))
    } else {
        Box::new(whole)
    };
    Ok(Bytes::new(unpacked, count))
}

impl Bytes {
    /// Fails when read, with an error that was met before.
    fn then_fail(self, error: io::Error) -> Self {
        struct Failing(Option<io::Error>);
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.0.take().map_or(Ok(0), Err)
            }
        }
        self.replaced(Box::new(Failing(Some(error))))
    }
}

/// What a file of unknown kind is written in.
fn sniff(head: &[u8], named: Option<Format>) -> Format {
    let text = head.trim_ascii_start();
    match text.first() {
        Some(b'{') => {
            let mut lines = text.splitn(2, |byte| *byte == b'\n');
            let object = lines.next().unwrap_or_default();
            let follows = lines.next().map(|rest| rest.trim_ascii_start());
            let whole = serde_json::from_slice::<IgnoredAny>(object).is_ok();
            let list = named == Some(Format::Json) && follows.is_none_or(<[u8]>::is_empty);
            if whole && !list {
                Format::JsonLines
            } else {
                Format::Json
            }
        }
        Some(b'[') => Format::Json,
        _ => named.unwrap_or(Format::Text),
    }
}

/// The captions' column of a table.
fn column(
    dialect: Dialect,
    head: &[u8],
    settings: &Settings,
    fields: &Fields,
) -> Result<Column, Stop> {
    let stop = |reason: String| Stop(Place::Line(1), reason);
    let end = match dialect.first_end(head) {
        Some(end) => end,
        None if head.len() < CHUNK => head.len(),
        None => return Err(stop(too_long())),
    };
    if let Some((_, reason)) = dialect.unfinished(&head[..end]) {
        return Err(stop(reason));
    }
    let mut first = csv::StringRecord::new();
    let read = dialect.reader(&head[..end]).read_record(&mut first);
    if !read.map_err(|error| stop(error.to_string()))? {
        return Err(Stop(Place::File, "the file is empty".to_owned()));
    }
    let number = settings
        .column
        .as_deref()
        .and_then(|name| name.parse().ok());
    let by_number = number.and_then(|number: usize| number.checked_sub(1));
    let by_number = by_number.filter(|column| *column < first.len());
    let column = if settings.header {
        let names = first.iter().map(str::trim);
        fields
            .choose("a column", names)
            .or_else(|reason| by_number.ok_or(reason))
    } else {
        by_number.ok_or_else(|| {
            let fields = first.len();
            format!("without a header, --column is a number from 1 to {fields}")
        })
    };
    Ok(Column {
        dialect,
        column: column.map_err(stop)?,
        fields: first.len(),
    })
}

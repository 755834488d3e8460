//! CSV with a line of titles, columns found by their titles.

use std::path::Path;

use crate::DataError;
use crate::records::open;

/// What is done with a line: its number, and its fields.
type EachLine<'a> = &'a mut dyn FnMut(u64, &[&str]) -> Result<(), DataError>;

/// Hands over the fields of the wanted columns of every line, with the line's number. A column may be
/// known by several titles; the first that is there is taken.
pub(crate) fn read_csv(
    path: &Path,
    columns: &[&[&str]],
    each: EachLine<'_>,
) -> Result<(), DataError> {
    let mut reader = csv::Reader::from_reader(open(path)?);
    let titles = reader
        .headers()
        .map_err(|error| failed(path, error))?
        .clone();
    let titles: Vec<&str> = titles
        .iter()
        .map(|title| title.trim().trim_start_matches('\u{feff}'))
        .collect();
    let mut places = Vec::with_capacity(columns.len());
    for known_as in columns {
        let place = known_as
            .iter()
            .find_map(|name| titles.iter().position(|title| title == name));
        let Some(place) = place else {
            let reason = format!(
                "expected a column {}, found {}",
                known_as.join(" or "),
                titles.join(", ")
            );
            return Err(DataError::record(path, "line 1", known_as[0], reason));
        };
        places.push(place);
    }
    let mut record = csv::StringRecord::new();
    loop {
        let more = reader.read_record(&mut record);
        if !more.map_err(|error| failed(path, error))? {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line);
        let fields: Vec<&str> = places
            .iter()
            .map(|place| record.get(*place).unwrap_or_default())
            .collect();
        each(line, &fields)?;
    }
}

fn failed(path: &Path, error: csv::Error) -> DataError {
    let line = error.position().map_or(1, csv::Position::line);
    let reason = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => DataError::Read {
            path: path.to_owned(),
            source,
        },
        _ => DataError::Damaged {
            path: path.to_owned(),
            format: "CSV with a line of titles",
            place: format!("line {line}"),
            reason,
        },
    }
}

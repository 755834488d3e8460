//! Parquet: a chunk is a row group, of which nothing but the captions' column is read, page by page.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader, SerializedPageReader};

use super::record::Fields;
use super::zstd::Frames;
use super::{Chunk, Cut, Parse, Stop};
use crate::counter::Counter;
use crate::faults::Place;

/// Rows that are read at a time.
const ROWS: usize = 4096;

/// Hands out row groups.
pub(super) struct RowGroups {
    next: u64,
    /// Bytes of each.
    sizes: Vec<u64>,
    /// Bytes of the file, and those that were reported.
    length: u64,
    reported: u64,
}

impl Cut for RowGroups {
    fn cut(&mut self, chunk: &mut Chunk) -> Result<bool, Stop> {
        chunk.first = self.next;
        self.next += 1;
        Ok(chunk.first < self.sizes.len() as u64)
    }

    fn progress(&mut self) -> u64 {
        let taken = self.sizes.iter().take(self.next as usize);
        let read = if self.next as usize > self.sizes.len() {
            self.length
        } else {
            taken.sum::<u64>().min(self.length)
        };
        let new = read.saturating_sub(self.reported);
        self.reported += new;
        new
    }
}

/// The captions' column.
pub(super) struct StringColumn {
    path: PathBuf,
    column: usize,
    /// The definition level of a value that is there.
    there: i16,
    /// The first row of each row group.
    first_rows: Vec<u64>,
}

/// Opens a file and finds the column.
pub(super) fn open(path: &Path, fields: &Fields) -> Result<(RowGroups, StringColumn), Stop> {
    let stop = |reason: String| Stop(Place::File, reason);
    let damaged = |error: ParquetError| stop(format!("no whole Parquet file: {error}"));
    let file = File::open(path).map_err(|error| stop(format!("cannot be opened: {error}")))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let metadata = reader.metadata();
    let columns = metadata.file_metadata().schema_descr().columns();
    // A list is a column within a group; its name is that of the group.
    let name = |i: usize| columns[i].path().parts().first().map_or("", String::as_str);
    let column = fields
        .choose("a column", (0..columns.len()).map(name))
        .map_err(stop)?;
    let found = columns[column].physical_type();
    if found != Type::BYTE_ARRAY {
        let name = name(column);
        return Err(stop(format!(
            "column `{name}`: expected strings (BYTE_ARRAY), found {found}"
        )));
    }
    let mut first_rows = Vec::new();
    let mut rows = 0;
    for group in metadata.row_groups() {
        first_rows.push(rows);
        rows += u64::try_from(group.num_rows()).unwrap_or_default();
    }
    let sizes = metadata.row_groups().iter();
    let sizes = sizes.map(|group| u64::try_from(group.compressed_size()).unwrap_or_default());
    let groups = RowGroups {
        next: 0,
        sizes: sizes.collect(),
        length,
        reported: 0,
    };
    let column = StringColumn {
        path: path.to_owned(),
        column,
        there: columns[column].max_def_level(),
        first_rows,
    };
    Ok((groups, column))
}

impl StringColumn {
    /// Counts the captions of a row group; `row` is the one being read.
    fn count(
        &self,
        group: usize,
        row: &mut u64,
        counter: &mut Counter<'_>,
    ) -> Result<(), ParquetError> {
        // A file of one's own: clones of one share the position, which threads would move for each
        // other.
        let file = File::open(&self.path)?;
        let reader = SerializedFileReader::new(file.try_clone()?)?;
        let metadata = reader.metadata().row_group(group);
        let rows = usize::try_from(metadata.num_rows())?;
        let pages = pages(file, metadata.column(self.column), rows)?;
        let ColumnReader::ByteArrayColumnReader(mut column) =
            get_column_reader(metadata.schema_descr().column(self.column), pages)
        else {
            return Err(ParquetError::General(
                "the column is no longer one of strings".into(),
            ));
        };
        let mut values: Vec<ByteArray> = Vec::new();
        let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
        let mut begun = false;
        loop {
            values.clear();
            definitions.clear();
            repetitions.clear();
            let (_, read, levels) = column.read_records(
                ROWS,
                Some(&mut definitions),
                Some(&mut repetitions),
                &mut values,
            )?;
            let levels = levels.max(read);
            if levels == 0 {
                return Ok(());
            }
            let mut texts = values.iter();
            for i in 0..levels {
                // Without levels, every value is there and a row of its own.
                let new_row = repetitions.get(i).is_none_or(|level| *level == 0);
                *row += u64::from(new_row && begun);
                begun = true;
                let there = definitions.get(i).is_none_or(|level| *level == self.there);
                match there.then(|| texts.next()).flatten() {
                    Some(text) => counter.caption(text.data(), || Place::Row(*row)),
                    None => counter.missing(),
                }
            }
        }
    }
}

impl Parse for StringColumn {
    fn parse(&self, chunk: &Chunk, counter: &mut Counter<'_>) {
        let group = chunk.first as usize;
        let mut row = self.first_rows.get(group).copied().unwrap_or_default();
        if let Err(error) = self.count(group, &mut row, counter) {
            counter.stop(Stop(
                Place::Row(row),
                format!("row group {group} cannot be read on: {error}"),
            ));
        }
    }
}

/// The pages of a column, unpacked.
///
/// The crate `parquet` unpacks zstd by the C library; here it is told that pages are not packed, and
/// [`Unpacked`] does it, so that no C library is built for this.
fn pages(
    file: File,
    column: &ColumnChunkMetaData,
    rows: usize,
) -> Result<Box<dyn PageReader>, ParquetError> {
    let file = Arc::new(file);
    if !matches!(column.compression(), Compression::ZSTD(_)) {
        return Ok(Box::new(SerializedPageReader::new(
            file, column, rows, None,
        )?));
    }
    let column = column.clone().into_builder();
    let column = column.set_compression(Compression::UNCOMPRESSED).build()?;
    let pages = SerializedPageReader::new(file, &column, rows, None)?;
    Ok(Box::new(Unpacked(pages)))
}

/// Unpacks pages that are packed with zstd.
struct Unpacked(SerializedPageReader<File>);

/// Bytes that a page may have. Writers make them a thousandth of that.
const LONGEST_PAGE: u64 = 1 << 30;

/// Unpacks the bytes of a page from `start` on; levels before that are not packed.
fn unpack(page: &Bytes, start: usize) -> Result<Bytes, ParquetError> {
    let damaged = |what: String| ParquetError::General(format!("a page packed with zstd: {what}"));
    let packed = page
        .get(start..)
        .ok_or_else(|| damaged("it is shorter than its header says".to_owned()))?;
    let mut unpacked = page[..start].to_vec();
    let read = Frames::new(packed)
        .take(LONGEST_PAGE)
        .read_to_end(&mut unpacked)
        .map_err(|error| damaged(error.to_string()))?;
    if read as u64 == LONGEST_PAGE {
        return Err(damaged(format!("it has more than {LONGEST_PAGE} bytes")));
    }
    Ok(unpacked.into())
}

impl PageReader for Unpacked {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let mut page = self.0.get_next_page()?;
        match &mut page {
            Some(Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. }) => {
                *buf = unpack(buf, 0)?;
            }
            Some(Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            }) => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                // A page without values has nothing that is packed.
                if *is_compressed && buf.len() > levels {
                    *buf = unpack(buf, levels)?;
                    *is_compressed = false;
                }
            }
            None => {}
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.0.skip_next_page()
    }
}

impl Iterator for Unpacked {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

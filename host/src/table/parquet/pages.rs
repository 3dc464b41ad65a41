//! The pages of one column of a row group: found, bounded, decompressed.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use ruzstd::decoding::FrameDecoder;

use super::super::TableError;
use super::super::source::Source;
use super::compact::{ABSENT, PageHeader, page_header};

/// The largest page, before and after it is decompressed; writers make pages of 1 MiB, plus one row.
const MAX_PAGE: usize = 64 << 20;

/// Bytes in which a page's header is looked for. It may hold a column's smallest and largest value.
const HEADERS: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// What a decoded text of a dictionary takes, beside its page; a number takes what it takes there.
const TEXT: usize = 32;

type Result<T> = std::result::Result<T, ParquetError>;

/// What the pages of one file may take together.
pub(super) struct Budget {
    held: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }

    /// What they take now, in bytes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Result<Held> {
        let update = |held: usize| held.checked_add(bytes).filter(|&all| all <= self.limit);
        match self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(_) => Ok(Held { budget: Arc::clone(self), bytes }),
            Err(_) => Err(passed_on(TableError::TooMuch {
                what: "bytes of pages that are needed at once".into(),
                limit: self.limit as u64,
            })),
        }
    }
}

struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A page's bytes, counted for as long as anything refers to them.
struct Counted {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An error of ours on its way through the crate.
fn passed_on(error: TableError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

fn damaged(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

/// An error if pages that are compressed so cannot be read.
pub(super) fn check_codec(codec: Compression) -> std::result::Result<(), TableError> {
    let name = match codec {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => return Ok(()),
        Compression::LZO => "LZO",
        Compression::BROTLI(_) => "Brotli",
        Compression::LZ4 | Compression::LZ4_RAW => "LZ4",
    };
    let reason = format!("it is compressed with {name}; Snappy, Zstandard and gzip are read");
    Err(TableError::Unsupported { format: "Parquet", reason })
}

/// Gives the pages in order.
pub(super) struct Pages {
    source: Arc<Source>,
    at: u64,
    end: u64,
    codec: Compression,
    physical: Physical,
    /// Bytes of a value, where all have as many.
    width: usize,
    zstd: Option<FrameDecoder>,
    budget: Arc<Budget>,
    /// What the decoded dictionary takes. The column's reader has it, and this, for as long as it is there.
    dictionary: Option<Held>,
}

impl Pages {
    pub(super) fn new(source: &Arc<Source>, chunk: &ColumnChunkMetaData, budget: &Arc<Budget>) -> Result<Self> {
        let (at, len) = chunk.byte_range();
        let end = at.checked_add(len).filter(|&end| end <= source.len());
        let end = end.ok_or_else(|| damaged("a column is not within the file"))?;
        let physical = chunk.column_type();
        let width = match physical {
            Physical::INT32 | Physical::FLOAT => 4,
            Physical::INT64 | Physical::DOUBLE => 8,
            Physical::INT96 => 12,
            Physical::FIXED_LEN_BYTE_ARRAY => usize::try_from(chunk.column_descr().type_length())?.max(1),
            // Each text has its length before it.
            Physical::BYTE_ARRAY => 4,
            Physical::BOOLEAN => 1,
        };
        let (source, budget) = (Arc::clone(source), Arc::clone(budget));
        Ok(Self { source, at, end, codec: chunk.compression(), physical, width, zstd: None, budget, dictionary: None })
    }

    /// The next header; `at` is then behind it.
    fn header(&mut self) -> Result<PageHeader> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        for size in HEADERS {
            let mut bytes = vec![0; size.min(left)];
            let count = self.source.read_at(self.at, &mut bytes).map_err(passed_on)?;
            if let Some((header, len)) = page_header(&bytes[..count]) {
                self.at += len as u64;
                return Ok(header);
            }
            if size >= left {
                break;
            }
        }
        Err(damaged("the header of a page does not add up"))
    }

    /// The bytes that follow.
    fn body(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        if self.source.read_at(self.at, &mut bytes).map_err(passed_on)? != len {
            return Err(passed_on(TableError::Changed));
        }
        self.at += len as u64;
        Ok(bytes)
    }

    fn page(&mut self) -> Result<Option<Page>> {
        while self.at < self.end {
            let header = self.header()?;
            let left = self.end - self.at;
            let size = |size: i64| usize::try_from(size).map_err(|_| damaged("a page has no size"));
            let (compressed, uncompressed) = (size(header.compressed)?, size(header.uncompressed)?);
            if compressed as u64 > left {
                return Err(damaged("a page does not fit into its column"));
            }
            if compressed.max(uncompressed) > MAX_PAGE {
                return Err(passed_on(TableError::TooMuch { what: "bytes in a page".into(), limit: MAX_PAGE as u64 }));
            }
            let held = self.budget.take(uncompressed)?;
            let page = match (header.kind, &header) {
                (0, PageHeader { data: Some(numbers), .. }) => {
                    let bytes = self.decompressed(0, compressed, uncompressed, true)?;
                    self.data_page(numbers, bytes, held)?
                }
                (2, PageHeader { dictionary: Some(numbers), .. }) => {
                    let bytes = self.decompressed(0, compressed, uncompressed, true)?;
                    self.dictionary_page(numbers, bytes, held)?
                }
                (3, PageHeader { data_v2: Some(numbers), .. }) => {
                    let levels = count(numbers[5])?.saturating_add(count(numbers[6])?);
                    let bytes = self.decompressed(levels, compressed, uncompressed, numbers[7] != 0)?;
                    self.data_page_v2(numbers, bytes, held)?
                }
                (0 | 2 | 3, _) => return Err(damaged("the header of a page is not of the page's kind")),
                // An index, or what a later version of the format adds: not for readers of values.
                _ => {
                    self.at += compressed as u64;
                    continue;
                }
            };
            return Ok(Some(page));
        }
        Ok(None)
    }

    fn data_page(&self, numbers: &[i64; 8], bytes: Vec<u8>, held: Held) -> Result<Page> {
        let levels = encoding(numbers[3])?;
        if levels != Encoding::RLE {
            return Err(damaged("its levels are not run-length encoded"));
        }
        Ok(Page::DataPage {
            buf: counted(bytes, held),
            num_values: short(numbers[1])?,
            encoding: self.values_encoding(numbers[2])?,
            def_level_encoding: levels,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })
    }

    fn data_page_v2(&self, numbers: &[i64; 8], bytes: Vec<u8>, held: Held) -> Result<Page> {
        let (values, nulls) = (short(numbers[1])?, short(numbers[2])?);
        if nulls > values {
            return Err(damaged("a page has more nulls than values"));
        }
        Ok(Page::DataPageV2 {
            buf: counted(bytes, held),
            num_values: values,
            encoding: self.values_encoding(numbers[4])?,
            num_nulls: nulls,
            num_rows: short(numbers[3])?,
            def_levels_byte_len: short(numbers[5])?,
            rep_levels_byte_len: short(numbers[6])?,
            is_compressed: false,
            statistics: None,
        })
    }

    fn dictionary_page(&mut self, numbers: &[i64; 8], bytes: Vec<u8>, held: Held) -> Result<Page> {
        if self.dictionary.is_some() {
            return Err(damaged("a column has two dictionaries"));
        }
        let (values, encoding) = (short(numbers[1])?, encoding(numbers[2])?);
        if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return Err(damaged(&format!("a dictionary is encoded as {encoding}")));
        }
        // Room is made for as many entries as it says.
        if values as usize > bytes.len() / self.width {
            return Err(damaged("a dictionary says to have more values than fit into it"));
        }
        let is_text = matches!(self.physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
        let decoded = (values as usize).saturating_mul(if is_text { TEXT } else { self.width });
        self.dictionary = Some(self.budget.take(decoded)?);
        Ok(Page::DictionaryPage { buf: counted(bytes, held), num_values: values, encoding, is_sorted: false })
    }

    /// The encoding of a page's values, if it is one that sets no more memory aside than the page has.
    fn values_encoding(&self, number: i64) -> Result<Encoding> {
        let encoding = encoding(number)?;
        let is_read = match encoding {
            Encoding::PLAIN | Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY | Encoding::BYTE_STREAM_SPLIT => {
                true
            }
            Encoding::RLE => self.physical == Physical::BOOLEAN,
            _ => false,
        };
        if is_read {
            return Ok(encoding);
        }
        let reason = format!("its values are encoded as {encoding}; plain ones and dictionaries are read");
        Err(passed_on(TableError::Unsupported { format: "Parquet", reason }))
    }

    /// The next `compressed` bytes as the `uncompressed` ones that they stand for; `plain` of them are at the beginning,
    /// as they are.
    fn decompressed(
        &mut self,
        plain: usize,
        compressed: usize,
        uncompressed: usize,
        is_compressed: bool,
    ) -> Result<Vec<u8>> {
        let input = self.body(compressed)?;
        if self.codec == Compression::UNCOMPRESSED || !is_compressed {
            return if input.len() == uncompressed { Ok(input) } else { Err(damaged("a page has two sizes")) };
        }
        if plain > input.len() || plain > uncompressed {
            return Err(damaged("the levels of a page do not fit into it"));
        }
        let (levels, input) = input.split_at(plain);
        let mut bytes = Vec::with_capacity(uncompressed);
        bytes.extend_from_slice(levels);
        // A page of nulls has no values to compress.
        if uncompressed > plain {
            bytes.resize(uncompressed, 0);
            let filled =
                self.fill(input, &mut bytes[plain..]).ok_or_else(|| damaged("a page cannot be decompressed"))?;
            if filled != uncompressed - plain {
                return Err(damaged("a page is decompressed to another size than it says"));
            }
        }
        Ok(bytes)
    }

    /// Decompresses into `to`, which is never left, and answers with the bytes that came; none if they do not fit.
    fn fill(&mut self, input: &[u8], to: &mut [u8]) -> Option<usize> {
        match self.codec {
            Compression::SNAPPY => snap::raw::Decoder::new().decompress(input, to).ok(),
            Compression::GZIP(_) => {
                let mut decoder = flate2::read::MultiGzDecoder::new(input);
                let mut filled = 0;
                while filled < to.len() {
                    match decoder.read(&mut to[filled..]).ok()? {
                        0 => break,
                        count => filled += count,
                    }
                }
                let mut more = [0];
                (decoder.read(&mut more).ok()? == 0).then_some(filled)
            }
            Compression::ZSTD(_) => {
                let decoder = match &mut self.zstd {
                    Some(decoder) => decoder,
                    none => {
                        let mut decoder = FrameDecoder::new();
                        // Only from the second frame on does it check how large a window is asked for.
                        decoder.init(EMPTY_FRAME).ok()?;
                        none.insert(decoder)
                    }
                };
                decoder.decode_all(input, to).ok()
            }
            _ => None,
        }
    }
}

/// A Zstandard frame of no bytes.
const EMPTY_FRAME: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 1, 0, 0];

fn counted(bytes: Vec<u8>, held: Held) -> Bytes {
    Bytes::from_owner(Counted { bytes, _held: held })
}

/// A number of a header that must be there.
fn count(number: i64) -> Result<usize> {
    usize::try_from(number).map_err(|_| damaged("the header of a page lacks a number"))
}

fn short(number: i64) -> Result<u32> {
    u32::try_from(number).map_err(|_| damaged("the header of a page lacks a number"))
}

/// The encoding of this number, as `parquet.thrift` has it.
fn encoding(number: i64) -> Result<Encoding> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        ABSENT => return Err(damaged("a page has no encoding")),
        other => return Err(damaged(&format!("a page has the encoding {other}, which is not known"))),
    })
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(damaged("pages are only read in order"))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(damaged("pages are only read in order"))
    }
}

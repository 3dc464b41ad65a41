//! Parquet's values → booleans, integers, numbers and texts.

use std::fmt::Write;
use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescriptor;

use super::super::{Kind, TableError};
use crate::row::{Cells, Column};

/// What becomes of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    Boolean,
    Integer,
    Unsigned,
    Number,
    HalfNumber,
    Text,
    /// Days since 1970 → `2024-01-31`.
    Date,
    /// Ticks since 1970 → `2024-01-31T12:00:00.5`, with this many ticks a second and `+00:00` if it is in UTC.
    Timestamp {
        ticks: i64,
        is_utc: bool,
    },
    /// Digits → a number with this many of them after the point.
    Decimal {
        scale: u32,
    },
}

/// Digits of a decimal after its point: what fits sixteen bytes.
const MAX_SCALE: u32 = 38;

impl Conversion {
    /// What is to be done with the column, or why nothing can be.
    pub(super) fn of(column: &ColumnDescriptor) -> Result<Self, String> {
        use ConvertedType as C;
        let (physical, converted) = (column.physical_type(), column.converted_type());
        let refuse = |what: &str| Err(format!("{what}, which is not read"));
        let timestamp = |unit: &TimeUnit, is_utc| {
            let ticks = match unit {
                TimeUnit::MILLIS => 1_000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            };
            Conversion::Timestamp { ticks, is_utc }
        };
        let by_type = match (column.logical_type_ref(), converted) {
            (Some(LogicalType::Date), _) | (None, C::DATE) => Some(Conversion::Date),
            (Some(LogicalType::Timestamp(t)), _) => Some(timestamp(&t.unit, t.is_adjusted_to_u_t_c)),
            (None, C::TIMESTAMP_MILLIS) => Some(timestamp(&TimeUnit::MILLIS, true)),
            (None, C::TIMESTAMP_MICROS) => Some(timestamp(&TimeUnit::MICROS, true)),
            (Some(LogicalType::Decimal(_)), _) | (None, C::DECIMAL) => {
                let scale = u32::try_from(column.type_scale()).ok().filter(|&scale| scale <= MAX_SCALE);
                Some(Conversion::Decimal { scale: scale.ok_or("a decimal of more than 38 digits, which is not read")? })
            }
            (Some(LogicalType::Integer(t)), _) if !t.is_signed => Some(Conversion::Unsigned),
            (None, C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64) => Some(Conversion::Unsigned),
            (Some(LogicalType::Float16), _) => Some(Conversion::HalfNumber),
            (Some(LogicalType::Time(_)), _) | (None, C::TIME_MILLIS | C::TIME_MICROS) => {
                return refuse("a time of day");
            }
            (None, C::INTERVAL) => return refuse("a span of time"),
            (Some(LogicalType::Uuid), _) => return refuse("a UUID in bytes"),
            (Some(LogicalType::Bson), _) | (None, C::BSON) => return refuse("BSON"),
            (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json | LogicalType::Integer(_)), _)
            | (Some(LogicalType::Unknown) | None, _) => None,
            (Some(other), _) => return refuse(&format!("of type {other:?}")),
        };
        Ok(match (physical, by_type) {
            (Physical::BOOLEAN, None) => Conversion::Boolean,
            (Physical::INT32 | Physical::INT64, None) => Conversion::Integer,
            (Physical::INT32 | Physical::INT64, Some(Conversion::Unsigned)) => Conversion::Unsigned,
            (Physical::INT32, Some(Conversion::Date)) => Conversion::Date,
            (Physical::INT64, Some(timestamp @ Conversion::Timestamp { .. })) => timestamp,
            // Nanoseconds, as older versions of Spark write them.
            (Physical::INT96, None) => Conversion::Timestamp { ticks: 1_000_000_000, is_utc: false },
            (Physical::FLOAT | Physical::DOUBLE, None) => Conversion::Number,
            // Without a type, these are texts in what Hive and Impala write; what is not UTF-8 is refused cell by cell.
            (Physical::BYTE_ARRAY, None) => Conversion::Text,
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(Conversion::HalfNumber)) if column.type_length() == 2 => {
                Conversion::HalfNumber
            }
            (Physical::INT32 | Physical::INT64 | Physical::BYTE_ARRAY, Some(decimal @ Conversion::Decimal { .. })) => {
                decimal
            }
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(decimal @ Conversion::Decimal { .. }))
                if column.type_length() > 0 =>
            {
                decimal
            }
            (Physical::FIXED_LEN_BYTE_ARRAY, None) => return refuse("bytes of fixed length"),
            (physical, _) => return refuse(&format!("of a type that does not go with {physical}")),
        })
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Conversion::Boolean => Kind::Boolean,
            Conversion::Integer | Conversion::Unsigned => Kind::Integer,
            Conversion::Number | Conversion::HalfNumber => Kind::Number,
            Conversion::Text | Conversion::Date | Conversion::Timestamp { .. } | Conversion::Decimal { .. } => {
                Kind::Text
            }
        }
    }

    fn integer(self, value: i64) -> Result<i64, String> {
        match self {
            // Stored with the bits of a signed one; of 32 bits they were taken apart before.
            Conversion::Unsigned if value < 0 => {
                Err(format!("{} does not fit 64 bits with a sign", value.cast_unsigned()))
            }
            _ => Ok(value),
        }
    }

    fn text(self, value: i64) -> Result<String, String> {
        match self {
            Conversion::Date => Ok(date(value)),
            Conversion::Timestamp { ticks, is_utc } => Ok(timestamp(value, ticks, is_utc)),
            Conversion::Decimal { scale } => Ok(decimal(value.into(), scale)),
            _ => Err("is not a text".into()),
        }
    }

    fn text_of_bytes(self, bytes: &[u8]) -> Result<String, String> {
        let Conversion::Decimal { scale } = self else {
            return str::from_utf8(bytes).map(str::to_owned).map_err(|_| "the bytes are not UTF-8".into());
        };
        // Big-endian, in two's complement.
        let first = *bytes.first().ok_or("a decimal without digits")?;
        if bytes.len() > 16 {
            return Err("a decimal of more than sixteen bytes".into());
        }
        let mut all = [if first >= 128 { 0xff } else { 0 }; 16];
        all[16 - bytes.len()..].copy_from_slice(bytes);
        Ok(decimal(i128::from_be_bytes(all), scale))
    }
}

/// The digits, `scale` of them after the point.
fn decimal(unscaled: i128, scale: u32) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Days since 1970 as ISO 8601 has them, in the Gregorian calendar before its time, too.
fn date(days: i64) -> String {
    // Eras of 400 years, counted from March, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    if (0..=9999).contains(&year) {
        return format!("{year:04}-{month:02}-{day:02}");
    }
    format!("{year:+05}-{month:02}-{day:02}")
}

/// Ticks since 1970 as `pandas.Timestamp.isoformat` has them: the fraction is left out where it is none, and else has
/// six digits, or nine where it needs them.
fn timestamp(value: i64, ticks: i64, is_utc: bool) -> String {
    let (seconds, rest) = (value.div_euclid(ticks), value.rem_euclid(ticks));
    let nanos = rest * (1_000_000_000 / ticks);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let mut text = date(days);
    // Writing to a string cannot fail.
    let _ = write!(text, "T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let _ = match (nanos, nanos % 1000) {
        (0, _) => Ok(()),
        (_, 0) => write!(text, ".{:06}", nanos / 1000),
        _ => write!(text, ".{nanos:09}"),
    };
    if is_utc {
        text.push_str("+00:00");
    }
    text
}

/// Why a column could not be decoded.
pub(super) enum DecodeError {
    /// Its pages are damaged, or an error of ours came through the crate.
    Page(ParquetError),
    /// A value of it, by its row among those decoded, has no place in a column.
    Cell { at: usize, reason: String },
}

impl From<ParquetError> for DecodeError {
    fn from(error: ParquetError) -> Self {
        DecodeError::Page(error)
    }
}

/// A column with some decoded rows that were not taken yet.
pub(super) struct Decoded {
    reader: ColumnReader,
    /// For each row, 1 if it has a value; empty if all have.
    levels: Vec<i16>,
    /// The values of the rows that have one.
    values: Values,
    next: usize,
}

enum Values {
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Texts(Vec<String>),
}

impl Decoded {
    pub(super) fn new(reader: ColumnReader) -> Self {
        Self { reader, levels: Vec::new(), values: Values::Booleans(Vec::new()), next: 0 }
    }

    /// Decodes this many more rows, when those before were taken.
    pub(super) fn decode(&mut self, rows: usize, conversion: &Conversion) -> Result<(), DecodeError> {
        self.levels.clear();
        self.next = 0;
        let levels = &mut self.levels;
        let conversion = *conversion;
        let is_text = conversion.kind() == Kind::Text;
        self.values = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => Values::Booleans(read(reader, rows, levels)?),
            ColumnReader::Int32ColumnReader(reader) => {
                let values = read(reader, rows, levels)?.into_iter();
                let values = values.map(|v: i32| match conversion {
                    Conversion::Unsigned => i64::from(v.cast_unsigned()),
                    _ => i64::from(v),
                });
                integers(values.collect(), is_text, conversion, levels)?
            }
            ColumnReader::Int64ColumnReader(reader) => {
                integers(read(reader, rows, levels)?, is_text, conversion, levels)?
            }
            ColumnReader::Int96ColumnReader(reader) => {
                let values = read(reader, rows, levels)?;
                let values = each(&values, levels, |value| nanoseconds(value.data()))?;
                integers(values, is_text, conversion, levels)?
            }
            ColumnReader::FloatColumnReader(reader) => {
                Values::Numbers(read(reader, rows, levels)?.into_iter().map(f64::from).collect())
            }
            ColumnReader::DoubleColumnReader(reader) => Values::Numbers(read(reader, rows, levels)?),
            ColumnReader::ByteArrayColumnReader(reader) => {
                let values = read(reader, rows, levels)?;
                match conversion {
                    Conversion::Decimal { .. } => {
                        Values::Texts(each(&values, levels, |value| conversion.text_of_bytes(value.data()))?)
                    }
                    _ => Values::Bytes(values),
                }
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                let values = read(reader, rows, levels)?;
                if conversion == Conversion::HalfNumber {
                    let half = |bytes: &[u8]| <[u8; 2]>::try_from(bytes).map(|b| half::f16::from_le_bytes(b).to_f64());
                    let number = |value: &parquet::data_type::FixedLenByteArray| {
                        half(value.data()).map_err(|_| "is not of two bytes".to_owned())
                    };
                    Values::Numbers(each(&values, levels, number)?)
                } else {
                    Values::Texts(each(&values, levels, |value| conversion.text_of_bytes(value.data()))?)
                }
            }
        };
        if let Values::Bytes(values) = &self.values {
            // Looked at here, where it is known which row it is.
            each(values, &self.levels, |value| match str::from_utf8(value.data()) {
                Ok(_) => Ok(()),
                Err(_) => Err("the bytes are not UTF-8".into()),
            })?;
        }
        Ok(())
    }

    /// Adds to each row's bytes what the cell of this column takes.
    pub(super) fn add_row_bytes(&self, rows: &mut [usize]) {
        let len = |at: usize| match &self.values {
            Values::Booleans(_) | Values::Integers(_) | Values::Numbers(_) => 0,
            Values::Bytes(v) => v.get(at).map_or(0, ByteArray::len),
            Values::Texts(v) => v.get(at).map_or(0, String::len),
        };
        let fixed = match &self.values {
            Values::Booleans(_) | Values::Integers(_) | Values::Numbers(_) => size_of::<i64>(),
            Values::Bytes(_) | Values::Texts(_) => size_of::<String>(),
        };
        let mut at = 0;
        for (row, bytes) in rows.iter_mut().enumerate() {
            let is_there = self.levels.is_empty() || self.levels.get(row) == Some(&1);
            *bytes += fixed + if is_there { len(at) } else { 0 };
            at += usize::from(is_there);
        }
    }

    /// Moves these rows, which are the next, into `column`.
    pub(super) fn take(&mut self, rows: Range<usize>, column: &mut Column) {
        let first = column.cells.len();
        let levels = &self.levels;
        let is_there = |row: usize| levels.is_empty() || levels.get(row) == Some(&1);
        for (place, row) in rows.clone().enumerate() {
            if !is_there(row) {
                column.nulls.push(u32::try_from(first + place).unwrap_or(u32::MAX));
            }
        }
        let next = &mut self.next;
        let mut at = || {
            *next += 1;
            *next - 1
        };
        let mut places = rows.map(|row| is_there(row).then(&mut at));
        match (&mut column.cells, &mut self.values) {
            (Cells::Booleans(to), Values::Booleans(v)) => to.extend(places.map(|at| at.is_some_and(|at| v[at]))),
            (Cells::Integers(to), Values::Integers(v)) => to.extend(places.map(|at| at.map_or(0, |at| v[at]))),
            (Cells::Numbers(to), Values::Numbers(v)) => to.extend(places.map(|at| at.map_or(0.0, |at| v[at]))),
            (Cells::Texts(to), Values::Bytes(v)) => {
                to.extend(places.map(|at| at.map_or_else(String::new, |at| utf8(&v[at]))))
            }
            (Cells::Texts(to), Values::Texts(v)) => {
                to.extend(places.map(|at| at.map_or_else(String::new, |at| std::mem::take(&mut v[at]))));
            }
            _ => drop(places.next()),
        }
    }
}

fn utf8(value: &ByteArray) -> String {
    str::from_utf8(value.data()).expect("it was checked when it was decoded; this is a bug").to_owned()
}

/// The old form of a timestamp: nanoseconds of the day in two words, and the Julian day. In 64 bits, nanoseconds reach from
/// 1677 to 2262.
fn nanoseconds(words: &[u32]) -> Result<i64, String> {
    let &[low, high, day] = words else { return Err("it is no timestamp of 96 bits".into()) };
    let of_day = i128::from(u64::from(high) << 32 | u64::from(low));
    let days = i128::from(day) - 2_440_588;
    i64::try_from(days * 86_400_000_000_000 + of_day)
        .map_err(|_| "it is a timestamp before 1677 or after 2262, which 96 bits hold and nanoseconds do not".into())
}

fn integers(values: Vec<i64>, is_text: bool, conversion: Conversion, levels: &[i16]) -> Result<Values, DecodeError> {
    if is_text {
        return Ok(Values::Texts(each(&values, levels, |&value| conversion.text(value))?));
    }
    match conversion {
        Conversion::Unsigned => Ok(Values::Integers(each(&values, levels, |&value| conversion.integer(value))?)),
        _ => Ok(Values::Integers(values)),
    }
}

/// Converts each value; an error names its row.
fn each<T, U>(values: &[T], levels: &[i16], convert: impl Fn(&T) -> Result<U, String>) -> Result<Vec<U>, DecodeError> {
    let row = |at: usize| match levels {
        [] => at,
        levels => levels.iter().enumerate().filter(|(_, level)| **level == 1).nth(at).map_or(at, |(row, _)| row),
    };
    let convert = |(at, value)| convert(value).map_err(|reason| DecodeError::Cell { at: row(at), reason });
    values.iter().enumerate().map(convert).collect()
}

/// Reads exactly this many rows.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    levels: &mut Vec<i16>,
) -> Result<Vec<T::T>, ParquetError> {
    let mut values = Vec::new();
    let (read, count, levelled) = reader.read_records(rows, Some(levels), None, &mut values)?;
    let is_whole = read == rows
        && count == values.len()
        && (levels.is_empty() && count == rows || levelled == rows && levels.len() == rows);
    if !is_whole || levels.iter().filter(|&&level| level == 1).count() != count && !levels.is_empty() {
        return Err(ParquetError::General("it has fewer rows than its row group".into()));
    }
    Ok(values)
}

/// A column without rows.
pub(super) fn empty(name: &str, kind: Kind) -> Column {
    let cells = match kind {
        Kind::Boolean => Cells::Booleans(Vec::new()),
        Kind::Integer => Cells::Integers(Vec::new()),
        Kind::Number => Cells::Numbers(Vec::new()),
        Kind::Text => Cells::Texts(Vec::new()),
    };
    Column { name: name.to_owned(), cells, nulls: Vec::new() }
}

/// What a damaged column is told as.
pub(super) fn table_error(error: DecodeError, column: &str, first_row: u64) -> TableError {
    match error {
        DecodeError::Cell { at, reason } => {
            TableError::Cell { row: first_row + at as u64 + 1, column: column.to_owned(), reason }
        }
        DecodeError::Page(ParquetError::External(cause)) => match cause.downcast::<TableError>() {
            Ok(ours) => *ours,
            Err(cause) => damaged(column, &cause.to_string()),
        },
        DecodeError::Page(other) => damaged(column, &other.to_string()),
    }
}

fn damaged(column: &str, reason: &str) -> TableError {
    TableError::Damaged { format: "Parquet", reason: format!("column `{column}`: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        // As `datetime.date.fromordinal(719163 + days)` has them, and numpy's `datetime64` beyond the year 9999.
        let cases = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (19_723, "2024-01-01"),
            (-719_162, "0001-01-01"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected);
        }
        date(i32::MIN.into());
        date(i32::MAX.into());
    }

    #[test]
    fn timestamps_of_96_bits_are_exact_or_refused() {
        let (noon, epoch) = (43_200_000_000_000_u64, 2_440_588);
        let words = |of_day: u64, day: u32| {
            [u32::try_from(of_day & 0xffff_ffff).unwrap(), u32::try_from(of_day >> 32).unwrap(), day]
        };
        assert_eq!(nanoseconds(&words(0, epoch)), Ok(0));
        assert_eq!(nanoseconds(&words(noon, epoch + 1)), Ok(129_600_000_000_000));
        assert_eq!(nanoseconds(&words(noon, epoch - 1)), Ok(-43_200_000_000_000));
        // 9999-12-31 and 0001-01-01, which stand for never.
        for day in [5_373_484, 1_721_426, u32::MAX, 0] {
            assert!(nanoseconds(&words(0, day)).is_err(), "{day}");
        }
    }

    #[test]
    fn ticks_are_timestamps() {
        // As `pandas.Timestamp(value, unit=…).isoformat()` has them.
        let cases = [
            (0, 1_000, false, "1970-01-01T00:00:00"),
            (-1, 1_000, false, "1969-12-31T23:59:59.999000"),
            (1_700_000_000_123_456, 1_000_000, true, "2023-11-14T22:13:20.123456+00:00"),
            (1_700_000_000_123_456_789, 1_000_000_000, false, "2023-11-14T22:13:20.123456789"),
        ];
        for (value, ticks, is_utc, expected) in cases {
            assert_eq!(timestamp(value, ticks, is_utc), expected);
        }
        for ticks in [1_000, 1_000_000, 1_000_000_000] {
            timestamp(i64::MIN, ticks, true);
            timestamp(i64::MAX, ticks, true);
        }
    }

    #[test]
    fn digits_are_decimals() {
        let cases = [(12345, 2, "123.45"), (-5, 2, "-0.05"), (7, 0, "7"), (0, 3, "0.000")];
        for (unscaled, scale, expected) in cases {
            assert_eq!(decimal(unscaled, scale), expected);
        }
        assert_eq!(Conversion::Decimal { scale: 1 }.text_of_bytes(&[0xff, 0x85]).unwrap(), "-12.3");
        assert!(decimal(i128::MIN, 38).starts_with("-1.7014"));
    }
}

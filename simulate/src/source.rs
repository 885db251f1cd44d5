//! Files of lines, plain or compressed by gzip: read a line at a time, so that memory holds what was
//! understood and never the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Much longer than any line of a trace; one without an end must not fill the memory.
const LONGEST_LINE: u64 = 64 * 1024;

/// Why a file cannot be used: where, what, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}: {source}", file.display())]
    Open { file: PathBuf, source: io::Error },
    #[error("{}, line {line}{}: {what}; {fix}", file.display(), column(name))]
    Line { file: PathBuf, line: u32, name: String, what: String, fix: String },
    #[error("{}: {what}; {fix}", file.display())]
    Whole { file: PathBuf, what: String, fix: String },
}

fn column(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(", column {name}") }
}

/// What is wrong with a line, before anybody knows which one it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The column; empty: the line as such.
    pub column: String,
    pub what: String,
    pub fix: String,
}

impl Fault {
    #[must_use]
    pub fn new(column: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { column: column.to_owned(), what: what.into(), fix: fix.into() }
    }
}

/// A file being read, and the number of the line that was read last.
pub struct Lines {
    file: PathBuf,
    reader: Box<dyn BufRead>,
    buffer: Vec<u8>,
    line: u32,
}

impl Lines {
    /// Opens `file`; what begins like gzip is uncompressed, whatever it is called.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn open(file: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Open { file: file.to_owned(), source };
        let mut plain = BufReader::new(File::open(file).map_err(failed)?);
        let packed = plain.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead> =
            if packed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        Ok(Self::of(file, reader))
    }

    /// What `reader` gives, under the name of `file`.
    #[must_use]
    pub fn of(file: &Path, reader: Box<dyn BufRead>) -> Self {
        Self { file: file.to_owned(), reader, buffer: Vec::new(), line: 0 }
    }

    /// The next line that is not blank, without its end; none: that was all.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8, or does not end.
    pub fn next_line(&mut self) -> Result<Option<&str>, ReadError> {
        loop {
            self.buffer.clear();
            let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| ReadError::Open { file: self.file.clone(), source })?;
            if read == 0 {
                return Ok(None);
            }
            self.line = self.line.saturating_add(1);
            if read as u64 == LONGEST_LINE {
                let what = format!("is longer than {LONGEST_LINE} bytes");
                return Err(self.fault(Fault::new("", what, "is this a text file with a job a line?")));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let start = if self.line == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        match std::str::from_utf8(&self.buffer[start..]) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\n', '\r']))),
            Err(_) => Err(self.fault(Fault::new("", "is not UTF-8", "save the file as UTF-8"))),
        }
    }

    /// The number of the line that was read last, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// `fault` in the line that was read last.
    #[must_use]
    pub fn fault(&self, fault: Fault) -> ReadError {
        self.fault_at(self.line, fault)
    }

    #[must_use]
    pub fn fault_at(&self, line: u32, Fault { column, what, fix }: Fault) -> ReadError {
        ReadError::Line { file: self.file.clone(), line, name: column, what, fix }
    }

    #[must_use]
    pub fn whole(&self, what: &str, fix: &str) -> ReadError {
        ReadError::Whole { file: self.file.clone(), what: what.to_owned(), fix: fix.to_owned() }
    }
}

//! Makes readable what others wrote into a message's properties, frame by frame.
//!
//! RabbitMQ hands on whatever bytes a client gives for a property, and nests tables as deep as a frame
//! allows; lapin ends the connection at the first that is no UTF-8. Such a message would come back
//! with every new connection and be the end of that one too, for ever. So a property that is no text
//! is left out before lapin sees it, as are headers of other kinds than plain values; in names where
//! nothing can be left out, what is no text becomes `\u{fffd}`.
//!
//! Pure: bytes in, bytes out. Whatever is not understood is handed on as it is.

/// Of frames: type, channel, size of the payload; and after the payload one byte.
const HEAD: usize = 7;
const END: usize = 1;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Larger ones than a connection here has (`FRAME_MAX`) are nothing that has to be understood.
const MAX_FRAME: usize = 1 << 20;

/// Methods with names that others gave: `basic.return`, `basic.deliver` and `basic.get-ok`.
const NAMED: [([u8; 4], &[Part]); 3] = [
    ([0, 60, 0, 50], &[Part::Bytes(2), Part::Text, Part::Text, Part::Text]),
    ([0, 60, 0, 60], &[Part::Text, Part::Bytes(9), Part::Text, Part::Text]),
    ([0, 60, 0, 71], &[Part::Bytes(9), Part::Text, Part::Text]),
];
/// Of a content header: class, weight and size of the body, before the flags.
const BEFORE_FLAGS: usize = 12;
/// The properties of AMQP's class `basic`, from the highest flag on.
const PROPERTIES: [Part; 14] = [
    Part::Text,     // content type
    Part::Text,     // content encoding
    Part::Table,    // headers
    Part::Bytes(1), // delivery mode
    Part::Bytes(1), // priority
    Part::Text,     // correlation id
    Part::Text,     // reply to
    Part::Text,     // expiration
    Part::Text,     // message id
    Part::Bytes(8), // timestamp
    Part::Text,     // type
    Part::Text,     // user id
    Part::Text,     // app id
    Part::Text,     // cluster id
];

/// Kinds of values in a table that hold further ones.
const NESTED_LIST: u8 = b'A';
const NESTED_TABLE: u8 = b'F';

#[derive(Debug, Clone, Copy)]
enum Part {
    /// A short string: its length in one byte.
    Text,
    /// Its length in four.
    Table,
    Bytes(usize),
}

/// A stream of frames, cut wherever the network cuts it.
#[derive(Default)]
pub(super) struct Frames {
    /// A frame that is not complete yet.
    raw: Vec<u8>,
    /// Bytes of a frame that goes on as it is, and has begun to.
    passing: usize,
}

impl Frames {
    /// Takes what was read, and adds to `out` what can be handed on.
    pub fn take(&mut self, read: &[u8], out: &mut Vec<u8>) {
        self.raw.extend_from_slice(read);
        let mut at = 0;
        while let Some(used) = self.next(at, out) {
            at += used;
        }
        self.raw.drain(..at);
    }

    /// Hands on one frame, or a part of one; how many bytes that were. None: more has to come first.
    fn next(&mut self, at: usize, out: &mut Vec<u8>) -> Option<usize> {
        let rest = &self.raw[at..];
        if self.passing == 0 {
            let (kind, size) = (*rest.first()?, u32::from_be_bytes(*rest.get(3..)?.first_chunk()?));
            let whole = usize::try_from(size).ok()?.saturating_add(HEAD + END);
            if !matches!(kind, METHOD | HEADER) || whole > MAX_FRAME {
                self.passing = whole;
            } else {
                let frame = rest.get(..whole)?;
                hand_on(frame, out);
                return Some(whole);
            }
        }
        let n = self.passing.min(rest.len());
        out.extend_from_slice(&rest[..n]);
        self.passing -= n;
        (n > 0).then_some(n)
    }
}

fn hand_on(frame: &[u8], out: &mut Vec<u8>) {
    let payload = &frame[HEAD..frame.len() - END];
    let readable = if frame[0] == HEADER { header(payload) } else { method(payload) };
    let Some(readable) = readable else { return out.extend_from_slice(frame) };
    out.extend_from_slice(&frame[..3]);
    out.extend_from_slice(&u32::try_from(readable.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&readable);
    out.extend_from_slice(&frame[frame.len() - END..]);
}

/// A content header whose properties are texts and plain values. None: it is no such thing.
fn header(payload: &[u8]) -> Option<Vec<u8>> {
    let (before, mut rest) = payload.split_at_checked(BEFORE_FLAGS)?;
    let flags = u16::from_be_bytes(*take(&mut rest, 2)?.first_chunk()?);
    let (mut kept, mut values) = (flags, Vec::with_capacity(rest.len()));
    for (place, part) in PROPERTIES.into_iter().enumerate() {
        let flag = 1 << (15 - place);
        if flags & flag == 0 {
            continue;
        }
        match part {
            Part::Bytes(n) => values.extend_from_slice(take(&mut rest, n)?),
            Part::Table => put_long(&mut values, &table(take_long(&mut rest)?)),
            Part::Text => match std::str::from_utf8(take_short(&mut rest)?) {
                Ok(text) => put_short(&mut values, text),
                Err(_) => kept &= !flag,
            },
        }
    }
    Some([before, &kept.to_be_bytes(), &values].concat())
}

/// A method with names in it that are texts. None: it has none, or is none.
fn method(payload: &[u8]) -> Option<Vec<u8>> {
    let (id, mut rest) = payload.split_first_chunk::<4>()?;
    let (_, parts) = NAMED.iter().find(|(named, _)| named == id)?;
    let mut readable = id.to_vec();
    for part in *parts {
        match part {
            Part::Bytes(n) => readable.extend_from_slice(take(&mut rest, *n)?),
            Part::Table => put_long(&mut readable, take_long(&mut rest)?),
            Part::Text => put_short(&mut readable, &String::from_utf8_lossy(take_short(&mut rest)?)),
        }
    }
    readable.extend_from_slice(rest);
    Some(readable)
}

/// The plain values of a table whose names are texts; those before the first that cannot be read.
fn table(mut rest: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(rest.len());
    let mut field = || {
        let name = take_short(&mut rest)?;
        let kind = take(&mut rest, 1)?[0];
        let before = rest;
        match kind {
            b't' | b'b' | b'B' => take(&mut rest, 1)?,
            b's' | b'u' => take(&mut rest, 2)?,
            b'I' | b'i' | b'f' => take(&mut rest, 4)?,
            b'D' => take(&mut rest, 5)?,
            b'L' | b'l' | b'd' | b'T' => take(&mut rest, 8)?,
            b'S' | b'x' | NESTED_LIST | NESTED_TABLE => take_long(&mut rest)?,
            b'V' => &[],
            _ => return None,
        };
        let plain = !matches!(kind, NESTED_LIST | NESTED_TABLE);
        let value = &before[..before.len() - rest.len()];
        Some((std::str::from_utf8(name).ok().filter(|_| plain), kind, value))
    };
    while let Some((name, kind, value)) = field() {
        if let Some(name) = name {
            put_short(&mut kept, name);
            kept.push(kind);
            kept.extend_from_slice(value);
        }
    }
    kept
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(taken)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = take(rest, 1)?[0];
    take(rest, usize::from(n))
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = u32::from_be_bytes(*take(rest, 4)?.first_chunk()?);
    take(rest, usize::try_from(n).ok()?)
}

/// What is longer than a short string can be is cut.
fn put_short(to: &mut Vec<u8>, text: &str) {
    let most = text.len().min(usize::from(u8::MAX));
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let text = &text[..end];
    to.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(text.as_bytes());
}

fn put_long(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;

//! Server-sent events from pieces of bytes (WHATWG HTML, "Interpreting an event stream").
//!
//! What must always hold: it does not matter where the network cuts the stream, in the middle of a
//! character or of a line end included.

/// A log event carries a piece of a log; more than this in one event is no event stream.
const MAX_EVENT: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than 16 MiB")]
pub struct TooLarge;

#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_cr: bool,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// Takes a piece and answers the events that it completes.
    ///
    /// # Errors
    /// When an event grows out of all proportion.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for &byte in piece {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line());
                }
                other => {
                    self.after_cr = false;
                    self.line.push(other);
                }
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return self.data.take().map(|data| Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment (keep-alive), `id`, `retry`, or what a later version adds.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    const STREAM: &str = ": keep-alive\n\nevent: log\ndata: {\"text\":\"ä🚢\"}\nid: 7\n\nevent:log\r\ndata:a\r\ndata: b\r\n\r\ndata\n\nevent: nothing\n\nevent: end\rdata: {}\r\r";

    fn expected() -> Vec<Event> {
        vec![
            event("log", "{\"text\":\"ä🚢\"}"),
            event("log", "a\nb"),
            event("message", ""),
            event("end", "{}"),
        ]
    }

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut() {
        let bytes = STREAM.as_bytes();
        for size in 1..=bytes.len() {
            let mut parser = Parser::default();
            let events: Vec<Event> =
                bytes.chunks(size).flat_map(|piece| parser.push(piece).expect("small")).collect();
            assert_eq!(events, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn an_unfinished_event_is_none() {
        assert_eq!(Parser::default().push(b"event: log\ndata: x\n"), Ok(vec![]));
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(Parser::default().push(b"data: \xff\n\n"), Ok(vec![event("message", "\u{fffd}")]));
    }

    #[test]
    fn an_endless_event_is_refused() {
        assert_eq!(Parser::default().push(&vec![b'x'; MAX_EVENT + 1]), Err(TooLarge));
    }
}

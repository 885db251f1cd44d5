//! What a command wrote, as a text of limited length.

use berth_common::command::MAX_OUTPUT;

/// The beginning of what it wrote, to both streams together.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Output {
    pub fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.bytes.len();
        self.truncated |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// As text with `note` at its end, at most [`MAX_OUTPUT`] bytes, and whether something is missing.
    #[must_use]
    pub fn text(self, note: &str) -> (String, bool) {
        // The database takes no NUL in a text; what is no UTF-8 becomes longer than it was.
        let mut text = String::from_utf8_lossy(&self.bytes).replace('\0', "\u{fffd}");
        let room = text.len().min(MAX_OUTPUT.saturating_sub(note.len()));
        let end = (0..=room).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let truncated = self.truncated || end < text.len();
        text.truncate(end);
        text.push_str(note);
        (text, truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_and_said_to_be_one() {
        let mut output = Output::default();
        output.push(b"a\0b");
        assert_eq!(output.text("!"), ("a\u{fffd}b!".into(), false));
        let mut output = Output::default();
        for _ in 0..3 {
            output.push(&[b'x'; MAX_OUTPUT / 2]);
        }
        let (text, truncated) = output.text("");
        assert_eq!((text.len(), truncated), (MAX_OUTPUT, true));
    }

    #[test]
    fn what_is_no_text_is_cut_between_characters() {
        let mut output = Output::default();
        output.push(&[0xff; MAX_OUTPUT]);
        let (text, truncated) = output.text("note");
        assert!(truncated && text.ends_with("note"));
        assert!(text.len() <= MAX_OUTPUT && text.len() > MAX_OUTPUT - 4, "{}", text.len());
    }
}

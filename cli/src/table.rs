//! Tables for people: columns without lines, one line a row, nothing in them that commands the terminal.

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Width, presets};

use crate::output::{colour, escape};

/// A narrower last column says nothing; a terminal that is too small for it breaks the line.
const NARROWEST: u16 = 24;

/// What a cell's colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Busy,
    Bad,
}

pub struct Table {
    inner: comfy_table::Table,
    columns: usize,
    colour: bool,
}

/// One cell: what it says, and in which tone.
pub struct Entry {
    text: String,
    tone: Option<Tone>,
}

impl<T: AsRef<str>> From<T> for Entry {
    fn from(text: T) -> Self {
        // An empty cell would make columns hard to count, for people and for awk.
        let text = if text.as_ref().is_empty() { "-".to_owned() } else { escape(text.as_ref()) };
        Self { text, tone: None }
    }
}

impl Entry {
    #[must_use]
    pub fn toned(text: &str, tone: Option<Tone>) -> Self {
        Self { tone, ..Self::from(text) }
    }
}

impl Table {
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_header(headings);
        // Only the last column is cut to the terminal's width; in a file nothing is.
        let terminal = inner.is_tty();
        if terminal {
            inner.set_content_arrangement(ContentArrangement::Dynamic);
        }
        let colour = colour();
        if !colour {
            inner.force_no_tty();
        }
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2));
            if terminal {
                column.set_constraint(if column.index + 1 < headings.len() {
                    ColumnConstraint::ContentWidth
                } else {
                    ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST))
                });
            }
        }
        Self { inner, columns: headings.len(), colour }
    }

    /// Numbers stand at the right.
    #[must_use]
    pub fn numbers(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.inner.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    pub fn row(&mut self, entries: Vec<Entry>) {
        debug_assert_eq!(entries.len(), self.columns, "one entry a column");
        let cells: Vec<Cell> = entries.into_iter().map(|entry| self.cell(entry)).collect();
        let mut row = Row::from(cells);
        row.max_height(1);
        self.inner.add_row(row);
    }

    fn cell(&self, entry: Entry) -> Cell {
        let cell = Cell::new(entry.text);
        match entry.tone {
            Some(tone) if self.colour => cell.fg(match tone {
                Tone::Good => Color::Green,
                Tone::Busy => Color::Yellow,
                Tone::Bad => Color::Red,
            }),
            Some(_) | None => cell,
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.inner.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_nothing_commands_the_terminal() {
        let mut table = Table::new(&["NAME", "GPUS", "REASON"]).numbers(&[1]);
        table.row(vec!["train".into(), "2".into(), "".into()]);
        table.row(vec![
            "a\x1b[31m\nb".into(),
            "10".into(),
            Entry::toned("waits for 2 GPUs", Some(Tone::Bad)),
        ]);
        table.row(vec!["训练".into(), "1".into(), "x".into()]);
        assert_eq!(
            table.to_string(),
            "NAME            GPUS  REASON\n\
             train              2  -\n\
             a\\u{1b}[31m\\nb    10  waits for 2 GPUs\n\
             训练               1  x"
        );
    }
}

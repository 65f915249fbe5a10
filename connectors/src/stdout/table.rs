//! A table that is written while its rows come in.

use super::cells::{Cell, Kind};
use unicode_width::UnicodeWidthStr;

/// Rows that are waited for before widths are fixed.
const LOOK_AHEAD: usize = 50;
/// No column is made wider than this many terminal cells.
const MAX_WIDTH: usize = 60;

/// Columns and, until the header is written, the rows that decide their widths.
#[derive(Default)]
pub struct Table {
    columns: Vec<Column>,
    waiting: Vec<Vec<Cell>>,
    begun: bool,
    tables: usize,
}

struct Column {
    name: String,
    width: usize,
    right: bool,
}

impl Table {
    pub fn add(&mut self, row: Vec<Cell>, out: &mut Vec<u8>) {
        if self.begun {
            if row.iter().all(|c| self.columns.iter().any(|k| k.name == c.name)) {
                return self.line(&row, out);
            }
            self.columns.clear();
            self.begun = false;
        }
        self.waiting.push(row);
        if self.waiting.len() >= LOOK_AHEAD {
            self.flush(out);
        }
    }

    /// Writes the rows that are held back, and the header before the first.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.waiting.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.waiting);
        for cell in rows.iter().flatten() {
            let width = escaped(&cell.text).width().min(MAX_WIDTH);
            match self.columns.iter_mut().find(|c| c.name == cell.name) {
                Some(c) => {
                    c.width = c.width.max(width);
                    c.right &= cell.kind != Kind::Other;
                }
                None => {
                    let name = cell.name.clone();
                    self.columns.push(Column { width: width.max(escaped(&name).width()), right: cell.kind != Kind::Other, name });
                }
            }
        }
        if self.tables > 0 {
            out.push(b'\n');
        }
        self.tables += 1;
        self.begun = true;
        let header: Vec<&str> = self.columns.iter().map(|c| &*c.name).collect();
        self.write(&header, out);
        let rule: Vec<String> = self.columns.iter().map(|c| "-".repeat(c.width)).collect();
        self.write(&rule.iter().map(|r| &**r).collect::<Vec<_>>(), out);
        for row in rows {
            self.line(&row, out);
        }
    }

    fn line(&self, row: &[Cell], out: &mut Vec<u8>) {
        let texts: Vec<&str> = self.columns.iter().map(|k| row.iter().find(|c| c.name == k.name).map_or("", |c| &*c.text)).collect();
        self.write(&texts, out);
    }

    fn write(&self, texts: &[&str], out: &mut Vec<u8>) {
        let begun = out.len();
        for (i, (column, text)) in self.columns.iter().zip(texts).enumerate() {
            if i > 0 {
                out.extend_from_slice(b"  ");
            }
            let text = escaped(text);
            let pad = column.width.saturating_sub(text.width());
            let (before, after) = if column.right { (pad, 0) } else { (0, pad) };
            out.resize(out.len() + before, b' ');
            out.extend_from_slice(text.as_bytes());
            out.resize(out.len() + after, b' ');
        }
        let end = out[begun..].iter().rposition(|c| *c != b' ').map_or(begun, |i| begun + i + 1);
        out.truncate(end);
        out.push(b'\n');
    }
}

/// Control characters would break the lines: they are shown as escapes.
fn escaped(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect::<String>().into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, &str)]) -> Vec<Cell> {
        cells.iter().map(|(n, t)| Cell { name: (*n).into(), text: (*t).into(), kind: Kind::Other }).collect()
    }

    #[test]
    fn rows_after_the_header_are_written_at_once() {
        let (mut table, mut out) = (Table::default(), vec![]);
        table.add(row(&[("a", "1"), ("b", "x")]), &mut out);
        assert!(out.is_empty());
        table.flush(&mut out);
        table.add(row(&[("b", "wider than before")]), &mut out);
        table.add(row(&[("c", "z")]), &mut out);
        table.flush(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a  b\n-  -\n1  x\n   wider than before\n\nc\n-\nz\n");
    }

    #[test]
    fn many_rows_do_not_wait() {
        let (mut table, mut out) = (Table::default(), vec![]);
        for _ in 0..LOOK_AHEAD {
            table.add(row(&[("a", "1")]), &mut out);
        }
        assert_eq!(out.iter().filter(|c| **c == b'\n').count(), LOOK_AHEAD + 2);
    }
}

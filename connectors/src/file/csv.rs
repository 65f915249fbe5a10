//! CSV as RFC 4180 has it: quoted fields may hold delimiters, doubled quotes and line breaks.

use memchr::{memchr, memchr2};

#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    pub delimiter: u8,
    pub quote: u8,
}

impl Dialect {
    /// Where the first record ends: the index of its line feed. None: it is not whole yet.
    pub fn end(&self, b: &[u8]) -> Option<usize> {
        let mut i = 0;
        loop {
            if b.get(i) == Some(&self.quote) {
                i = self.closing(b, i + 1)?;
            }
            i += memchr2(self.delimiter, b'\n', &b[i..])?;
            if b[i] == b'\n' {
                return Some(i);
            }
            i += 1;
        }
    }

    /// The index behind the quote that closes a field which began before `i`.
    fn closing(&self, b: &[u8], mut i: usize) -> Option<usize> {
        loop {
            i += memchr(self.quote, &b[i..])? + 1;
            if b.get(i) != Some(&self.quote) {
                return Some(i);
            }
            i += 1;
        }
    }

    /// The fields of a record without its line end.
    ///
    /// # Errors
    /// A quote that is not closed, or text behind a closing quote.
    pub fn split(&self, record: &str, fields: &mut Fields) -> Result<(), String> {
        fields.text.clear();
        fields.ends.clear();
        let b = record.as_bytes();
        let mut i = 0;
        loop {
            if b.get(i) == Some(&self.quote) {
                let end = self.closing(b, i + 1).ok_or_else(|| format!("the quote at byte {i} is not closed"))?;
                let mut rest = &record[i + 1..end - 1];
                while let Some(k) = memchr(self.quote, rest.as_bytes()) {
                    fields.text.push_str(&rest[..k + 1]);
                    rest = &rest[k + 2..];
                }
                fields.text.push_str(rest);
                i = end;
                if i < b.len() && b[i] != self.delimiter {
                    return Err(format!("expected `{}` or the end of the line behind the quote at byte {}", self.delimiter as char, i - 1));
                }
            } else {
                let end = memchr(self.delimiter, &b[i..]).map_or(b.len(), |k| i + k);
                fields.text.push_str(&record[i..end]);
                i = end;
            }
            fields.ends.push(fields.text.len());
            if i == b.len() {
                return Ok(());
            }
            i += 1;
        }
    }
}

/// The unquoted fields of one record, reused from record to record.
#[derive(Default)]
pub struct Fields {
    text: String,
    ends: Vec<usize>,
}

impl Fields {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, i: usize) -> &str {
        let from = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[from..self.ends[i]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Dialect = Dialect { delimiter: b',', quote: b'"' };

    #[test]
    fn records_and_fields() {
        let cases: &[(&str, usize, &[&str])] = &[
            ("a,b,c\nx", 5, &["a", "b", "c"]),
            ("\n", 0, &[""]),
            ("a,,\n", 3, &["a", "", ""]),
            ("\"a,\n\"\"b\",c\n", 10, &["a,\n\"b", "c"]),
            ("\"\"\n", 2, &[""]),
            ("\"\"\"\"\n", 4, &["\""]),
            ("it\"s,b\n", 6, &["it\"s", "b"]),
            ("é,\"ü\"\n", 7, &["é", "ü"]),
        ];
        let mut fields = Fields::default();
        for (text, end, want) in cases {
            assert_eq!(D.end(text.as_bytes()), Some(*end), "{text:?}");
            D.split(&text[..*end], &mut fields).unwrap();
            assert_eq!(fields.iter().collect::<Vec<_>>(), *want, "{text:?}");
        }
        for half in ["a,b", "\"a\n", "\"a\"", "\"a\"\"", ""] {
            assert_eq!(D.end(half.as_bytes()), None, "{half:?}");
        }
        assert_eq!(D.split("\"a", &mut fields), Err("the quote at byte 0 is not closed".into()));
        assert_eq!(D.split("\"a\"b,c", &mut fields), Err("expected `,` or the end of the line behind the quote at byte 2".into()));
    }
}

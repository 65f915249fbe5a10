//! Text in other encodings than UTF-8, decoded where it enters.

use encoding_rs::{Encoding, UTF_8};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{BatchBuilder, Place, Problem, Span};
use std::borrow::Cow;

const COMMON: &[&str] =
    &["utf-8", "gb18030", "gbk", "big5", "euc-jp", "shift_jis", "euc-kr", "iso-8859-1", "windows-1252", "utf-16le", "utf-16be"];

/// How a source's bytes become text. UTF-8 passes unread: parsers check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Default for Charset {
    fn default() -> Self {
        Charset(UTF_8)
    }
}

impl Charset {
    /// Reads a label of the WHATWG encoding standard, such as `gb18030`.
    ///
    /// # Errors
    /// `unknown-charset` at the config key `charset`.
    pub fn parse(label: &str) -> Result<Charset, Problem> {
        Encoding::for_label_no_replacement(label.as_bytes()).map(Charset).ok_or_else(|| {
            Problem::error("unknown-charset", Place::at(["charset"]), format!("unknown charset `{label}`"))
                .hint("use a label of the WHATWG encoding standard, like utf-8, gb18030, big5, shift_jis or windows-1252")
                .suggest(did_you_mean(label, COMMON.iter().copied()))
        })
    }

    /// Whether a line feed is the byte 0x0A and nothing else is.
    pub fn has_lines(self) -> bool {
        self.0.is_ascii_compatible()
    }

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The text, or None where the bytes are not valid in this charset.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        self.0.decode_without_bom_handling_and_without_replacement(bytes)
    }

    /// Whether bytes pass as they are.
    pub fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }

    /// Pushes bytes as `_value`, decoded, and gives the span of the original bytes for [`millrace_sdk::Meta::raw`].
    ///
    /// # Errors
    /// The bytes are not valid in this charset; nothing has been pushed.
    pub fn push(self, bytes: &[u8], rows: &mut BatchBuilder) -> Result<Span, String> {
        if self.0 == UTF_8 {
            return Ok(rows.push_line(bytes));
        }
        let text = self.decode(bytes).ok_or_else(|| format!("the bytes are not valid {}", self.0.name()))?;
        rows.push_line(text.as_bytes());
        let off = rows.begin_text();
        rows.text_mut().extend_from_slice(bytes);
        Ok(Span { off: off as u32, len: bytes.len() as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{Field, Meta, Schema, Type, Val};

    #[test]
    fn decodes_and_keeps_the_original() {
        let schema = Schema::new(vec![Field::new("_value", Type::Bytes)]);
        for (label, bytes, text) in [
            ("utf-8", &b"a\xe4\xb8\xad"[..], Some(&b"a\xe4\xb8\xad"[..])),
            ("UTF-8", b"\xff", Some(b"\xff")),
            ("gb18030", b"\xd6\xd0\xce\xc4", Some("中文".as_bytes())),
            ("gbk", b"\xd6\xd0\xff", None),
            ("shift_jis", b"\x93\xfa", Some("日".as_bytes())),
            ("latin1", b"caf\xe9", Some("café".as_bytes())),
        ] {
            let charset = Charset::parse(label).unwrap();
            let mut rows = BatchBuilder::new(schema.clone());
            match (charset.push(bytes, &mut rows), text) {
                (Ok(raw), Some(text)) => {
                    rows.end_source_row(Meta { raw, ..Meta::default() });
                    let batch = rows.finish();
                    assert_eq!(batch.row(0).get(millrace_sdk::Slot(0)), Val::Bytes(text), "{label}");
                    assert_eq!(batch.row(0).original(), Some(bytes), "{label}");
                }
                (Err(e), None) => assert!(e.contains("not valid") && rows.pending() == 0, "{e}"),
                (got, want) => panic!("{label}: {got:?} for {want:?}"),
            }
        }
        assert_eq!(Charset::parse("gb18300").unwrap_err().suggestion.as_deref(), Some("gb18030"));
        assert!(!Charset::parse("utf-16le").unwrap().has_lines());
    }
}

//! Character sets of sources: bytes in any encoding of the WHATWG list to UTF-8.

use encoding_rs::{Encoding, UTF_8};

/// A text that is not of its charset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharsetError {
    /// "bytes that are not gb18030".
    pub message: String,
}

/// Decodes records of one charset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Charset {
    encoding: &'static Encoding,
}

impl Default for Charset {
    fn default() -> Charset {
        Charset { encoding: UTF_8 }
    }
}

impl Charset {
    /// By a label of the Encoding Standard, in any case: `utf-8`, `gb18030`, `gbk`, `big5`, `shift_jis`, `euc-kr`, `windows-1252`, and
    /// `latin1` (which that standard reads as windows-1252).
    ///
    /// # Errors
    /// A sentence that names the label.
    pub fn parse(label: &str) -> Result<Charset, String> {
        match Encoding::for_label_no_replacement(label.as_bytes()) {
            Some(encoding) => Ok(Charset { encoding }),
            None => Err(format!("unknown charset `{label}`: for example utf-8, gb18030, gbk, big5, shift_jis, windows-1252")),
        }
    }

    /// The standard's name of it.
    pub fn name(&self) -> &'static str {
        self.encoding.name()
    }

    /// Whether bytes pass as they are; what is not UTF-8 is then found where the text is parsed.
    pub fn is_utf8(&self) -> bool {
        self.encoding == UTF_8
    }

    /// Whether a newline byte in a text is always a newline, so that lines can be cut before they are decoded. UTF-16 is not so.
    pub fn is_ascii_compatible(&self) -> bool {
        self.encoding.is_ascii_compatible()
    }

    /// Appends the text as UTF-8. A byte order mark is no text.
    ///
    /// # Errors
    /// Bytes that the charset does not have; `out` is as it was before.
    pub fn decode(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CharsetError> {
        if self.is_utf8() && simdutf8::basic::from_utf8(bytes).is_ok() {
            out.extend_from_slice(bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes));
            return Ok(());
        }
        let mut decoder = self.encoding.new_decoder_with_bom_removal();
        let begun = out.len();
        let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(usize::MAX / 4);
        out.resize(begun + room, 0);
        let (result, _, written) = decoder.decode_to_utf8_without_replacement(bytes, &mut out[begun..], true);
        if result != encoding_rs::DecoderResult::InputEmpty {
            out.truncate(begun);
            return Err(CharsetError { message: format!("the bytes are not {}", self.name()) });
        }
        out.truncate(begun + written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        let cases: &[(&str, &[u8], Option<&str>)] = &[
            ("utf-8", "aé中".as_bytes(), Some("aé中")),
            ("UTF-8", b"\xef\xbb\xbfx", Some("x")),
            ("utf8", b"a\xff", None),
            ("gb18030", &[0xd6, 0xd0, 0xce, 0xc4, b'\t', b'x'], Some("中文\tx")),
            ("gbk", &[0xd6, 0xd0], Some("中")),
            ("gb18030", &[0xd6], None),
            ("latin1", &[0xe9, b'a'], Some("éa")),
            ("shift_jis", &[0x93, 0xfa], Some("日")),
            ("utf-16le", &[b'a', 0, 0x2d, 0x4e], Some("a中")),
            ("gb18030", b"", Some("")),
        ];
        for (label, bytes, want) in cases {
            let charset = Charset::parse(label).unwrap();
            let mut out = b"before".to_vec();
            let got = charset.decode(bytes, &mut out).ok().map(|()| std::str::from_utf8(&out[6..]).unwrap());
            assert_eq!(got, *want, "{label}");
            assert!(want.is_some() || out == b"before");
        }
        assert!(Charset::parse("klingon").is_err());
        assert!(Charset::parse("replacement").is_err());
        assert!(!Charset::parse("utf-16le").unwrap().is_ascii_compatible());
        assert!(Charset::default().is_utf8());
    }

    #[test]
    fn long_texts_decode_whole() {
        let bytes: Vec<u8> = [0xd6, 0xd0].repeat(100_000);
        let mut out = vec![];
        Charset::parse("gb18030").unwrap().decode(&bytes, &mut out).unwrap();
        assert_eq!(out, "中".repeat(100_000).as_bytes());
    }
}

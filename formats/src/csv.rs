//! CSV out: RFC 4180 rows of the visible fields.

use millrace_sdk as sdk;
use sdk::convert::write_scalar;
use sdk::json::write_val;
use sdk::{Record, Schema, Slot, Val};

/// Writes rows of one schema.
///
/// A field is quoted when it holds the delimiter, a quote, a carriage return or a newline, or begins or ends with a space; quotes inside
/// are doubled. Missing and null are empty, an empty text is `""`. Maps, arrays and what is left of an open row are JSON texts, bytes are
/// text if they are UTF-8, else base64. Rows end with a newline.
#[derive(Clone, Debug)]
pub struct CsvWriter {
    columns: Vec<(Slot, String)>,
    delimiter: u8,
    text: Vec<u8>,
}

impl CsvWriter {
    /// `delimiter`: one ASCII character that is neither a quote nor a line break; the caller has checked it.
    pub fn new(schema: &Schema, delimiter: u8) -> CsvWriter {
        let columns = schema.visible().map(|(slot, f)| (slot, f.name.to_string())).collect();
        CsvWriter { columns, delimiter, text: vec![] }
    }

    /// Appends the names of the columns.
    pub fn header(&self, out: &mut Vec<u8>) {
        for (i, (_, name)) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            self.field(name.as_bytes(), out);
        }
        out.push(b'\n');
    }

    /// Appends a row.
    pub fn row(&mut self, row: &Record<'_>, out: &mut Vec<u8>) {
        for i in 0..self.columns.len() {
            if i > 0 {
                out.push(self.delimiter);
            }
            match row.get(self.columns[i].0) {
                Val::Missing | Val::Null => {}
                Val::Str(t) => self.field(t.as_bytes(), out),
                value => {
                    let mut text = std::mem::take(&mut self.text);
                    text.clear();
                    match value {
                        Val::Json(_) | Val::Split(..) => write_val(value, &mut text),
                        Val::Bytes(b) if simdutf8::basic::from_utf8(b).is_err() => {
                            use base64::Engine;
                            text.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(b).as_bytes());
                        }
                        value => write_scalar(value, &mut text),
                    }
                    self.field(&text, out);
                    self.text = text;
                }
            }
        }
        out.push(b'\n');
    }

    fn field(&self, text: &[u8], out: &mut Vec<u8>) {
        let plain = |c: &u8| *c != self.delimiter && !matches!(c, b'"' | b'\n' | b'\r');
        if !text.is_empty() && text[0] != b' ' && text[text.len() - 1] != b' ' && text.iter().all(plain) {
            return out.extend_from_slice(text);
        }
        out.push(b'"');
        for part in text.split_inclusive(|c| *c == b'"') {
            out.extend_from_slice(part);
            if part.ends_with(b"\"") {
                out.push(b'"');
            }
        }
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sdk::{Batch, BatchBuilder, Field, Meta, Type};

    fn batch(values: &[Val<'_>]) -> Batch {
        let fields = (0..values.len()).map(|i| Field::new(format!("c{i}"), Type::Any)).chain([Field::hidden("_h", Type::Any)]).collect();
        let mut b = BatchBuilder::new(Schema::new(fields));
        values.iter().for_each(|v| b.push_val(*v));
        b.push_missing();
        b.end_row(Meta::default());
        b.finish()
    }

    fn write(values: &[Val<'_>]) -> String {
        let b = batch(values);
        let mut out = vec![];
        CsvWriter::new(b.schema(), b',').row(&b.row(0), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows() {
        let cases: &[(&[Val<'_>], &str)] = &[
            (&[Val::Str("a"), Val::Int(-1), Val::Null, Val::Missing, Val::Bool(true)], "a,-1,,,true\n"),
            (
                &[Val::Str(""), Val::Str("a,b"), Val::Str("a\"b"), Val::Str("a\nb"), Val::Str(" a")],
                "\"\",\"a,b\",\"a\"\"b\",\"a\nb\",\" a\"\n",
            ),
            (
                &[Val::Num("1.10"), Val::Float(0.5), Val::Time(0), Val::Bytes(b"x"), Val::Bytes(b"\xff")],
                "1.10,0.5,1970-01-01T00:00:00Z,x,/w==\n",
            ),
            (&[Val::Json("{\"a\":[1]}"), Val::Split("k=v", b'|', b'=')], "\"{\"\"a\"\":[1]}\",\"{\"\"k\"\":\"\"v\"\"}\"\n"),
        ];
        for (values, want) in cases {
            assert_eq!(write(values), *want);
        }
        let b = batch(&[Val::Null, Val::Null]);
        let mut out = vec![];
        CsvWriter::new(b.schema(), b';').header(&mut out);
        assert_eq!(out, b"c0;c1\n");
    }

    proptest! {
        #[test]
        fn an_independent_reader_reads_it_back(texts in proptest::collection::vec("[a,\"\n\r é]{0,8}", 1..6)) {
            let values: Vec<_> = texts.iter().map(|t| Val::Str(t)).collect();
            let line = write(&values);
            let (mut reader, mut fields, mut field) = (csv_core::Reader::new(), vec![], vec![]);
            let (mut input, mut buffer) = (line.as_bytes(), [0; 64]);
            loop {
                let (result, read, written) = reader.read_field(input, &mut buffer);
                input = &input[read..];
                field.extend_from_slice(&buffer[..written]);
                match result {
                    csv_core::ReadFieldResult::Field { .. } => fields.push(String::from_utf8(std::mem::take(&mut field)).unwrap()),
                    csv_core::ReadFieldResult::End => break,
                    _ => {}
                }
            }
            prop_assert_eq!(fields, texts);
        }
    }
}

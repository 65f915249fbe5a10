//! Messages of the language server protocol: a header with the length, and JSON.

use serde_json::Value;
use std::io::{BufRead, Read, Write};

/// Longest message, bytes.
const MAX: usize = 64 << 20;

/// The next message; None at the end of the input or after a header that is none. Err: it is no JSON.
pub fn read(input: &mut impl BufRead) -> Option<Result<Value, String>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if input.by_ref().take(1 << 16).read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let length = length.filter(|n| *n <= MAX)?;
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).map_err(|e| e.to_string()))
}

/// Writes a message; a client that has gone is noticed by the reader.
pub fn write(out: &mut impl Write, message: &Value) {
    let body = message.to_string();
    let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let mut bytes = vec![];
        let a = serde_json::json!({"a": "é"});
        write(&mut bytes, &a);
        bytes.extend(b"content-length: 3\r\nContent-Type: x\r\n\r\n{a}");
        let mut input = bytes.as_slice();
        assert_eq!(read(&mut input), Some(Ok(a)));
        assert!(matches!(read(&mut input), Some(Err(_))));
        assert_eq!(read(&mut input), None);
        assert_eq!(read(&mut &b"nothing\r\n\r\n"[..]), None);
    }
}

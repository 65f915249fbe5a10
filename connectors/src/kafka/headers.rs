//! Record headers: as a map for users, and those in which a row that is tried again carries its history.

use base64::Engine;
use rdkafka::message::{Header, Headers, OwnedHeaders};

/// How often a row has been tried, a decimal number.
pub const ATTEMPTS: &str = "millrace-attempts";
/// When it was first seen, milliseconds since 1970 UTC.
pub const FIRST_SEEN: &str = "millrace-first-seen";
/// When it is to be tried again, milliseconds since 1970 UTC.
pub const DUE: &str = "millrace-due";
/// Its event time, microseconds since 1970 UTC: the record's own timestamp is that of the attempt.
pub const EVENT_TIME: &str = "millrace-event-time";

/// The last header of this name, as a number.
pub fn number(headers: Option<&impl Headers>, name: &str) -> Option<i64> {
    let headers = headers?;
    let last = headers.iter().filter(|h| h.key == name).last()?;
    std::str::from_utf8(last.value?).ok()?.trim().parse().ok()
}

pub fn with_number(headers: OwnedHeaders, name: &str, number: i64) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(number.to_string().as_bytes()) })
}

/// All headers as a JSON object: text, or base64 where a value is not UTF-8; of several with one name the last.
pub fn json(headers: Option<&impl Headers>) -> String {
    let mut object = serde_json::Map::new();
    for header in headers.into_iter().flat_map(Headers::iter) {
        let value = match header.value.map(std::str::from_utf8) {
            None => serde_json::Value::Null,
            Some(Ok(text)) => text.into(),
            Some(Err(_)) => base64::engine::general_purpose::STANDARD.encode(header.value.unwrap_or_default()).into(),
        };
        object.insert(header.key.to_string(), value);
    }
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_maps() {
        let headers = with_number(OwnedHeaders::new(), ATTEMPTS, 3)
            .insert(Header { key: "bin", value: Some(&[0xff, 0][..]) })
            .insert(Header::<&[u8]> { key: "nil", value: None })
            .insert(Header { key: "text", value: Some("中\"") })
            .insert(Header { key: DUE, value: Some("soon") });
        let headers = with_number(headers, ATTEMPTS, 4);
        assert_eq!(number(Some(&headers), ATTEMPTS), Some(4));
        assert_eq!(number(Some(&headers), DUE), None);
        assert_eq!(number(Some(&headers), FIRST_SEEN), None);
        assert_eq!(number(None::<&OwnedHeaders>, DUE), None);
        assert_eq!(json(Some(&headers)), r#"{"millrace-attempts":"4","bin":"/wA=","nil":null,"text":"中\"","millrace-due":"soon"}"#);
    }
}

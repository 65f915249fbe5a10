//! Forms as a browser sends them (`application/x-www-form-urlencoded`), with names that may come several times.

use crate::Refusal;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};

/// The names and values of a form, in order.
pub fn pairs(body: &[u8]) -> Vec<(String, String)> {
    let text = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        percent_encoding::percent_decode(&spaced).decode_utf8_lossy().into_owned()
    };
    let split = |pair: &[u8]| match pair.iter().position(|b| *b == b'=') {
        Some(at) => (text(&pair[..at]), text(&pair[at + 1..])),
        None => (text(pair), String::new()),
    };
    body.split(|b| *b == b'&').filter(|p| !p.is_empty()).map(split).collect()
}

#[derive(Clone, Debug, Default)]
pub struct Form(pub Vec<(String, String)>);

impl Form {
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    pub fn trimmed(&self, name: &str) -> &str {
        self.get(name).trim()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(k, _)| k == name)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The numbers of a name that may come several times.
    ///
    /// # Errors
    /// One is none.
    pub fn numbers(&self, name: &str) -> Result<Vec<i64>, Refusal> {
        self.all(name).map(|v| v.parse().map_err(|_| Refusal::bad(format!("`{name}` must be a number")))).collect()
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Refusal;
    async fn from_request(request: Request, state: &S) -> Result<Form, Refusal> {
        let body = Bytes::from_request(request, state).await.map_err(|e| Refusal::bad(e.to_string()))?;
        Ok(Form(pairs(&body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_as_browsers_write_them() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("a=x+y%2Bz%0D%0A%E4%B8%AD", &[("a", "x y+z\r\n中")]),
            ("a&b=&=c&a=2=3", &[("a", ""), ("b", ""), ("", "c"), ("a", "2=3")]),
            ("%zz=%4", &[("%zz", "%4")]),
        ];
        for (text, want) in cases {
            let got = pairs(text.as_bytes());
            let got: Vec<_> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(got, *want, "{text}");
        }
    }
}

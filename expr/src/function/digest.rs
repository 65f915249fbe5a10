//! Hashes and codings.

use super::{FunctionDef, Param::*, too_long};
use crate::sql::value::{R, V, fail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::{Digest, Md5};
use millrace_sdk::Type;
use millrace_sdk::inventory::submit;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

const S: Type = Type::String;
const Y: Type = Type::Bytes;
/// RFC 3986, section 2.3: all but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
static BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
static BASE64_URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

submit! { FunctionDef::new("md5", &[Bytes], S, "md5(text) -> string", "the MD5 hash, 32 hexadecimal digits", "md5('a') => '0cc175b9c0f1b6a831c399e269772661'",
|a, cx, _| { let b = a[0].blob()?; Ok(digits(&Md5::digest(b), cx.pool.string())) }) }
submit! { FunctionDef::new("sha1", &[Bytes], S, "sha1(text) -> string", "the SHA-1 hash, 40 hexadecimal digits", "left(sha1('a'), 8) => '86f7e437'",
|a, cx, _| { let b = a[0].blob()?; Ok(digits(&Sha1::digest(b), cx.pool.string())) }) }
submit! { FunctionDef::new("sha256", &[Bytes], S, "sha256(text) -> string", "the SHA-256 hash, 64 hexadecimal digits", "left(sha256('a'), 8) => 'ca978112'",
|a, cx, _| { let b = a[0].blob()?; Ok(digits(&Sha256::digest(b), cx.pool.string())) }) }
submit! { FunctionDef::new("sha512", &[Bytes], S, "sha512(text) -> string", "the SHA-512 hash, 128 hexadecimal digits", "left(sha512('a'), 8) => '1f40fc92'",
|a, cx, _| { let b = a[0].blob()?; Ok(digits(&Sha512::digest(b), cx.pool.string())) }) }
submit! { FunctionDef::new("xxhash64", &[Bytes], Type::Bigint, "xxhash64(text) -> bigint", "a fast hash for sampling and salting, xxh3", "xxhash64('a') % 1 => 0",
|a, _, _| Ok(V::Int(xxhash_rust::xxh3::xxh3_64(a[0].blob()?) as i64))) }
submit! { FunctionDef::new("hex", &[Bytes], S, "hex(text) -> string", "its bytes as hexadecimal digits", "hex('az') => '617a'",
|a, cx, _| { let b = a[0].blob()?; Ok(digits(b, cx.pool.string())) }).alias(&["to_hex"]) }
submit! { FunctionDef::new("unhex", &[Text], Y, "unhex(text) -> bytes", "the bytes that hexadecimal digits stand for", "CAST(unhex('617a') AS string) => 'az'",
|a, cx, _| match hex::decode(a[0].text()?) { Ok(b) => Ok(V::Bytes(cx.pool.keep_bytes(b))), Err(e) => fail("invalid-argument", format!("not hexadecimal: {}", e.to_string().to_lowercase())) }).alias(&["from_hex"]) }
submit! { FunctionDef::new("base64", &[Bytes], S, "base64(text) -> string", "its bytes in base64, with padding", "base64('ab') => 'YWI='",
|a, cx, _| { let b = a[0].blob()?; let out = cx.pool.string(); STANDARD.encode_string(b, out); Ok(V::Str(out)) }).alias(&["to_base64"]) }
submit! { FunctionDef::new("base64_url", &[Bytes], S, "base64_url(text) -> string", "its bytes in the alphabet of base64 for addresses", "base64_url('a?>') => 'YT8-'",
|a, cx, _| { let b = a[0].blob()?; let out = cx.pool.string(); URL_SAFE.encode_string(b, out); Ok(V::Str(out)) }) }
submit! { FunctionDef::new("unbase64", &[Text], Y, "unbase64(text) -> bytes", "the bytes of base64, in either alphabet, padded or not", "CAST(unbase64('YWI=') AS string) => 'ab'",
|a, cx, _| {
    let t = a[0].text()?.trim_ascii();
    match if t.contains(['-', '_']) { &BASE64_URL } else { &BASE64 }.decode(t) {
        Ok(b) => Ok(V::Bytes(cx.pool.keep_bytes(b))),
        Err(e) => fail("invalid-argument", format!("not base64: {}", e.to_string().to_lowercase())),
    }
}).alias(&["from_base64"]) }
submit! { FunctionDef::new("url_encode", &[Text], S, "url_encode(text) -> string", "with all but letters, digits and -._~ percent-encoded", "url_encode('a b/ü') => 'a%20b%2F%C3%BC'",
|a, cx, _| { let t = a[0].text()?; let out = cx.pool.string(); out.extend(utf8_percent_encode(t, RESERVED)); Ok(V::Str(out)) }) }
submit! { FunctionDef::new("url_decode", &[Text], S, "url_decode(text) -> string", "percent-decoded, `+` being a blank", "url_decode('a+b%2F') => 'a b/'",
|a, cx, _| {
    let t = a[0].text()?;
    if !t.contains(['%', '+']) { return Ok(a[0]); }
    let blanks = t.replace('+', " ");
    match percent_decode_str(&blanks).decode_utf8() {
        Ok(d) => Ok(V::Str(cx.pool.copy(&d))),
        Err(_) => fail("invalid-argument", "the decoded text is not UTF-8"),
    }
}) }
submit! { FunctionDef::new("parse_url", &[Text, Text, Text], S, "parse_url(url, part[, key]) -> string", "HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY or PORT of an address, or one key of its query; NULL where there is none",
"parse_url('http://h:81/p?a=1&b=2', 'QUERY', 'b') => '2'",
|a, _, _| url_part(a[0].text()?, a[1].text()?, a.get(2).map(|k| k.text()).transpose()?)).optional(1) }
submit! { FunctionDef::new("decode", &[Bytes, Text], S, "decode(bytes, charset) -> string", "text from bytes in `utf-8`, `latin1` or `ascii`", "decode(unhex('e4'), 'latin1') => 'ä'",
|a, cx, _| {
    let b = a[0].blob()?;
    match a[1].text()?.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" => match std::str::from_utf8(b) { Ok(t) => Ok(V::Str(cx.pool.copy(t))), Err(_) => fail("invalid-argument", "the bytes are not UTF-8") },
        "latin1" | "iso-8859-1" => { let out = cx.pool.string(); out.extend(b.iter().map(|c| *c as char)); Ok(V::Str(out)) }
        "ascii" | "us-ascii" if b.is_ascii() => { let out = cx.pool.string(); out.extend(b.iter().map(|c| *c as char)); Ok(V::Str(out)) }
        "ascii" | "us-ascii" => fail("invalid-argument", "the bytes are not ASCII"),
        c => fail("invalid-argument", format!("unknown charset `{c}`: utf-8, latin1, ascii")),
    }
}) }

fn digits<'a>(bytes: &[u8], out: &'a mut String) -> V<'a> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.push(DIGITS[(b >> 4) as usize] as char);
        out.push(DIGITS[(b & 15) as usize] as char);
    }
    V::Str(out)
}

/// RFC 3986, appendix B, without decoding.
fn url_part<'a>(url: &'a str, part: &str, key: Option<&str>) -> R<V<'a>> {
    if url.len() > super::MAX_TEXT {
        return too_long();
    }
    let (before, fragment) = url.split_once('#').map_or((url, None), |(u, f)| (u, Some(f)));
    let (before, query) = before.split_once('?').map_or((before, None), |(u, q)| (u, Some(q)));
    let (scheme, rest) = before.split_once("://").map_or((None, before), |(s, r)| (Some(s), r));
    let (authority, path) = match scheme {
        None => (None, rest),
        Some(_) => rest.find('/').map_or((Some(rest), ""), |i| (Some(&rest[..i]), &rest[i..])),
    };
    let host_port = authority.map(|a| a.rsplit_once('@').map_or(a, |(_, h)| h));
    let port_at = host_port.and_then(|h| h.rfind(':').filter(|i| !h[*i..].contains(']')).map(|i| (h, i)));
    let found = match part.to_ascii_uppercase().as_str() {
        "PROTOCOL" => scheme,
        "AUTHORITY" => authority,
        "HOST" => port_at.map(|(h, i)| &h[..i]).or(host_port),
        "PORT" => port_at.map(|(h, i)| &h[i + 1..]),
        "PATH" => Some(path),
        "REF" => fragment,
        "QUERY" => match key {
            None => query,
            Some(k) => {
                query.and_then(|q| q.split('&').map(|p| p.split_once('=').unwrap_or((p, ""))).find(|(n, _)| *n == k).map(|(_, v)| v))
            }
        },
        p => {
            return fail(
                "invalid-argument",
                format!("unknown part `{p}` of an address: HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY, PORT"),
            );
        }
    };
    Ok(found.map_or(V::Null, V::Str))
}

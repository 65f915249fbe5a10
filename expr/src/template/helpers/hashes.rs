//! Hashes of a text's UTF-8.

use super::{Args, Done, Example, HelperDef};
use md5::Digest;
use millrace_sdk::{Type, Val};

const THEME: &str = "hashes";

fn digest<'a, D: Digest>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    hex_digits(&D::digest(t.as_bytes()), out);
    Ok(Val::Str(out))
}

fn hex_digits(bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.push(HEX[usize::from(b >> 4)] as char);
        out.push(HEX[usize::from(b & 15)] as char);
    }
}

inventory::submit!(HelperDef::new(
    "md5",
    THEME,
    "md5 TEXT",
    1..=1,
    Type::String,
    "MD5, 32 hexadecimal digits.",
    &[Example("{{md5 a}}", r#"{"a":"abc"}"#, "900150983cd24fb0d6963f7d28e17f72")],
    md5_hex
));
fn md5_hex<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    digest::<md5::Md5>(a, out)
}

inventory::submit!(HelperDef::new(
    "md5_prefix",
    THEME,
    "md5_prefix TEXT N",
    2..=2,
    Type::String,
    "The first N (1 to 32) hexadecimal digits of the MD5: a salt that spreads row keys over regions.",
    &[Example("{{md5_prefix mid 2}}_{{mid}}", r#"{"mid":"abc"}"#, "90_abc")],
    md5_prefix
));
fn md5_prefix<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let (Some(t), Some(n)) = (a.some_text(0), a.int(1)?) else { return Ok(Val::Null) };
    let Some(n) = usize::try_from(n).ok().filter(|n| (1..=32).contains(n)) else {
        return Err(a.fail("wrong-argument", format!("{n} digits are not between 1 and 32")));
    };
    hex_digits(&md5::Md5::digest(t.as_bytes())[..n.div_ceil(2)], out);
    out.truncate(n);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "sha1",
    THEME,
    "sha1 TEXT",
    1..=1,
    Type::String,
    "SHA-1, 40 hexadecimal digits.",
    &[Example("{{sha1 a}}", r#"{"a":"abc"}"#, "a9993e364706816aba3e25717850c26c9cd0d89d")],
    sha1_hex
));
fn sha1_hex<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    digest::<sha1::Sha1>(a, out)
}

inventory::submit!(HelperDef::new(
    "sha256",
    THEME,
    "sha256 TEXT",
    1..=1,
    Type::String,
    "SHA-256, 64 hexadecimal digits.",
    &[Example("{{sha256 a}}", r#"{"a":"abc"}"#, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")],
    sha256_hex
));
fn sha256_hex<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    digest::<sha2::Sha256>(a, out)
}

inventory::submit!(HelperDef::new(
    "sha512",
    THEME,
    "sha512 TEXT",
    1..=1,
    Type::String,
    "SHA-512, 128 hexadecimal digits.",
    &[Example("{{truncate (sha512 a) 16}}", r#"{"a":"abc"}"#, "ddaf35a193617aba")],
    sha512_hex
));
fn sha512_hex<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    digest::<sha2::Sha512>(a, out)
}

/// CRC-32 of ISO 3309, a nibble at a time.
fn crc(bytes: &[u8]) -> u32 {
    const fn entry(i: u32) -> u32 {
        let mut c = i;
        let mut k = 0;
        while k < 4 {
            c = if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 };
            k += 1;
        }
        c
    }
    const TABLE: [u32; 16] = {
        let mut t = [0; 16];
        let mut i = 0;
        while i < 16 {
            t[i] = entry(i as u32);
            i += 1;
        }
        t
    };
    !bytes.iter().fold(!0u32, |c, b| {
        let c = c ^ u32::from(*b);
        let c = c >> 4 ^ TABLE[(c & 15) as usize];
        c >> 4 ^ TABLE[(c & 15) as usize]
    })
}

inventory::submit!(HelperDef::new(
    "crc32",
    THEME,
    "crc32 TEXT",
    1..=1,
    Type::Bigint,
    "CRC-32 (as in zip), a number from 0 to 4294967295.",
    &[Example("{{crc32 a}}", r#"{"a":"123456789"}"#, "3421780262")],
    crc32
));
fn crc32<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(a.some_text(0).map_or(Val::Null, |t| Val::Int(crc(t.as_bytes()).into())))
}

inventory::submit!(HelperDef::new(
    "hash_mod",
    THEME,
    "hash_mod TEXT N",
    2..=2,
    Type::Bigint,
    "A number from 0 to N-1 that depends on TEXT alone (XXH3, 64 bits, modulo N): buckets and samples.",
    &[Example("{{lt (hash_mod uid 100) 100}}", r#"{"uid":"u1"}"#, "true"), Example("{{hash_mod uid 1}}", r#"{"uid":"u1"}"#, "0")],
    hash_mod
));
fn hash_mod<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    let (Some(t), Some(n)) = (a.some_text(0), a.int(1)?) else { return Ok(Val::Null) };
    let Some(n) = u64::try_from(n).ok().filter(|n| *n > 0) else {
        return Err(a.fail("wrong-argument", format!("{n} buckets are not at least 1")));
    };
    Ok(Val::Int((xxhash_rust::xxh3::xxh3_64(t.as_bytes()) % n) as i64))
}

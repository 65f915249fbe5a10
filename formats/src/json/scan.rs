//! The scanner: raw pointers over padded text.
//!
//! Why no read leaves the text: [`PAD`] zero bytes follow it (checked by `Padded::new`), every loop below stops at a zero byte, as
//! zero belongs to no token, and the scanner only moves past bytes it has found to belong to one. So its place is never behind
//! the first zero of the padding, and 16 bytes from there, the widest load that is not checked, are still padding.

use super::shape::{Shape, UNKNOWN};
use super::{Fill, JsonError, Kind, Token};
use millrace_sdk::batch::PAD;
use millrace_sdk::json::{MAX_DEPTH, unescape};

/// Where the text is wrong, and what should have been there.
#[derive(Clone, Copy, Debug)]
pub struct Bad {
    pub at: usize,
    pub what: &'static str,
}

const TOO_DEEP: &str = "nested deeper than 128 levels";
const NO_OBJECT: &str = "expected a JSON object";

impl Bad {
    /// `text` is what was parsed, and lies at `start`.
    pub fn explain(self, text: &[u8], start: usize) -> JsonError {
        let at = (self.at - start).min(text.len());
        let reason = match self.what {
            TOO_DEEP => "too-deep",
            NO_OBJECT if at < text.len() => "not-an-object",
            _ => "invalid-json",
        };
        let message = match at {
            _ if text.iter().all(|c| c.is_ascii_whitespace()) => format!("{NO_OBJECT}, but the text is empty"),
            at if at == text.len() => format!("the text ends too soon, after byte {at}"),
            at => format!("{} at byte {}", self.what, at + 1),
        };
        JsonError { reason, message }
    }
}

type Scanned<T> = Result<T, Bad>;

#[inline(always)]
fn bad<T>(at: usize, what: &'static str) -> Scanned<T> {
    Err(Bad { at, what })
}

/// Bits of the bytes that may end a string: `"`, `\`, control characters.
#[inline(always)]
fn stops(block: &[u8; 16]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 belongs to x86_64; the block is 16 bytes.
    unsafe {
        use std::arch::x86_64::*;
        let v = _mm_loadu_si128(block.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"' as i8));
        let slash = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), control)) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    block.iter().enumerate().fold(0u32, |m, (i, c)| m | u32::from(*c < 0x20 || *c == b'"' || *c == b'\\') << i)
}

/// How many digits the block begins with.
#[inline(always)]
fn digits(block: &[u8; 16]) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 belongs to x86_64; the block is 16 bytes.
    unsafe {
        use std::arch::x86_64::*;
        let v = _mm_sub_epi8(_mm_loadu_si128(block.as_ptr().cast()), _mm_set1_epi8(b'0' as i8));
        (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(9)), v)) as u32).trailing_ones() as usize
    }
    #[cfg(not(target_arch = "x86_64"))]
    block.iter().take_while(|c| c.is_ascii_digit()).count()
}

/// Scans a text that ends at `end`; NEWLINES: they are blanks.
pub struct Scan<'a, const NEWLINES: bool> {
    text: &'a [u8],
    end: usize,
}

impl<'a, const NEWLINES: bool> Scan<'a, NEWLINES> {
    /// `text` ends with [`PAD`] zero bytes, of which `end` is not past the first.
    pub fn new(text: &'a [u8], end: usize) -> Self {
        assert!(end + PAD <= text.len() && text[text.len() - PAD..] == [0; PAD]);
        Scan { text, end }
    }

    #[inline(always)]
    fn at(&self, p: usize) -> u8 {
        debug_assert!(p < self.text.len());
        // SAFETY: see the module's comment.
        unsafe { *self.text.get_unchecked(p) }
    }

    #[inline(always)]
    fn block(&self, p: usize) -> &'a [u8; 16] {
        debug_assert!(p + 16 <= self.text.len());
        // SAFETY: see the module's comment; an array of bytes needs no alignment.
        unsafe { &*self.text.as_ptr().add(p).cast() }
    }

    #[inline(always)]
    fn blanks(&self, p: usize) -> usize {
        if self.at(p) > b' ' { p } else { self.some_blanks(p) }
    }

    #[inline(never)]
    fn some_blanks(&self, mut p: usize) -> usize {
        while matches!(self.at(p), b' ' | b'\t' | b'\r') || (NEWLINES && self.at(p) == b'\n') {
            p += 1;
        }
        p
    }

    /// The first `"`, `\` or control character at or after `p`.
    #[inline(always)]
    fn text_end(&self, p: usize) -> usize {
        let stops = stops(self.block(p));
        if stops != 0 { p + stops.trailing_zeros() as usize } else { self.long_text_end(p + 16) }
    }

    /// As [`text_end`](Self::text_end), for what is longer than a block.
    #[inline(never)]
    fn long_text_end(&self, mut p: usize) -> usize {
        while p + 64 <= self.text.len() {
            let at = |i: usize| u64::from(stops(self.block(p + i))) << i;
            let stops = at(0) | at(16) | at(32) | at(48);
            if stops != 0 {
                return p + stops.trailing_zeros() as usize;
            }
            p += 64;
        }
        loop {
            let stops = stops(self.block(p));
            if stops != 0 {
                return p + stops.trailing_zeros() as usize;
            }
            p += 16;
        }
    }

    /// `p` is behind the opening quote; gives the token and the place behind the closing one.
    #[inline(always)]
    fn string(&self, p: usize) -> Scanned<(Token, usize)> {
        let e = self.text_end(p);
        if self.at(e) == b'"' {
            return Ok((Token { kind: Kind::Str, start: p, end: e }, e + 1));
        }
        self.escaped(p, e)
    }

    #[cold]
    fn escaped(&self, start: usize, mut p: usize) -> Scanned<(Token, usize)> {
        loop {
            match self.at(p) {
                b'"' => return Ok((Token { kind: Kind::Escaped, start, end: p }, p + 1)),
                b'\\' => match self.at(p + 1) {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => p += 2,
                    b'u' => {
                        let first = self.hex(p + 2)?;
                        match first {
                            0xD800..0xDC00 => {
                                if self.at(p + 6) != b'\\' || self.at(p + 7) != b'u' || !(0xDC00..0xE000).contains(&self.hex(p + 8)?) {
                                    return bad(p, "half of a surrogate pair");
                                }
                                p += 12;
                            }
                            0xDC00..0xE000 => return bad(p, "half of a surrogate pair"),
                            _ => p += 6,
                        }
                    }
                    _ => return bad(p + 1, "expected one of the escapes of JSON"),
                },
                _ if p >= self.end => return bad(p, "expected `\"`"),
                _ => return bad(p, "control character in a string"),
            }
            p = self.text_end(p);
        }
    }

    fn hex(&self, p: usize) -> Scanned<u32> {
        let mut n = 0;
        for i in p..p + 4 {
            match (self.at(i) as char).to_digit(16) {
                Some(d) => n = n << 4 | d,
                None => return bad(i, "expected a hexadecimal digit"),
            }
        }
        Ok(n)
    }

    #[inline(always)]
    fn digits(&self, first: usize) -> Scanned<usize> {
        let mut p = first;
        loop {
            let n = digits(self.block(p));
            p += n;
            if n < 16 {
                return if p == first { bad(p, "expected a digit") } else { Ok(p) };
            }
        }
    }

    #[inline(always)]
    fn number(&self, start: usize) -> Scanned<(Token, usize)> {
        let first = start + usize::from(self.at(start) == b'-');
        let mut p = self.digits(first)?;
        let mut kind = Kind::Int;
        if self.at(first) == b'0' && p > first + 1 {
            return bad(first, "a number with leading zeros");
        }
        if self.at(p) == b'.' {
            p = self.digits(p + 1)?;
            kind = Kind::Dec;
        }
        if self.at(p) | 32 == b'e' {
            p = self.digits(p + 1 + usize::from(matches!(self.at(p + 1), b'+' | b'-')))?;
            kind = Kind::Num;
        }
        Ok((Token { kind, start, end: p }, p))
    }

    fn word(&self, start: usize, word: &[u8], kind: Kind) -> Scanned<(Token, usize)> {
        for (i, c) in word.iter().enumerate() {
            if self.at(start + i) != *c {
                return bad(start, "expected a value");
            }
        }
        let end = start + word.len();
        Ok((Token { kind, start, end }, end))
    }

    #[inline(always)]
    fn scalar(&self, p: usize) -> Scanned<(Token, usize)> {
        match self.at(p) {
            b'"' => self.string(p + 1),
            b'-' | b'0'..=b'9' => self.number(p),
            b't' => self.word(p, b"true", Kind::Bool),
            b'f' => self.word(p, b"false", Kind::Bool),
            b'n' => self.word(p, b"null", Kind::Null),
            _ => bad(p, "expected a value"),
        }
    }

    /// Any value; `depth` containers are open around it.
    #[inline(always)]
    fn value(&self, p: usize, depth: usize) -> Scanned<(Token, usize)> {
        if matches!(self.at(p), b'{' | b'[') {
            let end = self.container(p, depth)?;
            return Ok((Token { kind: Kind::Json, start: p, end }, end));
        }
        self.scalar(p)
    }

    /// Checks the container at `p` without recursion and gives the place behind it.
    fn container(&self, mut p: usize, depth: usize) -> Scanned<usize> {
        // One bit a level: 1 = object.
        let (mut objects, mut levels) = (0u128, 0);
        loop {
            let c = self.at(p);
            if matches!(c, b'{' | b'[') {
                levels += 1;
                if depth + levels > MAX_DEPTH {
                    return bad(p, TOO_DEEP);
                }
                let object = c == b'{';
                objects = objects << 1 | u128::from(object);
                p = self.blanks(p + 1);
                if self.at(p) != if object { b'}' } else { b']' } {
                    if object {
                        p = self.key(p)?;
                    }
                    continue;
                }
                objects >>= 1;
                levels -= 1;
                p += 1;
            } else {
                p = self.scalar(p)?.1;
            }
            loop {
                if levels == 0 {
                    return Ok(p);
                }
                p = self.blanks(p);
                match (self.at(p), objects & 1 == 1) {
                    (b',', object) => {
                        p = self.blanks(p + 1);
                        if object {
                            p = self.key(p)?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        objects >>= 1;
                        levels -= 1;
                        p += 1;
                    }
                    (_, true) => return bad(p, "expected `,` or `}`"),
                    (_, false) => return bad(p, "expected `,` or `]`"),
                }
            }
        }
    }

    /// Passes a key and its colon.
    #[inline(always)]
    fn key(&self, p: usize) -> Scanned<usize> {
        if self.at(p) != b'"' {
            return bad(p, "expected a key in quotes");
        }
        let (_, p) = self.string(p + 1)?;
        self.colon(p)
    }

    #[inline(always)]
    fn colon(&self, p: usize) -> Scanned<usize> {
        let p = self.blanks(p);
        if self.at(p) == b':' { Ok(self.blanks(p + 1)) } else { bad(p, "expected `:`") }
    }

    /// Index of the planned key whose text is the token.
    #[cold]
    fn find(&self, key: Token, at: usize, shape: &mut Shape) -> i32 {
        let raw = &self.text[key.start..key.end];
        if key.kind == Kind::Str {
            return shape.find(at, raw);
        }
        // An escaped key is looked up at a place that is never guessed: its raw text would not fit the guess.
        let mut plain = String::new();
        match std::str::from_utf8(raw).map(|r| unescape(r, &mut plain)) {
            Ok(Ok(())) => shape.find(usize::MAX, plain.as_bytes()),
            _ => UNKNOWN,
        }
    }

    /// The object at `p`, whose planned keys go to `fill`; `depth` containers are open around it. The recursion is as deep as
    /// the plan's paths are long, and those are bounded too.
    fn object(&self, p: usize, shape: &mut Shape, fill: &mut Fill<'_>, depth: usize) -> Scanned<usize> {
        if depth >= MAX_DEPTH {
            return bad(p, TOO_DEEP);
        }
        let mut p = self.blanks(p + 1);
        if self.at(p) == b'}' {
            return Ok(p + 1);
        }
        let mut n = 0;
        loop {
            if self.at(p) != b'"' {
                return bad(p, "expected a key in quotes");
            }
            let index;
            match shape.guesses.get(n) {
                Some(guess) if guess.fits(self.block(p + 1)) => {
                    index = guess.key;
                    p = self.blanks(p + guess.len as usize + 3);
                }
                _ => {
                    let (key, after) = self.string(p + 1)?;
                    index = self.find(key, n, shape);
                    p = self.colon(after)?;
                }
            }
            n += 1;
            if index == UNKNOWN {
                p = self.value(p, depth + 1)?.1;
            } else {
                let key = &mut shape.keys[index as usize];
                key.forget_below(fill);
                // One arm a kind: a token that several of them could have made would go through memory, and wait there.
                let token;
                match (self.at(p), &mut key.below) {
                    (b'"', _) => {
                        let e = self.text_end(p + 1);
                        if self.at(e) == b'"' {
                            if let Some(slot) = key.slot {
                                fill.put(slot, key.expect, Token { kind: Kind::Str, start: p + 1, end: e })?;
                            }
                            p = e + 1;
                        } else {
                            (token, p) = self.escaped(p + 1, e)?;
                            if let Some(slot) = key.slot {
                                fill.put_rare(slot, key.expect, token)?;
                            }
                        }
                    }
                    (b'-' | b'0'..=b'9', _) => {
                        (token, p) = self.number(p)?;
                        if let Some(slot) = key.slot {
                            fill.put(slot, key.expect, token)?;
                        }
                    }
                    (b'{', Some(below)) => {
                        let end = self.object(p, below, fill, depth + 1)?;
                        if let Some(slot) = key.slot {
                            fill.put(slot, key.expect, Token { kind: Kind::Json, start: p, end })?;
                        }
                        p = end;
                    }
                    _ => {
                        (token, p) = self.value(p, depth + 1)?;
                        if let Some(slot) = key.slot {
                            fill.put_rare(slot, key.expect, token)?;
                        }
                    }
                }
            }
            p = self.blanks(p);
            match self.at(p) {
                b',' => p = self.blanks(p + 1),
                b'}' => return Ok(p + 1),
                _ => return bad(p, "expected `,` or `}`"),
            }
        }
    }

    /// One object from `start` to the end, blanks around it allowed; where it begins and ends.
    pub fn document(&self, start: usize, shape: &mut Shape, fill: &mut Fill<'_>) -> Scanned<(usize, usize)> {
        let first = self.blanks(start);
        if first >= self.end {
            return bad(self.end, NO_OBJECT);
        }
        let object = self.at(first) == b'{';
        let last = if object { self.object(first, shape, fill, 0)? } else { self.value(first, 0)?.1 };
        if last > self.end {
            return bad(self.end, "expected the end of a value");
        }
        let blank = |c: &u8| matches!(c, b' ' | b'\t' | b'\r' | b'\n');
        match self.text[last..self.end].iter().position(|c| !blank(c)) {
            Some(n) => bad(last + n, "expected nothing more"),
            None if object => Ok((first, last)),
            None => bad(first, NO_OBJECT),
        }
    }
}

//! A line being split, and searches in it 16 bytes a step.

use crate::json::Padded;
use millrace_sdk::Span;

/// A line and the text that it lies in: a search may read past the line's end, where there is text, but finds nothing there.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    text: &'a str,
    all: &'a [u8],
    off: usize,
    /// Known to be ASCII.
    ascii: bool,
}

/// Bytes of a step.
const STEP: usize = 16;
type Step = [u8; STEP];

impl<'a> From<&'a str> for Line<'a> {
    fn from(text: &'a str) -> Line<'a> {
        Line { text, all: text.as_bytes(), off: 0, ascii: text.is_ascii() }
    }
}

impl<'a> Line<'a> {
    /// The line at `span`. `ascii`: all of the text is known to be ASCII.
    ///
    /// # Errors
    /// The place of the first byte that is not UTF-8, counted from the line's start.
    #[inline]
    pub fn within(padded: Padded<'a>, span: Span, ascii: bool) -> Result<Line<'a>, usize> {
        let text = padded.str(span)?;
        Ok(Line { text, all: padded.padded(), off: span.off as usize, ascii })
    }

    #[inline]
    pub fn str(&self) -> &'a str {
        self.text
    }

    /// The text that it lies in, and where it begins and ends there.
    #[inline]
    pub fn place(&self) -> (&'a [u8], usize, usize) {
        (self.all, self.off, self.off + self.text.len())
    }

    #[inline]
    pub fn is_ascii(&self) -> bool {
        self.ascii || self.text.is_ascii()
    }

    /// Calls `f` with the place of every byte that is `byte`, an ASCII character, in order.
    #[inline(always)]
    pub fn each(&self, byte: u8, mut f: impl FnMut(usize)) {
        let wanted = [byte; STEP];
        let mut at = 0;
        while at < self.text.len() {
            let left = self.text.len() - at;
            let mut found = match self.all.get(self.off + at..).and_then(|t| t.first_chunk::<64>()) {
                Some(block) => block.as_chunks::<STEP>().0.iter().rev().fold(0, |m, step| m << STEP | u64::from(equal(step, &wanted))),
                None => self.text.as_bytes()[at..].iter().enumerate().fold(0, |m, (i, c)| m | u64::from(*c == byte) << i),
            };
            if left < 64 {
                found &= (1 << left) - 1;
            }
            while found != 0 {
                f(at + found.trailing_zeros() as usize);
                found &= found - 1;
            }
            at += 64;
        }
    }

    #[inline]
    fn step(&self, at: usize) -> Option<&'a Step> {
        self.all.get(self.off + at..)?.first_chunk()
    }
}

/// One byte, all over; it lies where the processor can compare with it at once.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Wide(Step);

/// A text to be found.
#[derive(Clone, Debug)]
pub struct Needle {
    text: Box<str>,
    /// Its first byte, and its second one.
    first: Wide,
    second: Wide,
    /// Its first eight bytes, and the bits of them that it has.
    head: (u64, u64),
}

impl Needle {
    pub fn new(text: &str) -> Needle {
        let byte = |i: usize| Wide(text.as_bytes().get(i).map(|b| [*b; STEP]).unwrap_or_default());
        let mut head = ([0; 8], [0; 8]);
        for (i, b) in text.bytes().take(8).enumerate() {
            (head.0[i], head.1[i]) = (b, 0xff);
        }
        Needle { text: text.into(), first: byte(0), second: byte(1), head: (u64::from_le_bytes(head.0), u64::from_le_bytes(head.1)) }
    }

    #[inline]
    pub fn str(&self) -> &str {
        &self.text
    }

    /// The first place of the needle at or behind `from`; the empty needle is nowhere.
    #[inline]
    pub fn find(&self, line: Line<'_>, from: usize) -> Option<usize> {
        let place = self.place(line.all, line.off + from, line.off + line.text.len());
        (place != NOWHERE).then(|| place - line.off)
    }

    /// The first place of the needle in `all[at..end]`, or [`NOWHERE`]; what follows is read.
    #[inline(always)]
    pub fn place(&self, all: &[u8], at: usize, end: usize) -> usize {
        if end - at < self.text.len() {
            return NOWHERE;
        }
        let last = end - self.text.len();
        if self.text.len() == 1 { self.scan::<true>(all, at, last) } else { self.scan::<false>(all, at, last) }
    }

    /// The first place of the needle from `at` to `last`, or [`NOWHERE`].
    // Not inlined: its loop needs the registers.
    #[inline(never)]
    fn scan<const ONE: bool>(&self, all: &[u8], mut at: usize, last: usize) -> usize {
        while at <= last {
            let Some(steps) = all.get(at..).and_then(|t| t.first_chunk::<{ STEP + 1 }>()) else {
                return self.scan_end(all, at, last);
            };
            let mut found = if ONE { equal(first_of(steps), &self.first.0) } else { pair(steps, &self.first, &self.second) };
            while found != 0 {
                let place = at + found.trailing_zeros() as usize;
                if place > last {
                    return NOWHERE;
                }
                if ONE || self.is_at(all, place) {
                    return place;
                }
                found &= found - 1;
            }
            at += STEP;
        }
        NOWHERE
    }

    /// As [`scan`](Self::scan) where the text ends soon.
    #[cold]
    fn scan_end(&self, all: &[u8], at: usize, last: usize) -> usize {
        let rest = all.get(at..last + self.text.len()).unwrap_or_default();
        memchr::memmem::find(rest, self.text.as_bytes()).filter(|_| !self.text.is_empty()).map_or(NOWHERE, |n| at + n)
    }

    /// Whether the needle is where its first byte is.
    #[inline(always)]
    pub fn begins(&self, all: &[u8], place: usize) -> bool {
        match (self.text.len(), all.get(place..).and_then(|t| t.first_chunk::<8>())) {
            (1, _) => true,
            (_, Some(head)) if u64::from_le_bytes(*head) & self.head.1 != self.head.0 => false,
            (..=8, Some(_)) => true,
            _ => all[place..].starts_with(self.text.as_bytes()),
        }
    }

    /// Whether the needle is where its first two bytes are.
    #[inline(always)]
    fn is_at(&self, all: &[u8], place: usize) -> bool {
        match (self.text.len(), all.get(place..).and_then(|t| t.first_chunk::<8>())) {
            (0, _) => false,
            (2, _) => true,
            (_, Some(head)) if u64::from_le_bytes(*head) & self.head.1 != self.head.0 => false,
            (..=8, Some(_)) => true,
            _ => all[place..].starts_with(self.text.as_bytes()),
        }
    }
}

/// No place in a text.
pub const NOWHERE: usize = usize::MAX;

/// Bits of the places of `first` with `second` behind it.
#[inline(always)]
fn pair(steps: &[u8; STEP + 1], first: &Wide, second: &Wide) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 belongs to x86_64, 16 bytes are read from both places of the 17, and the others are aligned.
        unsafe {
            let (a, b) = (_mm_loadu_si128(steps.as_ptr().cast()), _mm_loadu_si128(steps.as_ptr().add(1).cast()));
            let (first, second) = (_mm_load_si128(first.0.as_ptr().cast()), _mm_load_si128(second.0.as_ptr().cast()));
            _mm_movemask_epi8(_mm_and_si128(_mm_cmpeq_epi8(a, first), _mm_cmpeq_epi8(b, second))) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        equal(first_of(steps), &first.0) & equal(last_of(steps), &second.0)
    }
}

#[inline(always)]
fn first_of(steps: &[u8; STEP + 1]) -> &Step {
    steps.first_chunk().expect("16 of 17 bytes")
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn last_of(steps: &[u8; STEP + 1]) -> &Step {
    steps.last_chunk().expect("16 of 17 bytes")
}

/// Some of the ASCII characters.
#[derive(Clone, Debug)]
pub struct Class {
    /// A bit a character.
    pub set: u128,
    /// The characters that are not in it, as ranges: the first one and the distance to the last; None: they are too many.
    others: Option<Box<[(Step, Step)]>>,
}

impl Class {
    pub fn new(set: u128) -> Class {
        let mut ranges: Vec<(Step, Step)> = vec![];
        let mut c = 0u8;
        while c < 128 {
            let begun = c;
            while c < 128 && set >> c & 1 == 0 {
                c += 1;
            }
            if c > begun {
                ranges.push(([begun; STEP], [c - 1 - begun; STEP]));
            }
            c += 1;
        }
        Class { set, others: (ranges.len() <= 3).then(|| ranges.into()) }
    }

    #[inline]
    pub fn has(&self, c: u8) -> bool {
        c < 128 && self.set >> c & 1 != 0
    }

    /// Where the first character of a line of ASCII lies that is not in the class, at or behind `from`; at most at `end`.
    #[inline]
    pub fn end(&self, line: Line<'_>, from: usize, end: usize) -> usize {
        let mut at = from;
        if let Some(others) = &self.others {
            while let Some(step) = line.step(at)
                && at < end
            {
                let found = others.iter().fold(0, |m, (first, distance)| m | between(step, first, distance));
                if found != 0 {
                    return (at + found.trailing_zeros() as usize).min(end);
                }
                at += STEP;
            }
        }
        let text = line.text.as_bytes();
        while at < end && self.has(text[at]) {
            at += 1;
        }
        at.min(end)
    }
}

/// Bits of the bytes that are equal.
#[inline(always)]
fn equal(a: &Step, b: &Step) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 belongs to x86_64, and the arrays have 16 bytes.
        unsafe {
            let (a, b) = (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast()));
            _mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    a.iter().zip(b).enumerate().fold(0, |m, (i, (a, b))| m | u32::from(a == b) << i)
}

/// Bits of the bytes that are at least `first` and at most so far above it.
#[inline(always)]
fn between(a: &Step, first: &Step, distance: &Step) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 belongs to x86_64, and the arrays have 16 bytes.
        unsafe {
            let above = _mm_sub_epi8(_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(first.as_ptr().cast()));
            let least = _mm_min_epu8(above, _mm_loadu_si128(distance.as_ptr().cast()));
            _mm_movemask_epi8(_mm_cmpeq_epi8(above, least)) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    a.iter().zip(first).zip(distance).enumerate().fold(0, |m, (i, ((a, f), d))| m | u32::from(a.wrapping_sub(*f) <= *d) << i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The line alone, and with text behind it.
    fn lines<'a>(text: &'a str, wide: &'a str) -> [Line<'a>; 2] {
        let off = wide.len() - text.len() - 64;
        let text = &wide[off..][..text.len()];
        [Line::from(text), Line { text, all: wide.as_bytes(), off, ascii: text.is_ascii() }]
    }

    proptest! {
        #[test]
        fn needles_are_found_where_str_finds_them(
            text in "[ab|é]{0,70}", before in "[ab|]{0,20}", behind in "[ab|]{64}",
            needle in prop::sample::select(vec!["", "|", "a|", "é", "||", "ab|", "a|bé|a", "abbaabba", "ababababa"]),
        ) {
            let wide = format!("{before}{text}{behind}");
            for line in lines(&text, &wide) {
                for from in (0..=text.len()).filter(|i| text.is_char_boundary(*i)) {
                    prop_assert_eq!(Needle::new(needle).find(line, from), text[from..].find(needle).filter(|_| !needle.is_empty()).map(|n| from + n));
                }
            }
        }

        #[test]
        fn each_place_of_a_byte_is_found(text in "[ab|é]{0,150}", behind in "[ab|]{64}") {
            let wide = format!("{text}{behind}");
            for line in lines(&text, &wide) {
                let mut found = vec![];
                line.each(b'|', |at| found.push(at));
                prop_assert_eq!(found, text.match_indices('|').map(|(i, _)| i).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_class_ends_at_the_first_other_character(
            text in "[ab|0-9\t\"]{0,70}", behind in "[ab|]{64}", pattern in prop::sample::select(vec!["[ab]", "[^|]", r"\S", r"\d", "[^ab|]", "[^a|09\t]"]),
        ) {
            let one = regex::Regex::new(&format!("^{pattern}$")).expect("a pattern");
            let set = (0..128u8).filter(|c| one.is_match(&(*c as char).to_string())).fold(0, |m, c| m | 1u128 << c);
            let wide = format!("{text}{behind}");
            for line in lines(&text, &wide) {
                for (from, end) in (0..=text.len()).flat_map(|f| (f..=text.len()).map(move |e| (f, e))) {
                    let want = text[from..end].bytes().position(|c| set >> c & 1 == 0).map_or(end, |n| from + n);
                    prop_assert_eq!(Class::new(set).end(line, from, end), want);
                }
            }
        }
    }
}

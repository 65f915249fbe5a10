//! The order of many keys.

/// The bytes of a key that say what it is and its key group: see [`super::below`].
const HEAD: usize = 3;

/// A key by what tells it from most others, so that few comparisons read the keys themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Brief {
    head: u32,
    /// What follows in it behind what all of its kind have in common.
    rest: u64,
    at: u32,
}
const _: () = assert!(size_of::<Brief>() == 16);

/// Eight bytes from `at` on, zeros behind the end: ordered as the bytes are, or equal.
fn word(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(word) => u64::from_be_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(word)
        }
    }
}

/// Keys 0 .. n in their order; of several equal ones the last one.
pub fn order<'a>(n: usize, key: impl Fn(usize) -> &'a [u8]) -> Vec<u32> {
    // Of each kind of key its first one, and how many bytes behind the head all others have in common with it.
    let mut kinds: [Option<(&[u8], usize)>; 256] = [None; 256];
    let kind = |k: &[u8]| usize::from(k.first().copied().unwrap_or(0));
    let tail = |k: &'a [u8]| k.get(HEAD..).unwrap_or_default();
    for k in (0..n).map(&key) {
        let (first, common) = kinds[kind(k)].get_or_insert((tail(k), tail(k).len()));
        if !tail(k).starts_with(&first[..*common]) {
            *common = first.iter().zip(tail(k)).take_while(|(a, b)| a == b).count();
        }
    }
    let brief = |at: usize| {
        let k = key(at);
        let common = kinds[kind(k)].map_or(0, |(_, common)| common);
        Brief { head: (word(k, 0) >> 40) as u32, rest: word(k, HEAD + common), at: at as u32 }
    };
    let mut briefs: Vec<Brief> = (0..n).map(brief).collect();
    briefs.sort_unstable_by(|a, b| {
        let briefly = (a.head, a.rest).cmp(&(b.head, b.rest));
        briefly.then_with(|| key(a.at as usize).cmp(key(b.at as usize))).then(a.at.cmp(&b.at))
    });
    let same = |a: &Brief, b: &Brief| (a.head, a.rest) == (b.head, b.rest) && key(a.at as usize) == key(b.at as usize);
    let last = |(i, b): (usize, &Brief)| briefs.get(i + 1).is_none_or(|next| !same(b, next)).then_some(b.at);
    briefs.iter().enumerate().filter_map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::order;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// As a map has it: short and long ones, many equal, with much in common or nothing.
        #[test]
        fn keys_are_in_their_order(
            keys in prop::collection::vec((0u8..4, 0usize..4, prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..14)), 0..200)
        ) {
            let common: [&[u8]; 4] = [b"", b"\x01", b"\x01\x00\x07key:2026-", b"\x02\x00\x80\x00\x00"];
            let keys: Vec<Vec<u8>> = keys.into_iter().map(|(kind, cut, tail)| {
                let mut key = [common[kind as usize], &tail].concat();
                key.truncate(key.len() - cut.min(key.len()));
                key
            }).collect();
            let wanted: BTreeMap<&[u8], u32> = keys.iter().zip(0..).map(|(k, i)| (&k[..], i)).collect();
            prop_assert_eq!(order(keys.len(), |i| &keys[i]), wanted.into_values().collect::<Vec<_>>());
        }
    }
}

//! The tier in RocksDB against an ordered map. (It is asked here, as each test binary links RocksDB.)

use millrace_sdk::tier::{Tier, Tiers};
use millrace_state::Rocks;
use std::collections::BTreeMap;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn scan(tier: &dyn Tier, from: &[u8], to: &[u8]) -> Map {
    let mut all = Map::new();
    let visited = tier.scan(from, to, &mut |k, v| {
        assert!(all.last_key_value().is_none_or(|(last, _): (&Vec<u8>, _)| &last[..] < k), "in order");
        all.insert(k.to_vec(), v.to_vec());
        Ok(true)
    });
    visited.expect("scanned");
    all
}

fn get(tier: &dyn Tier, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
    let (mut found, names): (_, Vec<&[u8]>) = (vec![None; keys.len()], keys.iter().map(|k| &k[..]).collect());
    let got = tier.get(&names, &mut |i, v| {
        found[i] = Some(v.to_vec());
        Ok(())
    });
    got.expect("read");
    found
}

fn key(n: u64) -> Vec<u8> {
    [&(n as u16).to_be_bytes()[..], &vec![b'x'; (n % 5) as usize * 20]].concat()
}

/// Also every checkpoint is one, opened from its files, whatever was written since; and files that last never change.
#[test]
fn a_tier_is_an_ordered_map() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for round in 0..4 {
        let dir = tempfile::tempdir().expect("tempdir");
        let tiers = Rocks::new(1 << 20);
        let mut tier = tiers.open(&dir.path().join("first")).expect("opened");
        let (mut model, mut lasting) = (Map::new(), BTreeMap::new());
        for i in 0..40 {
            let from = random(300);
            let range = if random(3) == 0 { Some((key(from), key(from + 1 + random(40)))) } else { None };
            let hit = |k: &Vec<u8>| range.as_ref().is_some_and(|(from, to)| from <= k && k < to);
            let batch: BTreeMap<Vec<u8>, Option<Vec<u8>>> = (0..random(60))
                .map(|_| (key(random(300)), (random(3) > 0).then(|| vec![random(256) as u8; random(200) as usize])))
                .filter(|(k, _)| !hit(k))
                .collect();
            model.retain(|k, _| !hit(k));
            for (k, v) in &batch {
                match v {
                    Some(v) => drop(model.insert(k.clone(), v.clone())),
                    None => drop(model.remove(k)),
                }
            }
            let ranges: Vec<_> = range.into_iter().collect();
            tier.write(&mut batch.iter().map(|(k, v)| (&k[..], v.as_deref())), &ranges).expect("written");
            if random(3) == 0 {
                let folder = dir.path().join(i.to_string());
                for f in tier.checkpoint(&folder).expect("linked").into_iter().filter(|f| f.lasting) {
                    let bytes = std::fs::read(folder.join(&f.name)).expect("a file");
                    assert!(*lasting.entry(f.name.clone()).or_insert_with(|| bytes.clone()) == bytes, "{} has changed", f.name);
                }
                if random(2) == 0 {
                    tier = tiers.open(&folder).expect("opened again");
                }
            }
            assert_eq!(scan(&*tier, &[], &[0xff; 9]), model, "round {round}, batch {i}");
            let (from, to) = (key(50), key(120));
            let part: Map = model.range(from.clone()..to.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(scan(&*tier, &from, &to), part);
            let keys: Vec<_> = (0..300).step_by(7).map(key).collect();
            assert_eq!(get(&*tier, &keys), keys.iter().map(|k| model.get(k).cloned()).collect::<Vec<_>>());
            assert_eq!(get(&*tier, &keys[3..4])[0].as_ref(), model.get(&keys[3]));
        }
    }
}

#[test]
fn missing_and_damaged_files_are_told() {
    let dir = tempfile::tempdir().expect("tempdir");
    let tiers = Rocks::new(1 << 20);
    let tier = tiers.open(&dir.path().join("tier")).expect("opened");
    let rows: Vec<_> = (0..2000u16).map(|n| (n.to_be_bytes(), [n as u8; 100])).collect();
    tier.write(&mut rows.iter().map(|(k, v)| (&k[..], Some(&v[..]))), &[]).expect("written");
    let file = |folder: &str| {
        let files = tier.checkpoint(&dir.path().join(folder)).expect("linked");
        dir.path().join(folder).join(files.into_iter().find(|f| f.lasting).expect("a sorted file").name)
    };
    let gone = file("gone");
    std::fs::remove_file(&gone).expect("removed");
    let fault = tiers.open(&dir.path().join("gone")).err().expect("a fault");
    assert!(fault.to_string().contains(gone.file_name().and_then(|n| n.to_str()).expect("a name")), "{fault}");
    let bad = file("bad");
    let mut bytes = std::fs::read(&bad).expect("bytes");
    bytes[1000] ^= 1;
    std::fs::remove_file(&bad).expect("removed");
    std::fs::write(&bad, bytes).expect("written");
    let tier = tiers.open(&dir.path().join("bad")).expect("opened");
    let fault = tier.scan(&[], &[0xff; 3], &mut |_, _| Ok(true)).expect_err("a fault");
    assert_eq!(fault.kind, millrace_sdk::FaultKind::Data, "{fault}");
}

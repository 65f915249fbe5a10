//! A state of which parts are in memory, in a tier, and on the way between, against plain maps: what is read, what fires, and what its
//! checkpoints say at any number of workers.

use super::below::Below;
use super::cells::KeyState;
use super::claims::HOLDS;
use super::context::{Cx, Effects, KeyedState};
use super::tiering::{FORMAT, Kept, META, Save, Writer, fetch};
use crate::checkpoint::{Ack, Body, Spot, Uploads};
use crate::cluster::Seat;
use crate::control::{Control, RunOptions, Shared};
use crate::progress::Meters;
use crate::tests::harness::PlanBuilder;
use crate::tests::tier::Files;
use millrace_durable::{JobLog, Local, Piece};
use millrace_sdk::key::KEY_GROUPS;
use millrace_sdk::operator::TimeCharacteristic::EventTime;
use millrace_sdk::tier::Tiers;
use millrace_sdk::{Context, Key, State, StateDesc, StateId, StateKind, TimeDomain, Visit};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const DOMAINS: [TimeDomain; HOLDS] = [TimeDomain::Event, TimeDomain::Processing, TimeDomain::Right];
const SPOT: Spot = Spot { node: 3, worker: 0 };

fn states() -> Vec<StateDesc> {
    vec![StateDesc::new("v", StateKind::Value), StateDesc::new("r", StateKind::Rows), StateDesc::new("m", StateKind::Map)]
}

/// What is kept for one key.
#[derive(Clone, Debug, Default, PartialEq)]
struct One {
    value: Option<Vec<u8>>,
    rows: BTreeMap<(i64, u64), u8>,
    map: BTreeMap<u8, u8>,
    timers: BTreeSet<(usize, i64, u32)>,
    holds: BTreeMap<i64, u32>,
    asks: BTreeSet<u64>,
}

type Model = BTreeMap<u16, One>;

/// Keys of very different lengths.
fn bytes_of(key: u16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &vec![b'k'; usize::from(key % 7) * 10]].concat()
}

struct Bench {
    state: KeyedState,
    fx: Effects,
    shared: Arc<Shared>,
    uploads: Arc<Uploads>,
    acks: Receiver<Ack>,
    /// So many writes find no room.
    full: Arc<AtomicUsize>,
}

fn bench(log: &Arc<JobLog>) -> Bench {
    let plan = PlanBuilder::new(EventTime).build();
    let (meters, seat) = (Arc::new(Meters::new(&plan, 0, 1)), Seat::alone(1));
    let shared = Arc::new(Shared::new(RunOptions::default(), Control::new(), meters, &[], seat, Instant::now(), 1 << 30));
    let (send, acks) = channel();
    shared.bounds.hear(move |ack| _ = send.send(ack));
    let uploads = Arc::new(Uploads::start(log).unwrap());
    Bench { state: KeyedState::new(3, 2), fx: Effects::new(vec![]), shared, uploads, acks, full: Arc::default() }
}

impl Bench {
    fn open(&mut self, folder: &Path, generation: u64, piece: &Piece) {
        let tier = Files { full: self.full.clone() }.open(folder).unwrap();
        let known = piece.files.iter().filter(|(n, _)| *n != META).map(|(n, f)| (n.clone(), f.clone())).collect();
        let kept = Kept { spot: SPOT, generation, uploads: self.uploads.clone(), known: Arc::new(std::sync::Mutex::new(known)) };
        let writer = Writer::start(tier.clone(), folder, &self.shared, Some(kept)).unwrap();
        self.state.put_below(Below::new(tier, writer));
    }

    fn freeze(&mut self, attempt: u64) {
        let piece = Piece { groups: (0, KEY_GROUPS), keys: self.state.len(), format: FORMAT.into(), ..Piece::default() };
        let header = self.state.header(&states());
        self.state.freeze(Save { attempt, idle: false, piece, states: vec![], header });
    }

    fn answer(&self) -> Ack {
        self.acks.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("no answer: {:?}", self.shared.take_fault()))
    }

    /// Does something with a key as an operator does.
    fn with<T>(&mut self, key: u16, call: impl FnOnce(&mut KeyState<'_>, &mut Cx<'_>) -> T) -> T {
        let (key, s) = (bytes_of(key), &mut self.state);
        let hash = Key::hash(&key);
        if s.keys.find(&key, hash).is_none() && s.has_cold() {
            s.load(&states(), &[(&key, hash)]).unwrap();
        }
        let place = s.keys.place(&key, hash, None);
        s.enter(place);
        let e = s.keys.entry(place);
        let mut state = KeyState::new(e.cells);
        let mut cx = Cx { key: e.key, place, refs: e.refs, work: &mut s.work, effects: &mut self.fx, changed: false };
        let result = call(&mut state, &mut cx);
        let changed = state.changed | cx.changed;
        s.keys.settle(place, changed);
        result
    }

    fn read(&mut self, key: u16) -> One {
        self.with(key, |state, cx| {
            let mut one = One { value: state.get(StateId(0)).map(<[u8]>::to_vec), ..One::default() };
            state.scan(StateId(1), i64::MIN, i64::MAX, &mut |t, n, b| {
                one.rows.insert((t, n), b[0]);
                Visit::Keep
            });
            state.map_scan(StateId(2), &mut |k, v| {
                one.map.insert(k[0], v[0]);
                Visit::Keep
            });
            for d in 0..HOLDS {
                one.timers.extend(cx.work.claimed(cx.place, d).into_iter().map(|(t, tag)| (d, t, tag)));
            }
            one.holds.extend(cx.work.claimed(cx.place, HOLDS));
            one.asks.extend(cx.work.asks.values().filter(|a| a.place == cx.place).map(|a| a.token));
            one
        })
    }

    fn check(&mut self, model: &Model, keys: u16, what: &str) {
        for key in 0..keys {
            assert_eq!(self.read(key), model.get(&key).cloned().unwrap_or_default(), "{what}: key {key}");
        }
        assert_eq!(self.state.len(), model.len() as u64, "{what}");
        assert_eq!(self.state.work.held, model.values().flat_map(|o| o.holds.values()).sum::<u32>() as usize, "{what}");
        let least = model.values().filter_map(|o| o.holds.keys().next()).min();
        assert!(least.is_none_or(|l| self.state.work.hold_limit() < *l), "{what}");
    }

    /// Fires what is due, as the operator's runner does.
    fn fire(&mut self, domain: TimeDomain, time: i64) -> Vec<(u16, i64, u32)> {
        let mut fired = vec![];
        loop {
            let awake = self.state.wake(&states(), domain, time).unwrap();
            while let Some(timer) = self.state.work.next_due(domain, awake) {
                self.state.enter(timer.1);
                self.state.work.take(domain, timer);
                let e = self.state.keys.entry(timer.1);
                *e.refs -= 1;
                fired.push((u16::from_be_bytes([e.key[0], e.key[1]]), timer.0, timer.2));
                self.state.keys.settle(timer.1, true);
            }
            if awake >= time {
                return fired;
            }
        }
    }
}

/// One random change of one key.
fn change(rng: &mut SmallRng, b: &mut Bench, model: &mut Model, keys: u16, now: i64) {
    let key = rng.random_range(0..keys);
    let one = model.entry(key).or_default();
    let (t, n, v) = (now + rng.random_range(1..400), rng.random_range(0..3u64), rng.random::<u8>());
    match rng.random_range(0..12) {
        0 => {
            b.with(key, |s, _| s.put(StateId(0), &[v; 40]));
            one.value = Some(vec![v; 40]);
        }
        1 => {
            b.with(key, |s, _| s.update(StateId(0)).push(v));
            one.value.get_or_insert_default().push(v);
        }
        2 => {
            b.with(key, |s, _| s.clear(StateId(0)));
            one.value = None;
        }
        3 => {
            b.with(key, |s, _| s.insert(StateId(1), t, n, &[v]));
            one.rows.insert((t, n), v);
        }
        4 => {
            let gone = b.with(key, |s, _| {
                let mut gone = 0;
                s.scan(StateId(1), i64::MIN, now, &mut |_, _, _| {
                    gone += 1;
                    Visit::Remove
                });
                gone
            });
            let before = one.rows.len();
            one.rows.retain(|(t, _), _| *t > now);
            assert_eq!(gone, before - one.rows.len());
        }
        5 => {
            b.with(key, |s, _| s.map_put(StateId(2), &[v % 4], &[v]));
            one.map.insert(v % 4, v);
        }
        6 => assert_eq!(b.with(key, |s, _| s.map_remove(StateId(2), &[v % 4])), one.map.remove(&(v % 4)).is_some()),
        7 | 8 => {
            b.with(key, |_, cx| cx.set_timer(DOMAINS[n as usize], t, v.into()));
            one.timers.insert((DOMAINS[n as usize] as usize, t, v.into()));
        }
        9 => {
            if let Some((d, t, tag)) = one.timers.pop_first() {
                b.with(key, |_, cx| cx.delete_timer(DOMAINS.into_iter().find(|x| *x as usize == d).unwrap(), t, tag));
            }
        }
        10 => {
            // Far enough apart for the steps in which holds are counted.
            let t = t * 100_000;
            b.with(key, |_, cx| cx.hold(t));
            *one.holds.entry(t).or_default() += 1;
        }
        _ => {
            if let Some(mut held) = one.holds.first_entry() {
                let t = *held.key();
                b.with(key, |_, cx| cx.release(t));
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
        }
    }
    if v == 7 && one.asks.len() < 2 {
        let token = u64::from(key) << 32 | rng.random::<u32>() as u64;
        b.with(key, |_, cx| cx.ask(0, b"?", token));
        one.asks.insert(token);
    }
    if *one == One::default() {
        model.remove(&key);
    }
}

/// A state as `workers` would restore it, one after the other; all together have what the model has.
fn restore(log: &Arc<JobLog>, dir: &Path, piece: &Piece, model: &Model, keys: u16, workers: u64, generation: u64) -> Vec<Bench> {
    let mut all = vec![];
    for worker in 0..workers {
        let groups = (worker * KEY_GROUPS / workers, (worker + 1) * KEY_GROUPS / workers);
        let mut b = bench(log);
        let (folder, from) = (dir.join(format!("{generation}-{worker}")), dir.join(format!("{generation}-{worker}-from")));
        if workers == 1 {
            let header = fetch(log, &piece.files, &folder).unwrap();
            b.state.take_header(&states(), &header, true).unwrap();
            b.open(&folder, generation, piece);
            b.state.adopt(&states(), piece.keys).unwrap();
        } else {
            b.open(&folder, generation, &Piece::default());
            let header = fetch(log, &piece.files, &from).unwrap();
            b.state.take_header(&states(), &header, false).unwrap();
            let cold = b.state.import(&*Files::default().open(&from).unwrap(), groups).unwrap();
            b.state.adopt(&states(), cold).unwrap();
        }
        let mine = |key: &u16| (groups.0..groups.1).contains(&Key::group(&bytes_of(*key)));
        let part: Model = model.iter().filter(|(k, _)| mine(k)).map(|(k, o)| (*k, o.clone())).collect();
        assert_eq!(b.state.len(), part.len() as u64);
        let asked: BTreeSet<u64> = b.state.work.asks.values().map(|a| a.token).collect();
        assert_eq!(asked, part.values().flat_map(|o| o.asks.clone()).collect(), "all questions are there at once");
        if workers > 1 {
            b.check(&part, keys, "restored");
        }
        all.push(b);
    }
    all
}

#[test]
fn wherever_keys_lie_a_state_is_plain_maps_and_so_are_its_checkpoints() {
    for seed in 0..9u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let keys = [6, 60, 400][seed as usize % 3];
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(JobLog::open(Arc::new(Local::open(&dir.path().join("storage")).unwrap()), "job", true).unwrap());
        let (mut model, mut now, mut generation) = (Model::new(), 1000, 1);
        let mut b = bench(&log);
        (0..rng.random_range(0..300)).for_each(|_| change(&mut rng, &mut b, &mut model, keys, now));
        b.open(&dir.path().join("first"), generation, &Piece::default());
        // Checkpoints on their way, by attempt: what was there at their boundary.
        let mut open: BTreeMap<u64, (Model, u64)> = BTreeMap::new();
        let mut attempt = 0;
        for step in 0..1200 {
            b.state.refresh();
            match rng.random_range(0..100) {
                0..70 => change(&mut rng, &mut b, &mut model, keys, now),
                70..76 => _ = b.state.thaw(false),
                76..80 => _ = b.state.evict(rng.random_range(1..50), 500, rng.random()),
                80..83 => b.state.write_changes(rng.random_range(1..5000)),
                83..84 => b.state.spill(),
                84..90 => {
                    now += rng.random_range(1..200);
                    for domain in DOMAINS {
                        let mut due = vec![];
                        for (key, one) in &mut model {
                            let gone: Vec<_> = one.timers.iter().filter(|t| t.0 == domain as usize && t.1 <= now).copied().collect();
                            gone.into_iter().for_each(|t| {
                                one.timers.remove(&t);
                                due.push((*key, t.1, t.2));
                            });
                        }
                        model.retain(|_, one| *one != One::default());
                        let mut fired = b.fire(domain, now);
                        fired.sort_unstable();
                        due.sort_unstable();
                        assert_eq!(fired, due, "seed {seed}, step {step}, {domain:?} at {now}");
                    }
                    (b.state.work.watermark, b.state.work.now, b.state.work.inputs) = (now, now, vec![now; 2]);
                    b.state.work.sequence += 1;
                }
                90..93 => {
                    attempt += 1;
                    open.insert(attempt, (model.clone(), b.state.work.sequence));
                    b.freeze(attempt);
                }
                93..95 => b.check(&model, keys, "live"),
                _ => {
                    while b.state.thaw(true) {}
                    let Some((newest, (then, sequence))) = open.pop_last() else { continue };
                    let piece = loop {
                        let ack = b.answer();
                        let Body::State { piece, .. } = ack.body else { panic!("a checkpoint was not stored") };
                        // Uploads may overtake each other.
                        if ack.attempt == newest {
                            break piece;
                        }
                    };
                    open.clear();
                    generation += 10;
                    let workers = rng.random_range(1..4);
                    let mut restored = restore(&log, dir.path(), &piece, &then, keys, workers, generation);
                    assert!(restored.iter().all(|r| r.state.work.sequence == sequence));
                    if workers == 1 {
                        // On from there, as after a crash.
                        (b, model) = (restored.remove(0), then);
                        now = now.max(b.state.work.now);
                    } else {
                        restored.iter().for_each(|r| r.uploads.stop());
                    }
                    while b.acks.try_recv().is_ok() {}
                }
            }
        }
        b.check(&model, keys, "at the end");
        b.state.spill();
        b.check(&model, keys, "from the tier");
    }
}

#[test]
fn a_disk_without_room_fails_checkpoints_until_there_is_some() {
    let (mut rng, keys) = (SmallRng::seed_from_u64(1), 60);
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(JobLog::open(Arc::new(Local::open(&dir.path().join("storage")).unwrap()), "job", true).unwrap());
    let (mut model, mut b) = (Model::new(), bench(&log));
    b.open(&dir.path().join("first"), 1, &Piece::default());
    b.full.store(usize::MAX, SeqCst);
    let mut attempt = 0;
    let mut next = |b: &mut Bench, model: &mut Model| {
        attempt += 1;
        (0..100).for_each(|_| change(&mut rng, b, model, keys, 1000));
        b.freeze(attempt);
        while b.state.thaw(true) {}
        let answer = b.answer();
        assert_eq!(answer.attempt, attempt);
        answer.body
    };
    for _ in 0..3 {
        let Body::Failed { fault, .. } = next(&mut b, &mut model) else { panic!("a checkpoint that cannot be") };
        assert!(fault.retry && fault.message == "no room", "{fault:?}");
        b.state.refresh();
        b.check(&model, keys, "without room");
    }
    b.full.store(0, SeqCst);
    // It waits a moment before it tries again.
    let piece = loop {
        if let Body::State { piece, .. } = next(&mut b, &mut model) {
            break piece;
        }
    };
    restore(&log, dir.path(), &piece, &model, keys, 1, 2)[0].check(&model, keys, "restored");
    b.state.spill();
    b.check(&model, keys, "from the tier");
}

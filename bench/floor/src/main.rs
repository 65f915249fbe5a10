//! The floor of J1, J1t, J1d, J1c, J2, J3, J4 (../JOBS.md): bare loops for just these jobs, one thread, no engine.
//!
//! floor JOB IN... OUT   (J1any, J1tre: J1 in any key order, J1t by the regex crate; bad lines: OUT.bad; J3: IN = exposures clicks)
//!
//! Every line is first read by its expected layout (key order of the generator), with 64-byte masks; a line that does not fit is
//! parsed by sonic-rs and, when valid, written again in that layout with canonical escapes and sent through the same code. So the
//! layout is a guess, never a rule. The pieces are included, not modules: the whole loop is to be optimised as one.
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs::File,
    io::{Read, Write},
    time::Instant,
};

#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
const PAD: usize = 256;

include!("wide.rs");
include!("lines.rs");
include!("json.rs");
include!("j1.rs");
include!("j1t.rs");
include!("text.rs");
include!("j2.rs");
include!("slab.rs");
include!("j3.rs");
include!("j4.rs");

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (job, ins, out) = (a[1].as_str(), &a[2..a.len() - 1], &a[a.len() - 1]);
    let (mut o, mut bad) = (Out::new(out), Out::new(&format!("{out}.bad")));
    let mut i: Vec<Lines> = ins.iter().map(|p| Lines::new(p)).collect();
    let t = Instant::now();
    let peak = unsafe {
        match job {
            "J1" => {
                j1(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1any" => {
                j1_any(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1t" => {
                j1t::<false>(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1tre" => {
                j1t::<true>(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1d" => {
                j1d(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1c" => {
                j1c(&mut i[0], &mut o, &mut bad);
                0
            }
            "J2" => {
                j2(&mut i[0], &mut o, &mut bad);
                0
            }
            "J3" => {
                let [l, r] = &mut i[..] else { panic!("J3 EXPOSURES CLICKS OUT") };
                j3(l, r, &mut o, &mut bad)
            }
            "J4" => j4(&mut i[0], &mut o, &mut bad),
            _ => panic!("J1 J1any J1t J1tre J1d J1c J2 J3 J4"),
        }
    };
    o.flush();
    bad.flush();
    let (s, n) = (t.elapsed().as_secs_f64(), i.iter().map(|x| x.n).sum::<u64>());
    eprintln!("{job} in {n} out {} bad {} peak_state_rows {peak} {s:.3}s {:.0}/s", o.n, bad.n, n as f64 / s);
}

//! What the log costs in a place: `cargo run --release -p millrace-durable --example costs -- LOCATION`. Keys of an `s3://` location, and
//! its endpoint (AWS_ENDPOINT_URL), come from the environment.

use millrace_durable::{Generation, JobLog, Kind, Manifest, Record, S3Options, StartFrom, open};
use millrace_sdk::Fault;
use std::time::Instant;

fn main() -> Result<(), Fault> {
    let location = std::env::args().nth(1).ok_or_else(|| Fault::config("say where: a folder, or s3://bucket/prefix"))?;
    let log = JobLog::open(open(&location, &S3Options { path_style: true, ..S3Options::default() })?, "costs", true)?;
    let start = Generation { run: 1, from: 0, config: 0, workers: 1, time: 1 };
    let generation = log.begin(&start, &StartFrom::Latest)?.generation;
    let of = |what: &str, n: u64, call: &dyn Fn(u64) -> Result<(), Fault>| -> Result<(), Fault> {
        let mut took = Vec::new();
        for i in 0..n {
            let start = Instant::now();
            call(i)?;
            took.push(start.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        println!("{what:14} p50 {:8.2} ms  p99 {:8.2} ms", took[took.len() / 2], took[took.len() * 99 / 100]);
        Ok(())
    };
    let manifest = |slot| Manifest {
        version: Manifest::VERSION,
        release: String::new(),
        slot,
        generation,
        kind: Kind::Periodic,
        time: 1,
        job: "costs".into(),
        config: 0,
        workers: 1,
        took: 0,
        guarded: false,
        sources: Vec::new(),
        operators: Vec::new(),
        sinks: Vec::new(),
    };
    let name = |rest: String| JobLog::file_name(generation, &rest);
    let (sst, tmp) = (vec![7; 4 << 20], std::env::temp_dir().join(format!("millrace-costs-{}", std::process::id())));
    of("take a slot", 200, &|i| log.take(generation + 1 + i, &Record::Manifest(Box::new(manifest(generation + 1 + i)))).map(drop))?;
    of("put 10 kB", 200, &|i| log.put(&name(format!("small-{i}")), &sst[..10_000]).map(drop))?;
    of("put 4 MiB", 20, &|i| log.put(&name(format!("large-{i}")), &sst).map(drop))?;
    of("put_file 4 MiB", 20, &|i| {
        std::fs::write(&tmp, &sst).map_err(|e| Fault::refused(e.to_string()))?;
        let put = log.put_file(&name(format!("file-{i}")), &tmp).map(drop);
        std::fs::remove_file(&tmp).map_err(|e| Fault::refused(e.to_string()))?;
        put
    })?;
    of("begin", 20, &|_| log.begin(&start, &StartFrom::Latest).map(drop))
}

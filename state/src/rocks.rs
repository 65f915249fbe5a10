//! One RocksDB a tier. What is written becomes a sorted file of its own (no log, no memtable: a crash starts from a checkpoint anyway), and
//! RocksDB merges these files in the background.

use millrace_sdk::Fault;
use millrace_sdk::tier::{Tier, TierEntry, TierFile, Tiers};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, IngestExternalFileOptions, LogLevel, Options, ReadOptions,
    SstFileWriter,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Written files that are not yet merged: from so many on merging begins, and writing waits.
const MERGED_FROM: i32 = 32;
const CROWDED: u64 = 64;
const ALL: &str = "default";
const MERGE_PAUSE: Duration = Duration::from_millis(5);
const READ_AHEAD: usize = 128 << 10;
/// Bytes of a merged file, which is also what a checkpoint uploads anew at least of a changed part.
const FILE: u64 = 32 << 20;
/// RocksDB's own words for a full disk, and the system's for a quota that is used up.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// All tiers of a process: they share one cache, for blocks, indexes and filters alike.
pub struct Rocks {
    cache: Cache,
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rocks({} bytes cached)", self.cache.get_usage())
    }
}

impl Rocks {
    /// `cache`: bytes.
    pub fn new(cache: usize) -> Rocks {
        Rocks { cache: Cache::new_lru_cache(cache) }
    }
}

impl Tiers for Rocks {
    fn open(&self, folder: &Path) -> Result<Arc<dyn Tier>, Fault> {
        let options = options(&self.cache);
        // Named, so that many keys can be asked for at a time.
        let db = DB::open_cf_with_opts(&options, folder, [(ALL, options.clone())]).map_err(|e| fault("opened", folder, &e))?;
        Ok(Arc::new(Rock { db, options, folder: folder.into(), written: AtomicU64::new(0) }))
    }
}

struct Rock {
    db: DB,
    options: Options,
    folder: PathBuf,
    /// Numbers the files before they are RocksDB's.
    written: AtomicU64,
}

fn options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_cache(cache);
    // Counted in the cache, so that memory is bounded whatever lies on disk.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    // Runs of one size are merged with each other, so that what rarely changes is rarely written, and uploaded, again.
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_level_zero_file_num_compaction_trigger(MERGED_FROM);
    options.set_target_file_size_base(FILE);
    // Each of the files that are merged at a time has such a buffer.
    options.set_compaction_readahead_size(READ_AHEAD);
    options.set_max_background_jobs(2);
    options.set_write_buffer_size(1 << 20);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(1);
    options
}

fn fault(what: &str, folder: &Path, e: &rocksdb::Error) -> Fault {
    let text = format!("state on disk in `{}` cannot be {what}", folder.display());
    let detail = e.to_string();
    match e.kind() {
        rocksdb::ErrorKind::Corruption => Fault::data(text).detail(detail).hint("its files are damaged: start from a checkpoint"),
        // Somebody makes room, and it goes on.
        rocksdb::ErrorKind::IOError if FULL.iter().any(|full| detail.contains(full)) => {
            Fault::down(text).detail(detail).hint("make room there: it is tried again")
        }
        _ => Fault::refused(text).detail(detail),
    }
}

impl Rock {
    fn fault(&self, what: &str, e: &rocksdb::Error) -> Fault {
        fault(what, &self.folder, e)
    }

    fn files_to_merge(&self) -> u64 {
        self.db.property_int_value("rocksdb.num-files-at-level0").ok().flatten().unwrap_or(0)
    }
}

impl Tier for Rock {
    fn get(&self, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        if let [key] = keys {
            let value = self.db.get_pinned(key).map_err(|e| self.fault("read", &e))?;
            return value.map_or(Ok(()), |v| found(0, &v));
        }
        let Some(all) = self.db.cf_handle(ALL) else { return Err(Fault::bug("a RocksDB without its default column family")) };
        for (i, value) in self.db.batched_multi_get_cf(&all, keys, false).into_iter().enumerate() {
            if let Some(v) = value.map_err(|e| self.fault("read", &e))? {
                found(i, &v)?;
            }
        }
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, Fault>) -> Result<(), Fault> {
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(from);
        read.set_iterate_upper_bound(to);
        let mut at = self.db.raw_iterator_opt(read);
        at.seek_to_first();
        while let Some((key, value)) = at.item() {
            if !visit(key, value)? {
                return Ok(());
            }
            at.next();
        }
        at.status().map_err(|e| self.fault("read", &e))
    }

    fn write<'a>(&self, entries: &mut dyn Iterator<Item = TierEntry<'a>>, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        let mut entries = entries.peekable();
        if entries.peek().is_none() && ranges.is_empty() {
            return Ok(());
        }
        let file = self.folder.join(format!("written-{}", self.written.fetch_add(1, Relaxed)));
        let mut writer = SstFileWriter::create(&self.options);
        let written = || {
            writer.open(&file)?;
            for (key, value) in entries {
                match value {
                    Some(value) => writer.put(key, value)?,
                    None => writer.delete(key)?,
                }
            }
            ranges.iter().try_for_each(|(from, to)| writer.delete_range(from, to))?;
            writer.finish()
        };
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        options.set_snapshot_consistency(false);
        if let Err(e) = written().and_then(|()| self.db.ingest_external_file_opts(&options, vec![&file])) {
            // Half a file takes room, and there may be none left. It may not be there at all.
            let _ = std::fs::remove_file(&file);
            return Err(self.fault("written", &e));
        }
        while self.files_to_merge() > CROWDED {
            std::thread::sleep(MERGE_PAUSE);
        }
        Ok(())
    }

    fn checkpoint(&self, folder: &Path) -> Result<Vec<TierFile>, Fault> {
        let made = Checkpoint::new(&self.db).and_then(|c| c.create_checkpoint(folder));
        made.map_err(|e| self.fault("put into a checkpoint", &e))?;
        let listed = std::fs::read_dir(folder).and_then(|d| d.map(|f| Ok(f?.file_name())).collect::<Result<Vec<_>, _>>());
        let names = listed.map_err(|e| Fault::refused(format!("`{}` cannot be listed", folder.display())).detail(e.to_string()))?;
        let names = names.into_iter().filter_map(|n| n.into_string().ok());
        Ok(names.map(|name| TierFile { lasting: name.ends_with(".sst"), name }).collect())
    }

    fn size(&self) -> u64 {
        self.db.property_int_value("rocksdb.total-sst-files-size").ok().flatten().unwrap_or(0)
    }
}

impl Drop for Rock {
    fn drop(&mut self) {
        // Nobody needs what is being merged.
        self.db.cancel_all_background_work(false);
    }
}

//! The table: rows as JSON text by key, in one RocksDB a folder, shared by all parts of the process that name it.

use millrace_sdk::Fault;
use rocksdb::{BlockBasedOptions, Cache, DB, Options, WriteBatch, WriteOptions};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, Weak};

/// Key spaces: rows that a sink wrote hide rows that were loaded from a file, and notes are for the table itself.
const WRITTEN: u8 = b'w';
const LOADED: u8 = b'l';
const NOTE: u8 = b'n';

static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Table>>>> = LazyLock::new(Mutex::default);

/// On one machine, with the same table.
const MOST_PROCESSES: usize = 256;

pub struct Table {
    db: DB,
    path: PathBuf,
    /// Held while a file is loaded.
    pub loading: Mutex<()>,
}

impl Table {
    /// The table in this folder; made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made or is another process's, a damaged table.
    pub fn open(path: &Path) -> Result<Arc<Table>, Fault> {
        Table::open_free(path)?.map_err(|fault| {
            fault.hint("another process uses it: give each job a folder of its own; in a job of several processes tables are loaded from a file, or lie on a server")
        })
    }

    /// The inner error: another process has it.
    fn open_free(path: &Path) -> Result<Result<Arc<Table>, Fault>, Fault> {
        let mut open = OPEN.lock().unwrap_or_else(|e| e.into_inner());
        std::fs::create_dir_all(path).map_err(|e| {
            Fault::refused(format!("cannot make the folder `{}` of an embedded table", path.display())).detail(e.to_string())
        })?;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if let Some(table) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(Ok(table));
        }
        let db = match DB::open(&options(), &path) {
            Ok(db) => db,
            Err(e) => {
                let fault = Fault::refused(format!("cannot open the embedded table in `{}`", path.display())).detail(e.to_string());
                return if e.to_string().contains("lock") { Ok(Err(fault)) } else { Err(fault) };
            }
        };
        let table = Arc::new(Table { db, path: path.clone(), loading: Mutex::default() });
        open.insert(path, Arc::downgrade(&table));
        Ok(Ok(table))
    }

    /// The table in this folder or, while another process has that one, in one beside it: for tables that each process fills for itself.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_own(path: &Path) -> Result<Arc<Table>, Fault> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for n in 1..MOST_PROCESSES {
            let folder = if n == 1 { path.to_path_buf() } else { path.with_file_name(format!("{name}-{n}")) };
            if let Ok(table) = Table::open_free(&folder)? {
                return Ok(table);
            }
        }
        Table::open(path)
    }

    /// The rows of these keys, JSON text each.
    pub fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let mut rows: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        for space in [WRITTEN, LOADED] {
            let missing: Vec<usize> = (0..keys.len()).filter(|i| rows[*i].is_none()).collect();
            let found = self.db.multi_get(missing.iter().map(|i| spaced(space, &keys[*i])));
            for (i, row) in missing.into_iter().zip(found) {
                rows[i] = row.map_err(|e| self.broken(&e))?;
            }
        }
        // A row that was deleted hides a loaded one, too.
        Ok(rows.into_iter().map(|r| r.filter(|r| !r.is_empty())).collect())
    }

    /// Writes rows (empty: deleted) in order; they are found at once, and durable after [`sync`](Self::sync).
    pub fn write<'a>(&self, rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), Fault> {
        let mut batch = WriteBatch::default();
        for (key, row) in rows {
            batch.put(spaced(WRITTEN, key), row);
        }
        self.db.write(batch).map_err(|e| self.broken(&e))
    }

    pub fn sync(&self) -> Result<(), Fault> {
        self.db.flush_wal(true).map_err(|e| self.broken(&e))
    }

    /// Takes the loaded rows' place; to be followed by [`loaded`](Self::loaded).
    pub fn clear_loaded(&self) -> Result<(), Fault> {
        let mut batch = WriteBatch::default();
        batch.delete([NOTE]);
        batch.delete_range([LOADED], [LOADED + 1]);
        self.db.write(batch).map_err(|e| self.broken(&e))
    }

    /// Adds loaded rows, which need not survive a crash before [`loaded`](Self::loaded).
    pub fn load<'a>(&self, rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), Fault> {
        let mut batch = WriteBatch::default();
        for (key, row) in rows {
            batch.put(spaced(LOADED, key), row);
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|e| self.broken(&e))
    }

    /// Says what is loaded now.
    pub fn loaded(&self, fingerprint: &[u8]) -> Result<(), Fault> {
        self.db.flush().map_err(|e| self.broken(&e))?;
        self.db.put([NOTE], fingerprint).map_err(|e| self.broken(&e))?;
        self.sync()
    }

    /// What was loaded last, if all of it was.
    pub fn fingerprint(&self) -> Result<Option<Vec<u8>>, Fault> {
        self.db.get([NOTE]).map_err(|e| self.broken(&e))
    }

    fn broken(&self, e: &rocksdb::Error) -> Fault {
        Fault::refused(format!("the embedded table in `{}` does not answer", self.path.display())).detail(e.to_string())
    }
}

fn spaced(space: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(space);
    out.extend_from_slice(key);
    out
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_cache(&Cache::new_lru_cache(32 << 20));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_write_buffer_size(16 << 20);
    options.set_max_write_buffer_number(2);
    options.set_keep_log_file_num(2);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_rows_hide_loaded_ones() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::open(&dir.path().join("t")).unwrap();
        let get = |keys: &[&str]| -> Vec<Option<String>> {
            let keys: Vec<Vec<u8>> = keys.iter().map(|k| k.as_bytes().to_vec()).collect();
            table.get(&keys).unwrap().into_iter().map(|r| r.map(|r| String::from_utf8(r).unwrap())).collect()
        };
        let some = |s: &str| Some(s.to_string());
        table.load([(&b"a"[..], &b"1"[..]), (b"b", b"2"), (b"", b"empty key")]).unwrap();
        table.loaded(b"f").unwrap();
        table.write([(&b"b"[..], &b"3"[..]), (b"c", b"4"), (b"c", b"5")]).unwrap();
        assert_eq!(get(&["a", "b", "c", "d", "", "a"]), [some("1"), some("3"), some("5"), None, some("empty key"), some("1")]);
        table.write([(&b"a"[..], &b""[..])]).unwrap();
        assert_eq!(get(&["a"]), [None]);
        table.clear_loaded().unwrap();
        assert_eq!(get(&["", "b"]), [None, some("3")]);
        assert_eq!(table.fingerprint().unwrap(), None);
        assert!(Arc::ptr_eq(&table, &Table::open(&dir.path().join("t")).unwrap()), "one process, one table");
        table.sync().unwrap();
        drop(table);
        let again = Table::open(&dir.path().join("t")).unwrap();
        assert_eq!(again.get(&[b"c".to_vec()]).unwrap(), [Some(b"5".to_vec())]);
    }
}

//! The console's folder: one SQLite database, and the lock that keeps a second console out.

use crate::refusal::Refusal;
use millrace_sdk::Fault;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The schema's steps, in order; what is published never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
];
/// How long a statement waits for another program that looks into the database.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);

pub struct Store {
    db: Mutex<Connection>,
    folder: PathBuf,
    /// Held while the console lives; the kernel lets it go with the process.
    _lock: File,
}

impl Store {
    /// Opens the database of a folder, which it makes if need be, and brings its schema up to date.
    ///
    /// # Errors
    /// Another console runs with this folder, it cannot be written, or its database is of a newer release.
    pub fn open(folder: &Path) -> Result<Store, Fault> {
        let refused =
            |e: &dyn std::fmt::Display| Fault::refused(format!("the console's folder `{}` cannot be used: {e}", folder.display()));
        fs::create_dir_all(folder).map_err(|e| refused(&e))?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(|e| refused(&e))?;
        // Jobs get absolute paths, and outlive what is the current folder now.
        let folder = &fs::canonicalize(folder).map_err(|e| refused(&e))?;
        let lock = lock(&folder.join("console.lock"))?;
        let file = folder.join("console.db");
        // SQLite gives its journals the permissions of the database.
        OpenOptions::new().create(true).append(true).mode(0o600).open(&file).map_err(|e| refused(&e))?;
        let mut db = Connection::open(&file).map_err(|e| refused(&e))?;
        db.busy_timeout(BUSY).map_err(|e| refused(&e))?;
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;")
            .map_err(|e| refused(&e))?;
        migrate(&mut db).map_err(|e| refused(&e))?;
        Ok(Store { db: Mutex::new(db), folder: folder.clone(), _lock: lock })
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a transaction; an error takes back what it did.
    ///
    /// # Errors
    /// What `work` says, or the database.
    pub fn run<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut db = self.db.lock().unwrap_or_else(|e| e.into_inner());
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

fn lock(path: &Path) -> Result<File, Fault> {
    let refused = |e: std::io::Error| Fault::refused(format!("`{}` cannot be opened: {e}", path.display()));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(refused)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut who = String::new();
        let _ = file.read_to_string(&mut who);
        return Err(Fault::refused(format!("another console runs with the folder `{}`", path.parent().unwrap_or(path).display()))
            .detail(format!("its process is {}", if who.trim().is_empty() { "not known" } else { who.trim() }))
            .hint("stop it first, or give this one its own folder by --data"));
    }
    let told = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    told.map_err(refused)?;
    Ok(file)
}

fn migrate(db: &mut Connection) -> Result<(), String> {
    let version: usize = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(|e| e.to_string())?;
    if version > MIGRATIONS.len() {
        return Err(format!("its database has version {version}, this release knows {}", MIGRATIONS.len()));
    }
    for (i, step) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = db.transaction().map_err(|e| e.to_string())?;
        transaction.execute_batch(step).map_err(|e| format!("step {} of its schema: {e}", i + 1))?;
        transaction.pragma_update(None, "user_version", i + 1).map_err(|e| e.to_string())?;
        transaction.commit().map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The first row, if there is one.
pub fn first<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    row: impl FnOnce(&rusqlite::Row) -> rusqlite::Result<T>,
) -> Result<Option<T>, Refusal> {
    Ok(db.prepare_cached(sql)?.query_row(params, row).optional()?)
}

/// All rows.
pub fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    row: impl FnMut(&rusqlite::Row) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Refusal> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params, row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether an error is that a name is taken.
pub fn is_taken(e: &rusqlite::Error) -> bool {
    e.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_console_is_refused_and_a_third_finds_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let store = Store::open(&path).unwrap();
        let second = Store::open(&path).err().unwrap();
        assert!(second.message.contains("another console runs"), "{second}");
        assert_eq!(second.detail.unwrap(), format!("its process is {}", std::process::id()));
        store.run(|db| Ok(db.execute("INSERT INTO teams (name, created) VALUES ('a', 1)", [])?)).unwrap();
        let failed = store.run(|db| {
            db.execute("INSERT INTO teams (name, created) VALUES ('b', 1)", [])?;
            Err::<(), _>(Refusal::not_found())
        });
        assert!(failed.is_err());
        drop(store);
        let names = Store::open(&path).unwrap().run(|db| all(db, "SELECT name FROM teams", [], |r| r.get::<_, String>(0))).unwrap();
        assert_eq!(names, ["a"]);
        assert_eq!(fs::metadata(path.join("console.db")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_database_of_a_newer_release_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        Connection::open(folder.path().join("console.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let e = Store::open(folder.path()).err().unwrap();
        assert!(e.message.contains("version 99"), "{e}");
    }
}

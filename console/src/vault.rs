//! Secrets at rest: each value is sealed with AES-256-GCM under a key that lies in a file, never in the database. A copy of the database,
//! a backup of it or its free pages tell nothing of them; a sealed value that is moved to another task or name does not open.

use crate::Refusal;
use crate::store::{Store, all, first};
use millrace_sdk::Fault;
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use rusqlite::params;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
/// What is sealed to know the key again.
const PROOF: (i64, &str, &str) = (0, "", "millrace console");

pub struct Vault([u8; KEY]);

impl Vault {
    /// Reads the key, which a first start makes beside the database unless the administrator gives one, and seals what lies open in the
    /// database.
    ///
    /// # Errors
    /// The file cannot be used, others can read it, or it is not the key of this database.
    pub fn open(store: &Store, given: Option<&Path>) -> Result<Vault, Fault> {
        let path = given.map_or_else(|| store.folder().join("console.key"), PathBuf::from);
        let failed = |r: Refusal| Fault::refused(r.message);
        let proof: Option<Vec<u8>> = store.run(|db| first(db, "SELECT proof FROM vault", [], |r| r.get(0))).map_err(failed)?;
        if given.is_none() && proof.is_none() && !path.exists() {
            make(&path).map_err(|e| Fault::refused(format!("the key `{}` cannot be written: {e}", path.display())))?;
        }
        let vault = Vault(read(&path).map_err(|e| {
            e.hint(
                "the key of secrets is 64 hexadecimal digits (`openssl rand -hex 32`) in a file that only the console's user can read; \
             restore the one with which the secrets were set",
            )
        })?);
        match &proof {
            Some(sealed) if vault.open_value(PROOF.0, PROOF.1, sealed).as_deref() != Some(PROOF.2) => {
                return Err(Fault::refused(format!("`{}` is not the key with which this console's secrets were sealed", path.display()))
                    .hint("give the right one, by --key-file or as console.key in the console's folder"));
            }
            _ => {}
        }
        store
            .run(|db| {
                if proof.is_none() {
                    db.execute("INSERT INTO vault (id, proof) VALUES (1, ?1)", [vault.seal(PROOF.0, PROOF.1, PROOF.2)?])?;
                }
                // Of a release that did not seal.
                let plain = all(db, "SELECT task, name, value FROM secrets WHERE value <> ''", [], |r| {
                    Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?))
                })?;
                for (task, name, value) in plain {
                    let sealed = vault.seal(task, &name, &value)?;
                    db.execute("UPDATE secrets SET value = '', sealed = ?1 WHERE task = ?2 AND name = ?3", params![sealed, task, name])?;
                }
                Ok(())
            })
            .map_err(failed)?;
        Ok(vault)
    }

    /// Nonce, sealed value, tag.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, task: i64, name: &str, value: &str) -> Result<Vec<u8>, Refusal> {
        let failed = |_| Refusal::failed("the secret cannot be sealed");
        let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
        rand_bytes(&mut nonce).map_err(failed)?;
        let place = place(task, name);
        let sealed = encrypt_aead(Cipher::aes_256_gcm(), &self.0, Some(&nonce), &place, value.as_bytes(), &mut tag).map_err(failed)?;
        Ok([&nonce[..], &sealed, &tag].concat())
    }

    /// None: it was changed, is of another place, or of another key.
    pub fn open_value(&self, task: i64, name: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, rest) = sealed.split_at_checked(NONCE)?;
        let (sealed, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
        let value = decrypt_aead(Cipher::aes_256_gcm(), &self.0, Some(nonce), &place(task, name), sealed, tag).ok()?;
        String::from_utf8(value).ok()
    }
}

/// Whose value it is.
fn place(task: i64, name: &str) -> Vec<u8> {
    format!("{task}/{name}").into_bytes()
}

fn make(path: &Path) -> std::io::Result<()> {
    let mut key = [0; KEY];
    rand_bytes(&mut key)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", hex::encode(key))?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

fn read(path: &Path) -> Result<[u8; KEY], Fault> {
    let refused = |e: std::io::Error| Fault::refused(format!("the key `{}` cannot be read: {e}", path.display()));
    let mode = fs::metadata(path).map_err(refused)?.mode();
    if mode & 0o077 != 0 {
        return Err(Fault::refused(format!("the key `{}` can be read by others: its mode is {:03o}", path.display(), mode & 0o777)));
    }
    let mut key = [0; KEY];
    let text = fs::read_to_string(path).map_err(refused)?;
    hex::decode_to_slice(text.trim(), &mut key).map_err(|_| Fault::refused(format!("`{}` is no key", path.display())))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn said(store: &Store, key: Option<&Path>) -> String {
        Vault::open(store, key).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let vault = Vault::open(&store, None).unwrap();
        for value in ["", "x", "hunter22", "密码\n\0", &"long ".repeat(10_000)] {
            let sealed = vault.seal(7, "PW", value).unwrap();
            assert_ne!(sealed, vault.seal(7, "PW", value).unwrap(), "two seals of a value are not alike");
            assert_eq!(vault.open_value(7, "PW", &sealed).as_deref(), Some(value));
            assert_eq!((vault.open_value(8, "PW", &sealed), vault.open_value(7, "PX", &sealed)), (None, None));
            for at in [0, NONCE, sealed.len() - 1] {
                let mut broken = sealed.clone();
                broken[at] ^= 1;
                assert_eq!(vault.open_value(7, "PW", &broken), None, "byte {at}");
            }
            assert_eq!(vault.open_value(7, "PW", &sealed[..sealed.len() - 1]), None);
        }
        assert_eq!(vault.open_value(7, "PW", &[]), None);
    }

    #[test]
    fn a_wrong_open_or_missing_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let own = folder.path().join("console.key");
        let given = folder.path().join("given");
        assert!(said(&store, Some(&given)).contains("cannot be read"), "a key that is given is not made");
        assert_eq!(said(&store, None), "");
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o600);
        assert_eq!(said(&store, None), "", "the same key again");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(said(&store, None).contains("its mode is 640"));
        fs::write(&given, "no key").unwrap();
        fs::set_permissions(&given, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(said(&store, Some(&given)).contains("is no key"));
        fs::write(&given, format!("{}\n", "ab".repeat(KEY))).unwrap();
        assert!(said(&store, Some(&given)).contains("is not the key"));
        fs::remove_file(&own).unwrap();
        assert!(said(&store, None).contains("cannot be read"), "no second key is made");
    }

    #[test]
    fn what_an_older_release_left_open_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let plain = "INSERT INTO teams VALUES (5, 't', 0); INSERT INTO tasks (id, team, name, created) VALUES (7, 5, 'a', 0);
                     INSERT INTO secrets (task, name, value, time) VALUES (7, 'PW', 'hunter22-plain', 0);";
        store.run(|db| Ok(db.execute_batch(plain)?)).unwrap();
        let vault = Vault::open(&store, None).unwrap();
        let row =
            store.run(|db| first(db, "SELECT value, sealed FROM secrets", [], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Vec<u8>>(1)?))));
        let (value, sealed) = row.unwrap().unwrap();
        assert_eq!((value.as_str(), vault.open_value(7, "PW", &sealed).as_deref()), ("", Some("hunter22-plain")));
    }
}

//! Users, their roles and teams; passwords, sessions, tokens.
//!
//! Passwords are kept as Argon2id (RFC 9106; OWASP's smallest parameters), session ids and tokens as SHA-256: they are 256 random bits, which
//! nobody guesses from a hash.

use crate::refusal::Refusal;
use crate::store::{Store, all, first, is_taken};
use argon2::password_hash::SaltString;
use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use axum::http::StatusCode;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

const SECOND: i64 = 1_000_000;
/// A session that is not used for so long ends.
const IDLE: i64 = 12 * 3600 * SECOND;
/// And any session ends after this.
const LONGEST: i64 = 7 * 86_400 * SECOND;
/// Failed logins are counted this far back.
const WINDOW: i64 = 15 * 60 * SECOND;
/// How many there may be: of one name from one address, of one name, from one address.
const FAILURES: [(&str, i64); 3] = [("name = ?1 AND address = ?2", 5), ("name = ?1 AND ?2 = ?2", 25), ("address = ?2 AND ?1 = ?1", 50)];
/// Bounds of a password's length, in characters.
const PASSWORD: std::ops::RangeInclusive<usize> = 12..=200;
/// Longest name of a user, team or token, in characters.
const NAME: usize = 60;

/// What somebody may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See the tasks of their teams.
    Viewer,
    /// Start and stop them.
    Operator,
    /// Make, change and delete them.
    Editor,
    /// All of it for all teams, and the accounts.
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Editor, Role::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Editor => "editor",
            Role::Admin => "admin",
        }
    }

    /// # Errors
    /// There is no such role.
    pub fn parse(text: &str) -> Result<Role, Refusal> {
        Role::ALL.into_iter().find(|r| r.name() == text).ok_or_else(|| Refusal::bad(format!("there is no role `{text}`")))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: i64,
    pub name: String,
    pub role: Role,
    pub active: bool,
    /// The password was given by somebody else and must be changed first.
    pub must_change: bool,
}

const USER: &str = "users.id, users.name, users.role, users.active, users.must_change";

fn user(r: &Row) -> rusqlite::Result<User> {
    let role: String = r.get(2)?;
    Ok(User { id: r.get(0)?, name: r.get(1)?, role: Role::parse(&role).unwrap_or(Role::Viewer), active: r.get(3)?, must_change: r.get(4)? })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub user: User,
    /// What every form of the session carries.
    pub csrf: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: i64,
    pub name: String,
    pub role: Role,
    pub created: i64,
    pub expires: i64,
    pub used: Option<i64>,
}

/// 256 random bits of the system's, as hex.
pub fn random() -> String {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.expect("a system without randomness can serve nobody");
    hex::encode(bytes)
}

/// A password that can be typed: 20 letters and digits that are not taken for one another.
pub fn random_password() -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let bytes = hex::decode(random()).unwrap_or_default();
    bytes.iter().take(20).map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()])).collect()
}

fn hashed(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// # Errors
/// The password is too short or too long.
pub fn hash_password(name: &str, password: &str) -> Result<String, Refusal> {
    if !PASSWORD.contains(&password.chars().count()) {
        return Err(Refusal::bad(format!("a password has {} to {} characters", PASSWORD.start(), PASSWORD.end())));
    }
    if password.eq_ignore_ascii_case(name) {
        return Err(Refusal::bad("a password is not the user's name"));
    }
    let salt = SaltString::encode_b64(&hex::decode(&random()[..32]).unwrap_or_default());
    let hash = salt.and_then(|salt| Argon2::default().hash_password(password.as_bytes(), &salt).map(|h| h.to_string()));
    hash.map_err(|e| Refusal::failed(format!("the password cannot be hashed: {e}")))
}

/// Takes as long for a user that does not exist.
fn verify(hash: Option<&str>, password: &str) -> bool {
    static NOBODY: OnceLock<String> = OnceLock::new();
    let nobody = || NOBODY.get_or_init(|| hash_password("", &random()).unwrap_or_default()).as_str();
    let parsed = PasswordHash::new(hash.unwrap_or_else(nobody));
    let right = parsed.is_ok_and(|h| Argon2::default().verify_password(password.as_bytes(), &h).is_ok());
    right && hash.is_some()
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let fine = |c: char| c.is_alphanumeric() || "-_.@ ".contains(c);
    match name.trim() == name && !name.is_empty() && name.chars().count() <= NAME && name.chars().all(fine) {
        true => Ok(()),
        false => Err(Refusal::bad(format!("a name has 1 to {NAME} letters, digits, blanks and `-_.@`"))),
    }
}

/// The first start: an administrator with a password that is told once. None: there are users already.
///
/// # Errors
/// The database.
pub fn first_admin(store: &Store, now: i64) -> Result<Option<String>, Refusal> {
    let password = random_password();
    let hash = hash_password("admin", &password)?;
    store.run(|db| {
        let users: i64 = db.query_row("SELECT count(*) FROM users", [], |r| r.get(0))?;
        if users > 0 {
            return Ok(None);
        }
        db.execute(
            "INSERT INTO users (name, password, role, must_change, created) VALUES ('admin', ?1, 'admin', 1, ?2)",
            params![hash, now],
        )?;
        db.execute("INSERT INTO teams (name, created) VALUES ('default', ?1)", [now])?;
        db.execute("INSERT INTO members (team, user) VALUES (last_insert_rowid(), 1)", [])?;
        Ok(Some(password))
    })
}

/// Counts a password as wrong before it is looked at, so that many at a time are no way round; who was right takes it back.
///
/// # Errors
/// Too many were wrong.
fn guess(db: &Connection, name: &str, address: &str, now: i64) -> Result<(), Refusal> {
    // Those of a clock that was ahead would count for as long as it was.
    db.execute("DELETE FROM login_failures WHERE time < ?1 OR time > ?2", [now - WINDOW, now])?;
    for (which, most) in FAILURES {
        let sql = format!("SELECT count(*), min(time) FROM login_failures WHERE {which}");
        let (count, oldest): (i64, Option<i64>) = db.query_row(&sql, params![name, address], |r| Ok((r.get(0)?, r.get(1)?)))?;
        if count >= most {
            let wait = (oldest.unwrap_or(now) + WINDOW - now).max(SECOND) / SECOND;
            let message = "too many logins have failed; wait before the next one";
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too-many-logins", message);
            return Err(Refusal { retry_after: Some(wait as u64), ..refusal });
        }
    }
    db.execute("INSERT INTO login_failures (name, address, time) VALUES (?1, ?2, ?3)", params![name, address, now])?;
    Ok(())
}

/// Who was right has guessed nothing.
fn forgive(db: &Connection, name: &str, address: &str) -> Result<(), Refusal> {
    Ok(db.execute("DELETE FROM login_failures WHERE name = ?1 AND address = ?2", params![name, address]).map(drop)?)
}

/// A new session and its id, which only the cookie has. Takes a tenth of a second of processor time.
///
/// # Errors
/// Wrong name or password (which of them is not said), or too many were wrong.
pub fn login(store: &Store, name: &str, password: &str, address: &str, now: i64) -> Result<(String, Session), Refusal> {
    let name: String = name.trim().chars().take(NAME).collect();
    let found = store.run(|db| {
        guess(db, &name, address, now)?;
        let sql = format!("SELECT {USER}, users.password FROM users WHERE name = ?1 AND active = 1");
        first(db, &sql, [&name], |r| Ok((user(r)?, r.get::<_, String>(5)?)))
    })?;
    if !verify(found.as_ref().map(|f| f.1.as_str()), password) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "wrong-login", "the name or the password is wrong"));
    }
    let user = found.map(|f| f.0).ok_or_else(Refusal::not_found)?;
    store.run(|db| {
        forgive(db, &name, address)?;
        db.execute("DELETE FROM sessions WHERE seen < ?1 OR created < ?2", [now - IDLE, now - LONGEST])?;
        let (id, csrf) = (random(), random());
        db.execute(
            "INSERT INTO sessions (hash, user, csrf, created, seen) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![hashed(&id), user.id, csrf, now],
        )?;
        Ok((id, Session { user, csrf }))
    })
}

/// The session of a cookie.
///
/// # Errors
/// The database.
pub fn session(store: &Store, id: &str, now: i64) -> Result<Option<Session>, Refusal> {
    store.run(|db| {
        let sql = format!(
            "SELECT {USER}, csrf, seen FROM sessions JOIN users ON users.id = sessions.user
             WHERE hash = ?1 AND seen >= ?2 AND sessions.created >= ?3 AND active = 1"
        );
        let found = first(db, &sql, params![hashed(id), now - IDLE, now - LONGEST], |r| {
            Ok((Session { user: user(r)?, csrf: r.get(5)? }, r.get::<_, i64>(6)?))
        })?;
        if found.as_ref().is_some_and(|f| f.1 < now - 60 * SECOND) {
            db.execute("UPDATE sessions SET seen = ?1 WHERE hash = ?2", params![now, hashed(id)])?;
        }
        Ok(found.map(|f| f.0))
    })
}

/// # Errors
/// The database.
pub fn logout(store: &Store, id: &str) -> Result<(), Refusal> {
    store.run(|db| Ok(db.execute("DELETE FROM sessions WHERE hash = ?1", [hashed(id)]).map(drop)?))
}

/// A change of one's own password.
pub struct Change<'a> {
    /// The session in which it is done, and where from.
    pub session: &'a str,
    pub address: &'a str,
    pub old: &'a str,
    pub new: &'a str,
    pub keep_tokens: bool,
}

/// Sets one's own password; all other sessions end, and all API tokens unless they are to be kept.
///
/// # Errors
/// The old one is wrong, as it was too often, or the new one is not good enough.
pub fn change_password(store: &Store, who: &User, change: &Change, now: i64) -> Result<(), Refusal> {
    let Change { session, address, old, new, keep_tokens } = *change;
    let hash: String = store.run(|db| {
        // A session that was stolen is no place to try passwords.
        guess(db, &who.name, address, now)?;
        Ok(db.query_row("SELECT password FROM users WHERE id = ?1", [who.id], |r| r.get(0))?)
    })?;
    if !verify(Some(&hash), old) {
        return Err(Refusal::bad("the present password is wrong"));
    }
    store.run(|db| forgive(db, &who.name, address))?;
    if old == new {
        return Err(Refusal::bad("the new password is the old one"));
    }
    let hash = hash_password(&who.name, new)?;
    store.run(|db| {
        db.execute("UPDATE users SET password = ?1, must_change = 0 WHERE id = ?2", params![hash, who.id])?;
        db.execute("DELETE FROM sessions WHERE user = ?1 AND hash <> ?2", params![who.id, hashed(session)])?;
        if !keep_tokens {
            db.execute("DELETE FROM tokens WHERE user = ?1", [who.id])?;
        }
        Ok(())
    })
}

/// All users with the names of their teams.
///
/// # Errors
/// The database.
pub fn users(db: &Connection) -> Result<Vec<(User, Vec<String>)>, Refusal> {
    let found = all(db, &format!("SELECT {USER} FROM users ORDER BY name"), [], user)?;
    found
        .into_iter()
        .map(|u| {
            let sql = "SELECT teams.name FROM members JOIN teams ON teams.id = team WHERE user = ?1 ORDER BY 1";
            Ok((u.clone(), all(db, sql, [u.id], |r| r.get(0))?))
        })
        .collect()
}

/// Makes a user with a password that must be changed at the first login.
///
/// # Errors
/// The name is taken, or no name.
pub fn add_user(store: &Store, name: &str, role: Role, teams: &[i64], now: i64) -> Result<String, Refusal> {
    check_name(name)?;
    let password = random_password();
    let hash = hash_password(name, &password)?;
    store.run(|db| {
        let sql = "INSERT INTO users (name, password, role, must_change, created) VALUES (?1, ?2, ?3, 1, ?4)";
        db.execute(sql, params![name, hash, role.name(), now]).map_err(|e| taken(e, "user", name))?;
        let id = db.last_insert_rowid();
        set_teams(db, id, teams)
    })?;
    Ok(password)
}

fn taken(e: rusqlite::Error, what: &str, name: &str) -> Refusal {
    if is_taken(&e) { Refusal::conflict(format!("there is a {what} `{name}` already")) } else { e.into() }
}

fn set_teams(db: &Connection, user: i64, teams: &[i64]) -> Result<(), Refusal> {
    db.execute("DELETE FROM members WHERE user = ?1", [user])?;
    for team in teams {
        let there = first(db, "SELECT 1 FROM teams WHERE id = ?1", [team], |_| Ok(()))?;
        there.ok_or_else(|| Refusal::bad("there is no such team"))?;
        db.execute("INSERT OR IGNORE INTO members (team, user) VALUES (?1, ?2)", [team, &user])?;
    }
    Ok(())
}

/// Changes what a user may do. Who may no more is logged out, and their tokens end.
///
/// # Errors
/// There is no such user, or nobody would be left who administers.
pub fn change_user(store: &Store, id: i64, role: Role, active: bool, teams: &[i64]) -> Result<(), Refusal> {
    store.run(|db| {
        let sql = "UPDATE users SET role = ?1, active = ?2 WHERE id = ?3";
        if db.execute(sql, params![role.name(), active, id])? == 0 {
            return Err(Refusal::not_found());
        }
        let admins: i64 = db.query_row("SELECT count(*) FROM users WHERE role = 'admin' AND active = 1", [], |r| r.get(0))?;
        if admins == 0 {
            return Err(Refusal::conflict("the last administrator cannot be taken away"));
        }
        if !active {
            db.execute("DELETE FROM sessions WHERE user = ?1", [id])?;
            db.execute("DELETE FROM tokens WHERE user = ?1", [id])?;
        }
        set_teams(db, id, teams)
    })
}

/// Gives a user a new password, which must be changed; their sessions and tokens end.
///
/// # Errors
/// There is no such user.
pub fn reset_password(store: &Store, id: i64) -> Result<String, Refusal> {
    let password = random_password();
    let hash = hash_password("", &password)?;
    store.run(|db| {
        if db.execute("UPDATE users SET password = ?1, must_change = 1 WHERE id = ?2", params![hash, id])? == 0 {
            return Err(Refusal::not_found());
        }
        db.execute("DELETE FROM sessions WHERE user = ?1", [id])?;
        db.execute("DELETE FROM tokens WHERE user = ?1", [id])?;
        Ok(())
    })?;
    Ok(password)
}

/// Teams by name; `of`: those of one user.
///
/// # Errors
/// The database.
pub fn teams(db: &Connection, of: Option<i64>) -> Result<Vec<(i64, String)>, Refusal> {
    let sql = "SELECT id, name FROM teams WHERE ?1 IS NULL OR id IN (SELECT team FROM members WHERE user = ?1) ORDER BY name";
    all(db, sql, [of], |r| Ok((r.get(0)?, r.get(1)?)))
}

/// The teams in which a user may make tasks.
///
/// # Errors
/// The database.
pub fn teams_of(db: &Connection, who: &User) -> Result<Vec<(i64, String)>, Refusal> {
    teams(db, (who.role < Role::Admin).then_some(who.id))
}

/// # Errors
/// The name is taken, or no name.
pub fn add_team(store: &Store, name: &str, now: i64) -> Result<i64, Refusal> {
    check_name(name)?;
    store.run(|db| {
        db.execute("INSERT INTO teams (name, created) VALUES (?1, ?2)", params![name, now]).map_err(|e| taken(e, "team", name))?;
        Ok(db.last_insert_rowid())
    })
}

/// A token of a user's, told once. It may at most what its user may, now and later.
///
/// # Errors
/// It has no name, or would last too long.
pub fn add_token(store: &Store, who: &User, name: &str, role: Role, days: i64, now: i64) -> Result<String, Refusal> {
    check_name(name)?;
    if !(1..=366).contains(&days) {
        return Err(Refusal::bad("a token lasts 1 to 366 days"));
    }
    if role > who.role {
        return Err(Refusal::forbidden("a token may not do more than its user"));
    }
    let token = format!("mlr_{}", random());
    store.run(|db| {
        let sql = "INSERT INTO tokens (user, name, hash, role, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        db.execute(sql, params![who.id, name, hashed(&token), role.name(), now, now + days * 86_400 * SECOND])?;
        Ok(())
    })?;
    Ok(token)
}

/// # Errors
/// The database.
pub fn tokens(db: &Connection, who: &User) -> Result<Vec<Token>, Refusal> {
    let sql = "SELECT id, name, role, created, expires, used FROM tokens WHERE user = ?1 ORDER BY id";
    all(db, sql, [who.id], |r| {
        let role: String = r.get(2)?;
        let role = Role::parse(&role).unwrap_or(Role::Viewer);
        Ok(Token { id: r.get(0)?, name: r.get(1)?, role, created: r.get(3)?, expires: r.get(4)?, used: r.get(5)? })
    })
}

/// # Errors
/// The user has no such token.
pub fn revoke_token(store: &Store, who: &User, id: i64) -> Result<(), Refusal> {
    let gone = store.run(|db| Ok(db.execute("DELETE FROM tokens WHERE id = ?1 AND user = ?2", [id, who.id])?))?;
    if gone == 0 { Err(Refusal::not_found()) } else { Ok(()) }
}

/// Who calls with this token, with the smaller role of both.
///
/// # Errors
/// The database.
pub fn bearer(store: &Store, token: &str, now: i64) -> Result<Option<User>, Refusal> {
    store.run(|db| {
        let sql = format!(
            "SELECT {USER}, tokens.role, tokens.id, coalesce(tokens.used, 0) FROM tokens JOIN users ON users.id = tokens.user
             WHERE hash = ?1 AND expires > ?2 AND active = 1 AND must_change = 0"
        );
        let found = first(db, &sql, params![hashed(token), now], |r| {
            Ok((user(r)?, r.get::<_, String>(5)?, r.get::<_, i64>(6)?, r.get::<_, i64>(7)?))
        })?;
        let Some((user, role, id, used)) = found else { return Ok(None) };
        if (now - used).abs() > 60 * SECOND {
            db.execute("UPDATE tokens SET used = ?1 WHERE id = ?2", [now, id])?;
        }
        let role = Role::parse(&role)?.min(user.role);
        Ok(Some(User { role, ..user }))
    })
}

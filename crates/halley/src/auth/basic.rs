//! `basic`: users with passwords in a file, one a line: `user:hash` or `user:hash:role,role`, the hash as argon2 prints it
//! (`$argon2id$v=19$…`). Lines that begin with `#` say nothing. The file is read again when it has changed.
//!
//! A hash takes tens of milliseconds and megabytes on purpose. So it is done by threads that may block, a few at once, and
//! a password that was right is remembered for a while, as a digest under a key of this process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use futures::future::{BoxFuture, ready};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::{AuthError, Authenticator, Credentials, Denial, Principal, Verdict, random_id};
use crate::config::{self, Config};
use crate::event::UserId;

struct Basic(Arc<Shared>);

struct Shared {
    settings: config::Basic,
    path: PathBuf,
    users: Mutex<Users>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    key: String,
    /// One for each password that is checked.
    turns: Semaphore,
    waiting: AtomicUsize,
}

struct Users {
    by_name: Arc<HashMap<String, Entry>>,
    changed: Option<SystemTime>,
    looked: Instant,
}

#[derive(Clone)]
struct Entry {
    hash: String,
    principal: Principal,
}

struct Remembered {
    /// The hash of the file that the password was right for.
    hash: String,
    until: Instant,
}

/// The file is looked at again this often at most.
const LOOK: Duration = Duration::from_secs(1);

/// Passwords are not longer; hashing one costs time with its length.
const PASSWORD_BYTES: usize = 1024;

/// What nobody's password is checked against, so that an unknown user takes as long as a wrong password.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(super) fn make(config: &Config) -> Result<Arc<dyn Authenticator>, AuthError> {
    Ok(Arc::new(Basic(shared(config)?)))
}

fn shared(config: &Config) -> Result<Arc<Shared>, AuthError> {
    let settings = config.basic.clone();
    let path = PathBuf::from(&settings.file);
    let by_name = read(&path).map_err(AuthError::Basic)?;
    let users = Users {
        by_name: Arc::new(by_name),
        changed: changed(&path),
        looked: Instant::now(),
    };
    Ok(Arc::new(Shared {
        turns: Semaphore::new(settings.concurrency),
        settings,
        path,
        users: Mutex::new(users),
        remembered: Mutex::default(),
        key: random_id(50),
        waiting: AtomicUsize::new(0),
    }))
}

impl Authenticator for Basic {
    fn judge(&self, credentials: &Credentials<'_>) -> BoxFuture<'static, Verdict> {
        let Some((name, password)) = credentials.basic.clone() else {
            return Box::pin(ready(match credentials.token {
                Some(_) => Verdict::Refused(Denial::Wrong),
                None => Verdict::Unknown,
            }));
        };
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.judge(&name, password).await })
    }
}

impl Shared {
    async fn judge(self: &Arc<Self>, name: &str, password: String) -> Verdict {
        if password.len() > PASSWORD_BYTES {
            return Verdict::Refused(Denial::Wrong);
        }
        let entry = self.users().get(name).cloned();
        let digest = self.digest(name, &password);
        if let Some(entry) = &entry
            && self.remembers(&digest, &entry.hash)
        {
            return Verdict::Is(entry.principal.clone());
        }
        let hash = entry.as_ref().map_or(NOBODY, |entry| &entry.hash).to_owned();
        match self.check(password, hash).await {
            None => Verdict::Refused(Denial::Unavailable),
            Some(is_right) => match entry.filter(|_| is_right) {
                None => Verdict::Refused(Denial::Wrong),
                Some(entry) => {
                    self.remember(digest, entry.hash);
                    Verdict::Is(entry.principal)
                }
            },
        }
    }

    /// `None` when too many wait already.
    async fn check(&self, password: String, hash: String) -> Option<bool> {
        let waits = Waits::among(&self.waiting, self.settings.queue)?;
        let _turn = self.turns.acquire().await.ok()?;
        drop(waits);
        let verify = move || {
            let hash = PasswordHash::new(&hash).ok()?;
            Argon2::default().verify_password(password.as_bytes(), &hash).ok()
        };
        Some(tokio::task::spawn_blocking(verify).await.ok()?.is_some())
    }

    fn users(&self) -> Arc<HashMap<String, Entry>> {
        let mut users = self.users.lock();
        if users.looked.elapsed() >= LOOK {
            users.looked = Instant::now();
            let now = changed(&self.path);
            if now != users.changed {
                users.changed = now;
                match read(&self.path) {
                    Ok(by_name) => {
                        info!(users = by_name.len(), "basic.file was read again");
                        users.by_name = Arc::new(by_name);
                    }
                    Err(reason) => warn!(
                        reason,
                        "basic.file has changed and cannot be used; the users stay as they are"
                    ),
                }
            }
        }
        Arc::clone(&users.by_name)
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).expect("HMAC takes keys of any length");
        // The length keeps apart what the two are made of.
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn remembers(&self, digest: &[u8; 32], hash: &str) -> bool {
        let remembered = self.remembered.lock();
        let known = remembered.get(digest);
        known.is_some_and(|known| known.hash == hash && known.until > Instant::now())
    }

    fn remember(&self, digest: [u8; 32], hash: String) {
        let until = Instant::now() + self.settings.remember.0;
        let mut remembered = self.remembered.lock();
        if remembered.len() >= self.settings.remembered {
            let now = Instant::now();
            remembered.retain(|_, known| known.until > now);
            if remembered.len() >= self.settings.remembered {
                remembered.clear();
            }
        }
        remembered.insert(digest, Remembered { hash, until });
    }
}

/// A place among those who wait.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn among(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

fn read(path: &Path) -> Result<HashMap<String, Entry>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut by_name = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line is not repeated: a hash can be tried.
        let wrong = |reason: &str| format!("line {}: {reason}", number + 1);
        let mut parts = line.splitn(3, ':');
        let (name, hash) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let user = UserId::parse(name).map_err(|reason| wrong(&reason))?;
        if !hash.starts_with("$argon2") || PasswordHash::new(hash).is_err() {
            return Err(wrong(
                "after the user and a colon comes a hash such as $argon2id$v=19$…",
            ));
        }
        let roles = parts.next().unwrap_or_default().split(',').map(str::trim);
        let principal = Principal {
            user: Some(user),
            roles: roles.filter(|role| !role.is_empty()).map(Into::into).collect(),
            ..Principal::default()
        };
        let entry = Entry {
            hash: hash.to_owned(),
            principal,
        };
        if by_name.insert(name.to_owned(), entry).is_some() {
            return Err(wrong("this user is there twice"));
        }
    }
    if by_name.is_empty() {
        return Err("there are no users in it, so nobody could ever connect".to_owned());
    }
    Ok(by_name)
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;
    use argon2::{Algorithm, Params, Version};
    use std::io::Write;

    use super::*;

    fn hash(password: &str) -> String {
        let params = Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password(password.as_bytes()).unwrap().to_string()
    }

    fn file(lines: &[String]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        file
    }

    fn config(file: &tempfile::NamedTempFile) -> Config {
        let mut config = Config::default();
        config.basic.file = file.path().display().to_string();
        config
    }

    async fn judge(authenticator: &dyn Authenticator, user: &str, password: &str) -> Verdict {
        let shown = Credentials {
            basic: Some((user.to_owned(), password.to_owned())),
            ..Credentials::default()
        };
        authenticator.judge(&shown).await
    }

    #[tokio::test]
    async fn the_password_of_the_file_opens_and_no_other() {
        let file = file(&[
            "# people".to_owned(),
            format!("15000:{}:supervisor,agent", hash("a")),
            format!("15001:{}", hash("b")),
        ]);
        let basic = make(&config(&file)).unwrap();
        let Verdict::Is(principal) = judge(&*basic, "15000", "a").await else {
            panic!("the right password is refused")
        };
        assert_eq!(principal.user, Some(UserId("15000".into())));
        assert_eq!(&*principal.roles, ["supervisor".into(), "agent".into()]);
        for (user, password) in [("15000", "b"), ("15001", "a"), ("nobody", "a"), ("15000", "")] {
            let verdict = judge(&*basic, user, password).await;
            assert_eq!(verdict, Verdict::Refused(Denial::Wrong), "{user} {password}");
        }
        // Again, from what is remembered.
        assert!(matches!(judge(&*basic, "15000", "a").await, Verdict::Is(_)));
    }

    #[tokio::test]
    async fn when_too_many_wait_nobody_is_told_that_the_password_is_wrong() {
        let file = file(&[format!("15000:{}", hash("a"))]);
        let mut config = config(&file);
        config.basic.queue = 1;
        let Ok(basic) = make(&config) else {
            panic!("it can be made")
        };
        // All places are taken.
        let shared = Basic(shared(&config).unwrap());
        let _turn = shared.0.turns.acquire_many(2).await.unwrap();
        let waiting = shared.judge(&Credentials {
            basic: Some(("15000".to_owned(), "a".to_owned())),
            ..Credentials::default()
        });
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        let verdict = judge(&shared, "15000", "a").await;
        assert_eq!(verdict, Verdict::Refused(Denial::Unavailable));
        // The control: with room it is right.
        assert!(matches!(judge(&*basic, "15000", "a").await, Verdict::Is(_)));
    }

    #[test]
    fn a_file_with_a_password_instead_of_a_hash_is_refused_without_repeating_it() {
        let file = file(&["15000:hush".to_owned()]);
        let Err(error) = make(&config(&file)) else {
            panic!("it was taken")
        };
        let error = error.to_string();
        assert!(error.contains("line 1") && !error.contains("hush"), "{error}");
    }
}

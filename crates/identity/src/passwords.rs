//! Hashing and checking passwords: bcrypt, a few at a time, and a memory of what was right.

use crate::config::Config;
use crate::{Error, Result};
use hmac::{Hmac, Mac};
use parking_lot::{Condvar, Mutex};
use sha2::Sha256;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// bcrypt looks at no more.
const BCRYPT_MAX_LENGTH: usize = 72;
/// How many right passwords are remembered.
const REMEMBERED: usize = 10_000;

/// Hashes and checks passwords.
pub struct Passwords {
    cost: u32,
    max_length: usize,
    strict: bool,
    memory: Option<Duration>,
    /// Known to this process alone: a digest in memory is of no use elsewhere.
    key: [u8; 32],
    right: Mutex<HashMap<[u8; 32], Instant>>,
    turns: Turns,
}

/// A password takes a quarter of a second of CPU at cost 12: a flood of logins must not take every thread.
struct Turns {
    free: Mutex<usize>,
    changed: Condvar,
}

impl Turns {
    fn take<R>(&self, work: impl FnOnce() -> R) -> R {
        let mut free = self.free.lock();
        while *free == 0 {
            self.changed.wait(&mut free);
        }
        *free -= 1;
        drop(free);
        // Given back even when `work` panics.
        struct Back<'a>(&'a Turns);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                *self.0.free.lock() += 1;
                self.0.changed.notify_one();
            }
        }
        let _back = Back(self);
        work()
    }
}

impl Passwords {
    /// As configured.
    pub fn new(config: &Config) -> Passwords {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            cost: config.password_hash_rounds.clamp(4, 31),
            max_length: config.max_password_length.min(BCRYPT_MAX_LENGTH),
            strict: config.strict_password_check,
            memory: (config.password_cache_seconds > 0).then(|| Duration::from_secs(config.password_cache_seconds)),
            key: rand::random(),
            right: Mutex::new(HashMap::new()),
            turns: Turns {
                free: Mutex::new(cores),
                changed: Condvar::new(),
            },
        }
    }

    fn cut<'a>(&self, password: &'a str) -> Result<&'a [u8]> {
        let bytes = password.as_bytes();
        if bytes.len() <= self.max_length {
            return Ok(bytes);
        }
        if self.strict {
            return Err(Error::Refused(format!(
                "The password length must be less than or equal to {}. The server could not comply with the request because the password is invalid.",
                self.max_length
            )));
        }
        Ok(&bytes[..self.max_length])
    }

    /// The `$2b$` hash of a password.
    pub fn hash(&self, password: &str) -> Result<String> {
        let bytes = self.cut(password)?;
        let salt: [u8; 16] = rand::random();
        let parts = database::blocking(|| self.turns.take(|| bcrypt::hash_with_salt(bytes, self.cost, salt)));
        Ok(parts
            .map_err(Error::internal)?
            .format_for_version(bcrypt::Version::TwoB))
    }

    /// Whether the hash is that of the password.
    pub fn verify(&self, password: &str, hash: &str) -> Result<bool> {
        let bytes = self.cut(password)?;
        let digest = self.digest(bytes, hash);
        let at = Instant::now();
        if self.memory.is_some() && self.right.lock().get(&digest).is_some_and(|until| *until > at) {
            return Ok(true);
        }
        let right = database::blocking(|| self.turns.take(|| bcrypt::verify(bytes, hash))).map_err(Error::internal)?;
        if let (true, Some(memory)) = (right, self.memory) {
            let mut known = self.right.lock();
            if known.len() >= REMEMBERED {
                known.retain(|_, until| *until > at);
                if known.len() >= REMEMBERED {
                    known.clear();
                }
            }
            known.insert(digest, at + memory);
        }
        Ok(right)
    }

    /// Covers the stored hash too, so that a changed password is forgotten by itself.
    fn digest(&self, password: &[u8], hash: &str) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(hash.as_bytes());
        mac.update(&[0]);
        mac.update(password);
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(&Config {
            password_hash_rounds: 4,
            ..Config::default()
        })
    }

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let p = passwords();
        let hash = p.hash("secret").unwrap();
        assert!(hash.starts_with("$2b$04$"));
        assert!(p.verify("secret", &hash).unwrap());
        assert!(p.verify("secret", &hash).unwrap(), "the second time from memory");
        assert!(!p.verify("Secret", &hash).unwrap());
        let other = p.hash("other").unwrap();
        assert!(
            !p.verify("secret", &other).unwrap(),
            "what was right for one hash is not for another"
        );
    }

    #[test]
    fn upstreams_hashes_are_understood() {
        // bcrypt.hashpw(b"keystone", …), Python's bcrypt 5.
        assert!(
            passwords()
                .verify("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW")
                .unwrap()
        );
    }

    #[test]
    fn long_passwords_are_cut_or_refused() {
        let p = passwords();
        let long = "x".repeat(100);
        let hash = p.hash(&long).unwrap();
        assert!(p.verify(&long[..72], &hash).unwrap());
        let strict = Passwords::new(&Config {
            strict_password_check: true,
            ..Config::default()
        });
        assert!(matches!(strict.hash(&long), Err(Error::Refused(_))));
    }
}

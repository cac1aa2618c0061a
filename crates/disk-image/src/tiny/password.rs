//! `crypt(3)`'s SHA-512 scheme, as in `/etc/shadow` (Drepper, "Unix crypt using SHA-256 and SHA-512").

use sha2::{Digest, Sha512};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ROUNDS: usize = 5000;

/// `$6$salt$…` of a password. The salt has at most 16 characters of crypt's alphabet.
pub fn sha512_crypt(password: &[u8], salt: &str) -> String {
    let salt_bytes = salt.as_bytes();
    let mut b = Sha512::new();
    b.update(password);
    b.update(salt_bytes);
    b.update(password);
    let b = b.finalize();

    let mut a = Sha512::new();
    a.update(password);
    a.update(salt_bytes);
    a.update(repeated(&b, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        if bits & 1 == 1 {
            a.update(b)
        } else {
            a.update(password)
        }
        bits >>= 1;
    }
    let mut a = a.finalize();

    let mut dp = Sha512::new();
    for _ in 0..password.len() {
        dp.update(password);
    }
    let p = repeated(&dp.finalize(), password.len());
    let mut ds = Sha512::new();
    for _ in 0..16 + usize::from(a[0]) {
        ds.update(salt_bytes);
    }
    let s = repeated(&ds.finalize(), salt_bytes.len());

    for round in 0..ROUNDS {
        let mut c = Sha512::new();
        if round % 2 == 1 {
            c.update(&p)
        } else {
            c.update(a)
        }
        if round % 3 != 0 {
            c.update(&s);
        }
        if round % 7 != 0 {
            c.update(&p);
        }
        if round % 2 == 1 {
            c.update(a)
        } else {
            c.update(&p)
        }
        a = c.finalize();
    }

    let mut text = format!("$6${salt}$");
    let mut encode = |mut word: u32, characters: usize| {
        for _ in 0..characters {
            text.push(char::from(ALPHABET[(word & 63) as usize]));
            word >>= 6;
        }
    };
    let (mut x, mut y, mut z) = (0, 21, 42);
    for _ in 0..21 {
        encode(u32::from(a[x]) << 16 | u32::from(a[y]) << 8 | u32::from(a[z]), 4);
        (x, y, z) = (y + 1, z + 1, x + 1);
    }
    encode(u32::from(a[63]), 2);
    text
}

fn repeated(block: &[u8], length: usize) -> Vec<u8> {
    block.iter().copied().cycle().take(length).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::sha512_crypt;

    /// The scheme's own test vector, as `openssl passwd -6` gives it.
    #[test]
    fn known_answer() {
        assert_eq!(
            sha512_crypt(b"Hello world!", "saltstring"),
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
        );
    }
}

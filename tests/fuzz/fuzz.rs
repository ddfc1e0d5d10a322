//! Every parser that sees bytes from a network or a file somebody wrote, fed with what nobody would write.
//!
//! Seeds are the tables of the other tests and `corpus/` (one input a line, with escapes); each is run as it is, then
//! changed at random ([`mutate`]) for `HOPSPAN_FUZZ_SECONDS` a target (a third of one by default), from
//! `HOPSPAN_FUZZ_SEED`. It needs no nightly compiler and is not guided by coverage. What must hold of any input: no
//! panic, an end in time, and what was taken is the same when it is printed and read again. An input that breaks that is
//! told as a line for `corpus/`, where it stays.

mod mutate;
mod parsers;
mod sockets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mutate::Random;

/// No input may keep a parser longer than this, also on a machine that gives it a tenth of a processor: what grows faster
/// than its input takes for ever.
const SLOW: Duration = Duration::from_secs(5);

/// For how long each target is fed.
fn patience() -> Duration {
    let seconds = std::env::var("HOPSPAN_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(0.3, |seconds| seconds.parse().unwrap());
    Duration::from_secs_f64(seconds)
}

/// Where the changes begin.
pub(crate) fn random() -> Random {
    let seed = std::env::var("HOPSPAN_FUZZ_SEED").ok();
    Random::new(seed.map_or(1, |seed| seed.parse().unwrap()))
}

/// The inputs of a file of `corpus/`.
fn corpus(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(unescape).collect()
}

/// The reverse of [`escape`].
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, length) = match after {
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 3)
            }
            [other, ..] => (*other, 1),
            [] => (b'\\', 0),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes
}

/// An input as a line of `corpus/`.
fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Feeds `check` with the seeds and with changed ones. Gives how many inputs it took (without an error, that is).
fn feed(name: &str, seeds: &[Vec<u8>], check: impl Fn(&[u8]) -> bool) {
    assert!(seeds.len() >= 10, "{name}: {} seeds", seeds.len());
    let mut random = random();
    let (mut ran, mut taken) = (0_u64, 0_u64);
    let mut run = |input: &[u8]| {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
        let slow = begun.elapsed() > SLOW && {
            // The machine may have been busy.
            let again = Instant::now();
            let _ = catch_unwind(AssertUnwindSafe(|| check(input)));
            again.elapsed() > SLOW
        };
        match outcome {
            Ok(_) if slow => panic!("{name}: slow; for corpus/{name}.txt:\n{}", escape(input)),
            Ok(good) => taken += u64::from(good),
            Err(_) => panic!("{name}: for corpus/{name}.txt:\n{}", escape(input)),
        }
        ran += 1;
    };
    for seed in seeds {
        run(seed);
    }
    let end = Instant::now() + patience();
    while Instant::now() < end {
        let input = random.changed(seeds);
        run(&input);
    }
    println!("{name}: {} seeds, {ran} inputs, {taken} taken", seeds.len());
    assert!(taken > 0, "{name}: nothing was ever taken");
}

#[test]
fn lines_of_the_corpus_are_what_they_stand_for() {
    let bytes: Vec<u8> = (0..=255).collect();
    let line = escape(&bytes);
    assert!(line.is_ascii() && !line.contains('\n'));
    assert_eq!(unescape(&line), bytes);
}

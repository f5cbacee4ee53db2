//! Mutation fuzzing on stable Rust: a seeded, bounded loop that mutates a corpus and feeds it to a target, a safe
//! `fn(&[u8])` that must neither panic nor hang. It is not coverage-guided; the same functions can be driven by a guided
//! fuzzer where one works.
//!
//! The corpus of a target is `tests/fuzz/corpus/<target>/`; an input that made it panic is written to the temporary folder,
//! and belongs into the corpus once the bug is mended.

#![allow(clippy::disallowed_methods, reason = "reads the corpus and writes crashing inputs")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Largest input that mutation makes, in bytes.
const MAX_INPUT: usize = 64 * 1024;

/// A target that panicked.
#[derive(Debug)]
pub struct Crash {
    /// The input, written to this file.
    pub input: PathBuf,
    /// Which case of the loop it was.
    pub case: u64,
}

/// A small, seeded generator (xorshift64*, Vigna 2014): good enough to pick mutations, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 if the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.draw().checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }
}

/// Reads the corpus of a target. An empty corpus is an error: a loop over nothing would prove nothing.
pub fn corpus(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let inputs = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() { Err(format!("{}: no corpus", folder.display())) } else { Ok(inputs) }
}

/// Feeds the corpus as it is and then `cases` mutations of it to the target.
pub fn run(
    target: &str,
    function: fn(&[u8]),
    corpus: &[Vec<u8>],
    seed: u64,
    cases: u64,
) -> Result<(), Crash> {
    let mut random = Random::new(seed);
    for case in 0..cases.max(u64::try_from(corpus.len()).unwrap_or(u64::MAX)) {
        let plain = usize::try_from(case).ok().and_then(|index| corpus.get(index));
        let input = match plain {
            Some(input) => input.clone(),
            None => mutate(&mut random, corpus),
        };
        if catch_unwind(AssertUnwindSafe(|| function(&input))).is_err() {
            return Err(Crash { input: keep(target, seed, case, &input), case });
        }
    }
    Ok(())
}

/// Writes a crashing input where it outlives the test run.
fn keep(target: &str, seed: u64, case: u64, input: &[u8]) -> PathBuf {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("fuzz-{target}-{seed}-{case}"));
    match std::fs::write(&path, input) {
        Ok(()) => path,
        Err(_) => PathBuf::from(format!("(not written) {input:?}")),
    }
}

/// One to eight random edits of one corpus entry.
fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random| corpus.get(random.below(corpus.len())).cloned().unwrap_or_default();
    let mut input = pick(random);
    for _ in 0..=random.below(8) {
        edit(random, &mut input, &pick);
    }
    input.truncate(MAX_INPUT);
    input
}

/// Values that parsers trip over.
const SPECIALS: &[&[u8]] = &[
    b"",
    b"0",
    b"-1",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"1e999",
    b"null",
    b"~",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b": ",
    b"- ",
    b"\n",
    b"\r\n",
    b"\t",
    b"&a ",
    b"*a",
    b"<<: ",
    b"---\n",
    b"...",
    b"\xff",
    b"\xc3",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x92\xa9",
    b"0x",
    b"NaN",
    b"#",
    b",",
    b"../",
    b"%",
];

fn edit(random: &mut Random, input: &mut Vec<u8>, pick: &dyn Fn(&mut Random) -> Vec<u8>) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len().saturating_sub(at) + 1);
    match random.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1_u8 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.draw().to_le_bytes()[0];
            }
        }
        2 => drop(input.drain(at..end)),
        3 => {
            let copy: Vec<u8> = input.get(at..end).unwrap_or_default().to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let special = SPECIALS.get(random.below(SPECIALS.len())).copied().unwrap_or_default();
            input.splice(at..at, special.iter().copied());
        }
        5 => {
            let special = SPECIALS.get(random.below(SPECIALS.len())).copied().unwrap_or_default();
            input.splice(at..end, special.iter().copied());
        }
        6 => {
            let other = pick(random);
            let from = random.below(other.len() + 1);
            input.splice(at..end, other.get(from..).unwrap_or_default().iter().copied());
        }
        _ => input.truncate(at),
    }
    input.truncate(MAX_INPUT);
}

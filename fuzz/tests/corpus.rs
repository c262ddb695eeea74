//! Every committed input holds, in an ordinary build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use bandsox_fuzz::TARGETS;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn inputs(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a corpus");
    let files = entries.map(|entry| entry.expect("lists").path());
    files.map(|path| (name_of(&path), fs::read(&path).expect("reads"))).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn every_target_keeps_its_promises_for_every_seed() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            (target.run)(&seed);
        }
    }
}

#[test]
fn every_target_keeps_its_promises_for_next_to_nothing() {
    for target in TARGETS {
        (target.run)(b"");
        for mode in 0..8 {
            (target.run)(&[mode]);
            (target.run)(&[mode, 0xff, 0, 1]);
        }
    }
}

#[test]
fn the_corpus_is_what_the_targets_make() {
    for target in TARGETS {
        let dir = corpus(target.name);
        let named = |(at, seed)| (format!("seed-{at:02}"), seed);
        let made: BTreeMap<_, _> = (target.seeds)().into_iter().enumerate().map(named).collect();
        if env::var_os("BLESS").is_some() {
            fs::remove_dir_all(&dir).ok();
            fs::create_dir_all(&dir).expect("makes");
            for (name, seed) in &made {
                fs::write(dir.join(name), seed).expect("writes");
            }
        }
        assert!(inputs(&dir) == made, "{}: BLESS=1 makes its seeds anew", target.name);
    }
}

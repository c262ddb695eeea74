//! `cargo xtask fuzz`: libFuzzer on every target of `fuzz/`, with the stable compiler.
//!
//! What `cargo fuzz -s none` does, without it and without a nightly compiler: the flags that make LLVM count what is
//! reached are stable, only sanitizers are not. What was found and what was reached stays below `target/fuzz`.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use bandsox_e2e::workspace_root;

use crate::setup::packages;
use crate::step::{note, run as run_command, spell, step};
use crate::test::cargo;

/// `[TARGET] [--seconds N]`
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (names, seconds) = match *words {
        [] => (targets()?, DEFAULT_SECONDS),
        ["--seconds", count] => (targets()?, count.parse().context("--seconds wants a number")?),
        [name] => (vec![name.to_owned()], DEFAULT_SECONDS),
        [name, "--seconds", count] => {
            (vec![name.to_owned()], count.parse().context("--seconds wants a number")?)
        }
        _ => bail!("usage: cargo xtask fuzz [TARGET] [--seconds N]"),
    };
    let known = targets()?;
    for name in &names {
        ensure!(known.contains(name), "no target {name}; there are: {}", known.join(", "));
    }
    packages::ensure(packages::FUZZ)?;
    fuzz(&names, &Effort { seconds, seed: None })
}

/// Every target, for so long each, with the same changes each time: what fails then is a change's fault.
pub(crate) fn all(seconds: u32) -> Result<()> {
    fuzz(&targets()?, &Effort { seconds, seed: Some(1) })
}

/// How long, and with what libFuzzer draws; with something new if nothing.
struct Effort {
    seconds: u32,
    seed: Option<u32>,
}

fn fuzz(names: &[String], effort: &Effort) -> Result<()> {
    let bed = Bed::new()?;
    step("building the fuzz targets", || bed.build(names))?;
    let what = format!("fuzzing {}, {} s each", names.join(", "), effort.seconds);
    step(&what, || bed.run(names, effort))
}

/// Where things are.
struct Bed {
    /// `target/fuzz`: a target directory of its own, for nothing in it suits any other build.
    dir: PathBuf,
    host: String,
}

impl Bed {
    fn new() -> Result<Self> {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let version = Command::new("rustc").arg("-vV").current_dir(workspace_root()).output()?;
        let version = String::from_utf8(version.stdout)?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say what it compiles for")?.to_owned();
        Ok(Self { dir: workspace_root().join(target).join("fuzz"), host })
    }

    fn build(&self, names: &[String]) -> Result<()> {
        let mut build = cargo(&["build", "--quiet", "--locked", "--package", "bandsox-fuzz"]);
        build.args(["--profile", "fuzz"]).args(names.iter().flat_map(|name| ["--bin", name]));
        // With a target named, build scripts and macros are spared the flags, which they could not link with.
        build.args(["--target", &self.host]);
        build.env("CARGO_TARGET_DIR", &self.dir).env("RUSTFLAGS", FLAGS.join(" "));
        run_command(&mut build)
    }

    /// Two targets at a time, until none is left; all of them, whatever one finds.
    fn run(&self, names: &[String], effort: &Effort) -> Result<()> {
        let queue: Mutex<VecDeque<&String>> = Mutex::new(names.iter().collect());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let failed = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(name) = next() {
                        if let Err(error) = self.run_one(name, effort) {
                            note(&format!("    {name}: {error:#}"));
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure!(failed.is_empty(), "{} of {} targets failed", failed.len(), names.len());
        Ok(())
    }

    fn run_one(&self, name: &str, effort: &Effort) -> Result<()> {
        let program = self.dir.join(&self.host).join("fuzz").join(name);
        let found = self.dir.join("found").join(name);
        let corpus = self.dir.join("corpus").join(name);
        let seeds = workspace_root().join("fuzz/corpus").join(name);
        let log = self.dir.join(format!("{name}.log"));
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&corpus)?;
        let output = File::create(&log)?;

        let mut command = Command::new(&program);
        command.args(LIMITS).arg(format!("-max_total_time={}", effort.seconds));
        command.args(effort.seed.map(|seed| format!("-seed={seed}")));
        command.arg(format!("-artifact_prefix={}/", found.display()));
        command.args([&corpus, &seeds]).current_dir(workspace_root());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let status = command.status().with_context(|| format!("cannot run {}", spell(&command)))?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            note(&format!("    {name}: {}", summary(&said).context("libFuzzer gave no summary")?));
            return Ok(());
        }
        note(&tail(&said));
        match reproducer(&said, &found) {
            Some(input) => {
                bail!("failed; this does it again: {} {}", program.display(), input.display())
            }
            None => bail!("ended with {status}; see {}", log.display()),
        }
    }
}

/// Names of the programs in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let dir = workspace_root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_stem().context("a target has a name")?;
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What libFuzzer said last of coverage and speed: `cov: 12 ft: 34 corp: 5/6b … exec/s: 789 rss: 10Mb`.
fn summary(said: &str) -> Option<&str> {
    let line = said.lines().rev().find(|line| line.contains("DONE"))?;
    line.find("cov:").and_then(|at| line.get(at..))
}

fn tail(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
    last.iter().map(|line| format!("      {line}\n")).collect()
}

/// The input that libFuzzer says it has written.
fn reproducer(said: &str, found: &Path) -> Option<PathBuf> {
    let line = said.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    let path = PathBuf::from(line?.1);
    path.starts_with(found).then_some(path)
}

/// What `cargo fuzz -s none` gives the compiler: count edges, show what is compared, check everything.
const FLAGS: [&str; 8] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// No input may take longer than ten seconds or more memory than xz is allowed, and some.
const LIMITS: [&str; 5] = [
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-malloc_limit_mb=512",
    "-max_len=16384",
    "-print_final_stats=1",
];

const AT_ONCE: usize = 2;
const DEFAULT_SECONDS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_program_and_seeds() {
        for name in targets().expect("listed") {
            let seeds = workspace_root().join("fuzz/corpus").join(&name);
            assert!(fs::read_dir(&seeds).is_ok_and(|mut all| all.next().is_some()), "{name}");
        }
    }

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let said =
            "#1 INITED cov: 3 ft: 4\n#99 DONE   cov: 12 ft: 34 corp: 5/6b lim: 7 exec/s: 8\n";
        assert_eq!(summary(said), Some("cov: 12 ft: 34 corp: 5/6b lim: 7 exec/s: 8"));

        let said = "x\nartifact_prefix='/f/'; Test unit written to /f/crash-1\nBase64: eA==\n";
        assert_eq!(reproducer(said, Path::new("/f")), Some("/f/crash-1".into()));
    }
}

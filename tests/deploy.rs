//! Tests of the files in `deploy`: each is used by the program that it is for, as far as that
//! program runs here.

mod aws;
mod container;
mod forwarders;
mod fresh;
mod import;
mod kubernetes;
mod package;

use crate::harness::{PYTHON, tree};
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The output directory of `deploy/build`, built once, with the Cargo profile that builds fastest.
fn built() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(tree("deploy/build"));
        // Variables that Cargo sets for this test must not reach the inner Cargo.
        let is_setting =
            |name: &str| name == "CARGO_HOME" || name == "CARGO_INCREMENTAL" || name.starts_with("CARGO_PROFILE_");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && !is_setting(name)) {
            build.env_remove(name);
        }
        let output = build.arg("dev").output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    });
    tree("target/packages")
}

/// Runs a bash script to its end, and returns its output.
fn bash(script: &str, arguments: &[&str]) -> String {
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n--- standard output:\n{out}\n--- standard error:\n{err}", output.status);
    out.into_owned()
}

/// Runs a Python script with the packages that `tests/packages` installs.
fn python(script: &str, arguments: &[&str]) -> String {
    let all: Vec<&str> = [PYTHON, script].into_iter().chain(arguments.iter().copied()).collect();
    bash("exec \"$1\" -c \"${@:2}\"", &all)
}

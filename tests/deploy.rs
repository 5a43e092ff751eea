//! What `deploy` has to offer is true: each file of it is used here by the program that it is for, as far as that can run here.

mod aws;
mod container;
mod forwarders;
mod fresh;
mod kubernetes;
mod package;

use crate::harness::tree;
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The directory with what `deploy/build` makes, made once, in the profile that is quick to build.
fn built() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(tree("deploy/build"));
        // What Cargo tells the test is not meant for the Cargo in there.
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

/// Runs a script of bash to its end, and returns what it prints.
fn bash(script: &str, arguments: &[&str]) -> String {
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n--- standard output:\n{out}\n--- standard error:\n{err}", output.status);
    out.into_owned()
}

/// Where `tests/packages` puts Python's packages.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/venv/bin/python");

/// The same with Python, and the packages that `tests/packages` brings.
fn python(script: &str, arguments: &[&str]) -> String {
    let all: Vec<&str> = [PYTHON, script].into_iter().chain(arguments.iter().copied()).collect();
    bash("exec \"$1\" -c \"${@:2}\"", &all)
}

//! The APIs of AWS, by AWS's own tools.

mod codec;
mod sigv4;
mod tools;
mod writes;

/// The Python of the environment that `tests/packages` creates.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/venv/bin/python");

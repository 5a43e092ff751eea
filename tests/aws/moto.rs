//! moto's own tests of AWS's APIs, against zonal.

use super::{PYTHON, tools::can_run_here};
use crate::harness::{Server, tree};
use std::process::Command;

#[test]
fn passes_the_tests_of_moto_in_the_list() {
    if !can_run_here() {
        return;
    }
    let tests = tree("target/tools/moto-tests");
    assert!(tests.is_dir(), "{}: there is no such directory; run tests/packages", tests.display());
    // The health checks of moto's tests ask these addresses.
    let server = Server::start_from("{push: {}}", "health: {allow: [10.0.0.0/8, 192.0.2.0/24]}\n");
    let output = Command::new(PYTHON)
        .arg(tree("tests/aws/run_moto.py"))
        .arg(&tests)
        .arg(format!("http://{}", server.admin))
        .arg(tree("tests/aws/moto.txt"))
        .output()
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}; run tests/packages"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

//! `zonal man`: a man page for each command.

use super::{print, print_error};
use crate::manifest::problem::printable;
use anyhow::Context;
use std::{fs, path::Path, process::ExitCode};

/// Runs the command. Exit status 1 if a page cannot be written.
pub(super) fn run(directory: &Path, command: clap::Command) -> ExitCode {
    let cannot_write = || format!("cannot write man pages to {}", directory.display());
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    match written.with_context(cannot_write) {
        Ok(()) => {
            print(&printable(&format!("man pages are in {}; read one with `man -l FILE`", directory.display())));
            print("\n");
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

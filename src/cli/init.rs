//! `zonal init`: writes an example manifest and configuration.

use super::{print, print_error};
use crate::manifest::problem::printable;
use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::ExitCode,
};

/// The files to write: path within the directory, and content.
const FILES: [(&str, &str); 2] =
    [("zonal.yaml", include_str!("init/zonal.yaml")), ("zones/manifest.yaml", include_str!("init/manifest.yaml"))];

/// Runs the command. Exit status 1 if a file exists already or cannot be written.
pub(super) fn run(directory: &Path) -> ExitCode {
    match write(directory) {
        Ok(()) => {
            print(&next_steps(directory));
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> anyhow::Result<()> {
    for (name, _) in FILES {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            bail!(
                "{} is there already: nothing was written; move the file away or name another directory",
                path.display()
            );
        }
    }
    // zonal would serve other manifest files in the directory together with the example.
    let zones = directory.join("zones");
    if fs::read_dir(&zones).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: nothing was written; name another directory", zones.display());
    }
    for (name, text) in FILES {
        let path = directory.join(name);
        let failed = || format!("cannot write {}", path.display());
        path.parent().map_or(Ok(()), fs::create_dir_all).with_context(failed)?;
        let mut file = File::create_new(&path).with_context(failed)?;
        file.write_all(text.as_bytes()).with_context(failed)?;
    }
    Ok(())
}

fn next_steps(directory: &Path) -> String {
    let place = printable(&directory.display().to_string());
    let change = if directory == Path::new(".") { String::new() } else { format!("cd {place} && ") };
    format!(
        "Written: {0}/zonal.yaml (the node's configuration) and {0}/zones/manifest.yaml (networks, endpoints and zones).\n\
         Next:\n  \
         {change}zonal check\n  \
         {change}zonal\n  \
         dig -b 127.1.0.7 @127.0.0.1 -p 5300 sqs.us-east-1.amazonaws.com\n",
        place
    )
}

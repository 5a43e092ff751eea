//! The arguments of `zonal import`.

use crate::cli::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What a manifest is made of.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImportCommand {
    /// Make a manifest of what the AWS CLI describes
    ///
    /// The files are the JSON that the describe, list and get commands of the AWS CLI print. `deploy/import/collect.sh` runs
    /// them all. The report says what is imported, what only nearly, and what a manifest cannot express. The import needs no
    /// network and no credentials.
    ///
    /// The exit status is 1 if a file could not be read.
    #[command(
        after_help = "Documentation: docs/guides/bring-an-aws-account.md, or `man zonal-import-aws`",
        after_long_help = "Examples:\n  zonal import aws account --out zones\n  \
                           zonal import aws vpcs.json subnets.json --region us-east-1\n\n\
                           Documentation: docs/guides/bring-an-aws-account.md, or `man zonal-import-aws`"
    )]
    Aws(ImportArguments),
}

/// The arguments of `zonal import aws`.
#[derive(Args, Debug)]
pub(in crate::cli) struct ImportArguments {
    /// Files, and directories that are searched for JSON files.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Directory to write `manifest.json` to; created if missing. Without it, the command only reports.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Region of files that are in no directory with the name of a Region.
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Output format of the report.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

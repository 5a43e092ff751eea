//! `zonal key new`: makes an access key for AWS's API.

use super::print_result;
use crate::wire::Name;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use data_encoding::{BASE32_NOPAD, BASE64};
use ipnet::IpNet;
use ring::rand::{SecureRandom, SystemRandom};
use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, process::ExitCode};

/// What to do with access keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make an access key
    ///
    /// The command prints the line of the key for the file `admin.access_keys_file`: role, access key, secret,
    /// account, `networks=` with the blocks of `--network`, and `domains=` with the names of `--domain`.
    #[command(after_help = "Documentation: docs/reference/http-api.md, or `man zonal-key-new`")]
    New(KeyArguments),
}

/// The arguments of `zonal key new`.
#[derive(Args, Debug)]
pub(super) struct KeyArguments {
    /// What the key permits.
    #[arg(long, value_enum, default_value_t = KeyRole::Write)]
    role: KeyRole,
    /// Account that the key acts for: 12 digits. The default is no account: the key acts for all accounts.
    #[arg(long, value_name = "ACCOUNT", default_value = "000000000000")]
    account: String,
    /// CIDR block whose addresses the key may use, such as 10.1.0.0/16. Repeat the option for each block. Without this
    /// option, the key may use all addresses that no other account uses.
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<IpNet>,
    /// Domain for which the key may make public hosted zones, for the domain itself and for names below it. Repeat the option
    /// for each domain. Without `--domain` and `--network`, the key may make all public hosted zones that are not at, above or
    /// below a public hosted zone of another account.
    #[arg(long = "domain", value_name = "NAME")]
    domains: Vec<String>,
    /// Append the line to this file, and print the access key only. The file is created with mode 0600.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What a key permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyRole {
    /// Operations that read.
    Read,
    /// All operations.
    Write,
}

/// Runs the command. Exit status 1 if the key cannot be made or written.
pub(super) fn run(KeyCommand::New(arguments): &KeyCommand) -> ExitCode {
    print_result(new(arguments))
}

fn new(arguments: &KeyArguments) -> anyhow::Result<String> {
    let account = &arguments.account;
    if account.len() != 12 || !account.bytes().all(|octet| octet.is_ascii_digit()) {
        bail!("--account: expected 12 digits, found `{account}`");
    }
    let (mut id, mut secret) = ([0; 10], [0; 30]);
    let random = SystemRandom::new();
    random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| anyhow!("there are no random numbers"))?;
    let id = format!("AKIA{}", BASE32_NOPAD.encode(&id));
    let role = if arguments.role == KeyRole::Read { "read" } else { "write" };
    let blocks: Vec<String> = arguments.networks.iter().map(|block| block.trunc().to_string()).collect();
    let domains = &arguments.domains;
    if let Some(other) = domains.iter().find(|text| text.contains(',') || Name::absolute(text).is_err()) {
        bail!("--domain: expected a domain name, found `{other}`");
    }
    let member = |name: &str, values: &[String]| match values {
        [] => String::new(),
        _ => format!(" {name}={}", values.join(",")),
    };
    let members = member("networks", &blocks) + &member("domains", domains);
    let line = format!("{role} {id} {} {account}{members}\n", BASE64.encode(&secret));
    let Some(file) = &arguments.file else { return Ok(line) };
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    opened
        .and_then(|mut opened| opened.write_all(line.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(format!("{id}\n"))
}

//! The command line.

mod apply;
mod cache;
mod changes;
mod check;
mod client;
mod explain;
mod firewall;
mod forwarders;
mod health;
mod import;
mod init;
mod journal;
mod key;
mod man;
mod nta;
mod plan;
mod report;
mod schema;
pub mod serve;
mod side_by_side;
mod status;
mod sync;
mod target;
#[cfg(test)]
mod tests;

use crate::{config::Config, manifest::problem::printable};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    #[default]
    Human,
    /// JSON for programs.
    Json,
}

/// The last line of a command's help: its page in the documentation, and its man page.
macro_rules! documentation {
    ($page:literal, $manual:literal) => {
        concat!("Documentation: ", $page, ", or `man ", $manual, "`")
    };
}

/// The end of a command's long help: examples, and then the line of [`documentation`].
macro_rules! examples {
    ($examples:literal, $page:literal, $manual:literal) => {
        concat!("Examples:\n", $examples, "\n\n", documentation!($page, $manual))
    };
}

/// A private DNS resolver for VPCs
///
/// zonal answers each client with the VPC endpoint in the client's own Availability Zone.
///
/// A manifest describes the networks, endpoints, zones and forwarding rules. It is a directory of YAML or JSON files, or
/// comes from etcd or by HTTP. zonal serves the manifest and follows every change of it.
#[derive(Debug, Parser)]
#[command(
    name = "zonal",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    after_help = documentation!("docs/reference/command-line.md", "zonal"),
    after_long_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgument,
}

const EXAMPLES: &str = concat!(
    "\
Examples:
  zonal                                     serve the manifest in ./zones on 127.0.0.1:5300
  zonal serve --config /etc/zonal.yaml      serve with this configuration
  zonal init                                write an example manifest and configuration
  zonal check                               list all errors and warnings of the manifest
  zonal check /etc/zonal/zones --deny-warnings --format json
  zonal explain --from 10.1.0.7 sqs.us-east-1.amazonaws.com A
                                            explain the answer that this client gets
  zonal forwarders unbound                  print the configuration of an on-premises Unbound
  zonal cache show www.example.com          show the cached answers for a name
  zonal cache flush example.com --subtree   remove a name, and all names below it, from the cache
  zonal schema > manifest.schema.json       for editors that complete and check manifests
  zonal completions bash > /etc/bash_completion.d/zonal

Exit status: 0 success; 1 the command found an error or failed; 2 wrong usage.

",
    documentation!("docs/reference/command-line.md", "zonal")
);

#[derive(Args, Clone, Debug)]
struct ConfigArgument {
    /// The node's configuration [default: ./zonal.yaml if it exists, otherwise built-in defaults].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The credentials of a request to the admin API, and the authorities that the server's certificate is verified with.
#[derive(Args, Clone, Debug, Default)]
struct AccessArguments {
    /// File with the token to send to the admin API.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the authorities to verify the server's certificate with [default: the system's authorities].
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// PEM file of the client certificate to send to the admin API.
    #[arg(long, value_name = "FILE", requires = "client_private_key")]
    client_certificate: Option<PathBuf>,
    /// PEM file of the client certificate's private key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_private_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until stopped (the default command)
    ///
    /// SIGTERM stops the server. SIGHUP makes it read the manifest again; it also notices changed files by itself. If a
    /// manifest has an error, zonal rejects the whole manifest and continues to serve the previous one.
    #[command(after_help = documentation!("docs/guides/operator.md", "zonal-serve"))]
    Serve(ConfigArgument),
    /// Write an example manifest and configuration
    ///
    /// The example is a small network on loopback addresses, with comments. It can be served as it is. `init` overwrites no
    /// file.
    #[command(
        after_help = documentation!("docs/guides/vpc-administrator.md", "zonal-init"),
        after_long_help = examples!(
            "  zonal init            in the current directory\n  zonal init /etc/zonal",
            "docs/guides/vpc-administrator.md",
            "zonal-init"
        )
    )]
    Init {
        /// Directory to write the files to; created if missing.
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
    },
    /// List all errors and warnings of the configuration and the manifest
    ///
    /// `check` also looks at the files and addresses that the configuration names. Each problem is shown with its line in
    /// the file. The exit status is 1 if there is an error; with --deny-warnings, also if there is a warning.
    #[command(
        after_help = documentation!("docs/reference/manifest.md", "zonal-check"),
        after_long_help = examples!(
            "  zonal check\n  zonal check /etc/zonal/zones --deny-warnings\n  \
             zonal check --config /etc/zonal/zonal.yaml --format json",
            "docs/reference/manifest.md",
            "zonal-check"
        )
    )]
    Check(CheckArguments),
    /// Explain step by step how the answer to a query is chosen
    ///
    /// The explanation says how zonal matched the client to a network, which name, endpoint and network interface it chose
    /// and why, or which servers it forwards the query to. The code that answers queries produces it.
    ///
    /// `explain` asks the running server, which also reports its cache and the state of upstream servers. If no server
    /// runs, `explain` reads the manifest's directory.
    ///
    /// With several --from, the output compares the clients: first the common steps, then a table of the differences.
    #[command(
        after_help = documentation!("docs/concepts/which-answer.md", "zonal-explain"),
        after_long_help = examples!(
            "  zonal explain --from 10.1.0.7 sqs.us-east-1.amazonaws.com\n  \
             zonal explain --from 10.1.0.7 --from 10.1.16.7 sqs.us-east-1.amazonaws.com\n  \
             zonal explain --from 10.1.0.7 -x 10.2.0.7\n  \
             zonal explain --from 10.1.0.7 --directory /etc/zonal/zones www.corp.example.com\n  \
             zonal explain --from 192.168.0.9 --to 10.2.0.53 www.corp.example.com AAAA\n  \
             zonal explain --from 10.1.0.7 --resolve db.onprem.example.net",
            "docs/concepts/which-answer.md",
            "zonal-explain"
        )
    )]
    Explain(ExplainArguments),
    /// Show or flush the cache of a running server
    ///
    /// The cache has the answers of upstream servers and of the internet resolver.
    #[command(subcommand, after_help = documentation!("docs/concepts/cache.md", "zonal-cache"))]
    Cache(CacheCommand),
    /// Show the targets of health checks, or set a verdict by hand
    ///
    /// The exit status is 1 if a target is unhealthy, or if the node is isolated.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = documentation!("docs/guides/health-and-failover.md", "zonal-health"),
        after_long_help = examples!(
            "  zonal health\n  zonal health set vpce-0sqs/10.1.0.4 unhealthy --for 30m\n  \
             zonal health set hc-external healthy\n  zonal health clear vpce-0sqs/10.1.0.4",
            "docs/guides/health-and-failover.md",
            "zonal-health"
        )
    )]
    Health(health::HealthArguments),
    /// Test DNS Firewall rules; show or download the lists of a running server
    ///
    /// The exit status is 1 if a list is missing or has expired, or if the last reading of a list failed.
    #[command(
        subcommand,
        after_help = documentation!("docs/guides/filtering-names.md", "zonal-firewall"),
        after_long_help = examples!(
            "  zonal firewall test bad.example --from 10.1.0.7\n  zonal firewall lists",
            "docs/guides/filtering-names.md",
            "zonal-firewall"
        )
    )]
    Firewall(firewall::FirewallCommand),
    /// List, add or remove negative trust anchors
    ///
    /// Answers at and below a negative trust anchor count as unsigned until its end, although validation fails (RFC 7646). Use it
    /// for a zone whose signatures are broken by mistake. The node needs `internet_resolver: {recursive: true}`.
    #[command(
        subcommand,
        after_help = documentation!("docs/guides/operator.md", "zonal-nta"),
        after_long_help = examples!(
            "  zonal nta add broken.example --for 1d --reason 'signatures expired'\n  zonal nta list\n  \
             zonal nta remove broken.example",
            "docs/guides/operator.md",
            "zonal-nta"
        )
    )]
    Nta(nta::NtaCommand),
    /// Make access keys for AWS's API
    #[command(subcommand, after_help = documentation!("docs/reference/http-api.md", "zonal-key"))]
    Key(key::KeyCommand),
    /// Show or drop the dynamic updates of a zone
    ///
    /// If the manifest is a directory, a node stores the dynamic updates of each zone in a journal. The journal overrides the
    /// zone's files. `journal` asks the running server. If no server runs, it works on the state directory.
    #[command(subcommand, after_help = documentation!("docs/concepts/control-plane.md", "zonal-journal"))]
    Journal(JournalCommand),
    /// Make etcd or a server hold exactly the resources of a directory
    ///
    /// `apply` first shows the plan: the resources to change, and the answers that change for each network. Resources that
    /// are not in the directory are deleted. `apply` changes nothing if the directory has errors, or if etcd or the server
    /// changed after the plan was made.
    #[command(after_help = documentation!("docs/guides/control-plane-author.md", "zonal-apply"))]
    Apply(ApplyArguments),
    /// Show what `apply` would change
    ///
    /// The exit status is 0 if there is no difference, and 1 if there is one.
    #[command(after_help = documentation!("docs/guides/control-plane-author.md", "zonal-diff"))]
    Diff(DiffArguments),
    /// Write the resources of etcd or of a server as files
    ///
    /// `export` leaves out resources that it cannot read. It names each of them and exits with status 1.
    #[command(after_help = documentation!("docs/guides/control-plane-author.md", "zonal-export"))]
    Export(ExportArguments),
    /// Make a manifest of an AWS account
    #[command(subcommand, after_help = documentation!("docs/guides/bring-an-aws-account.md", "zonal-import"))]
    Import(import::ImportCommand),
    /// Keep etcd or a server equal to an AWS account
    #[command(subcommand, after_help = documentation!("docs/guides/bring-an-aws-account.md", "zonal-sync"))]
    Sync(sync::SyncCommand),
    /// Print the configuration that makes an on-premises DNS server forward to zonal
    ///
    /// The configuration forwards the names that the manifest's inbound endpoints answer: private names of services, of
    /// AWS and of other providers; the endpoints' own names; names of machines and of their addresses; private hosted zones.
    /// It has negative trust anchors for servers that validate DNSSEC.
    #[command(
        after_help = documentation!("docs/guides/on-premises-dns-administrator.md", "zonal-forwarders"),
        after_long_help = examples!(
            "  zonal forwarders bind > /etc/bind/zonal.conf\n  \
             zonal forwarders bind --trust-anchors > /etc/bind/zonal.options.conf\n  \
             zonal forwarders unbound --directory zones --endpoint rslvr-in-shared\n  \
             zonal forwarders dnsmasq --etcd http://127.0.0.1:2379",
            "docs/guides/on-premises-dns-administrator.md",
            "zonal-forwarders"
        )
    )]
    Forwarders(ForwardersArguments),
    /// Show what nodes serve, and whether they follow their source
    ///
    /// The exit status is 1 if a node does not answer, or if it has a problem. The problems are listed below the table.
    #[command(after_help = documentation!("docs/guides/operator.md", "zonal-status"))]
    Status(StatusArguments),
    /// Wait until nodes serve a revision of their source, or a later one
    ///
    /// The exit status is 1 if a node does not serve the revision before the time-out.
    #[command(after_help = documentation!("docs/guides/control-plane-author.md", "zonal-wait"))]
    Wait(WaitArguments),
    /// Print the JSON Schema of the manifest
    #[command(after_help = documentation!("docs/reference/manifest.md", "zonal-schema"))]
    Schema,
    /// Print the completion script for a shell
    #[command(after_help = documentation!("docs/reference/command-line.md", "zonal-completions"))]
    Completions {
        /// Shell to write the script for
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command
    #[command(after_help = documentation!("docs/reference/command-line.md", "zonal-man"))]
    Man {
        /// Directory to write the pages to; created if missing. Existing pages are overwritten.
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Args, Debug)]
struct CheckArguments {
    /// Directory of the manifest [default: the configuration's directory].
    #[arg(value_name = "DIR", conflicts_with_all = ["config", "directory"])]
    named: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgument,
    /// The same as the argument DIR.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    directory: Option<PathBuf>,
    /// Exit with status 1 if there is a warning.
    #[arg(long)]
    deny_warnings: bool,
    /// Output format of the problems.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show the entries of a name; without a name, statistics and the most used entries
    Show {
        #[command(flatten)]
        arguments: CacheArguments,
        /// Maximum number of entries to show. Entries are ordered by use, most used first.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Remove the entries of a name; without a name, all entries
    ///
    /// The next query for a removed name goes to the upstream servers again. If they do not answer, zonal does not serve
    /// the removed answers as stale answers.
    Flush(CacheArguments),
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Show the record sets that dynamic updates have changed
    Show {
        /// Zone: its identifier in the manifest, or its domain name [default: all zones].
        zone: Option<String>,
        #[command(flatten)]
        arguments: ServerArguments,
    },
    /// Drop the journal of a zone, so that its files are served again
    Drop {
        /// Zone: its identifier in the manifest, or its domain name.
        zone: String,
        #[command(flatten)]
        arguments: ServerArguments,
    },
}

/// The server that a command asks.
#[derive(Args, Debug)]
struct ServerArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Admin address of the server [default: the address in the configuration].
    #[arg(long, value_name = "ADDR:PORT|URL", conflicts_with = "config")]
    admin: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args, Debug)]
struct CacheArguments {
    /// Domain name.
    name: Option<String>,
    /// Include all names below NAME.
    #[arg(long, requires = "name")]
    subtree: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// The source whose resources a command reads or changes.
#[derive(Args, Debug)]
struct TargetArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// URL of an etcd endpoint, instead of the source in the configuration.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "server"])]
    etcd: Option<String>,
    /// Admin address of a server with `control_plane.push`, instead of the source in the configuration.
    #[arg(long, value_name = "ADDR:PORT|URL", conflicts_with = "config")]
    server: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Args, Debug)]
struct ApplyArguments {
    /// Directory of the manifest to apply or compare.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    target: TargetArguments,
    /// Apply without asking for confirmation.
    #[arg(long)]
    yes: bool,
    /// Apply even if more than 30 % of the resources would be deleted.
    #[arg(long)]
    force: bool,
    /// Show the plan and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
struct DiffArguments {
    /// Directory of the manifest to apply or compare.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    target: TargetArguments,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args, Debug)]
struct ExportArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Directory to write files to [default: write the manifest to standard output].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ForwardersArguments {
    /// DNS server to write the configuration for.
    #[arg(value_enum)]
    software: forwarders::Software,
    /// Directory of the manifest, instead of the source in the configuration.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "etcd", "server"])]
    directory: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArguments,
    /// Inbound endpoint to forward to; can be repeated [default: all inbound endpoints].
    #[arg(long, value_name = "ID")]
    endpoint: Vec<String>,
    /// Print the negative trust anchors only. BIND and systemd-resolved have them in a separate file.
    #[arg(long)]
    trust_anchors: bool,
}

#[derive(Args, Debug)]
struct StatusArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Admin addresses of the nodes [default: the address in the configuration].
    #[arg(long, value_name = "ADDR:PORT|URL", num_args = 1.., conflicts_with = "config")]
    all: Vec<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args, Debug)]
struct WaitArguments {
    /// Revision to wait for: etcd's revision, or the revision that the admin API returned.
    #[arg(long, value_name = "N")]
    revision: u64,
    /// Maximum time to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    #[command(flatten)]
    access: AccessArguments,
    /// Admin addresses of the nodes.
    #[arg(value_name = "ADDR:PORT|URL", required = true)]
    addresses: Vec<String>,
}

#[derive(Args, Clone, Debug)]
struct ExplainArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Address of the client. Can be repeated to compare clients.
    #[arg(long, value_name = "ADDR", required = true)]
    from: Vec<IpAddr>,
    /// Address the query is sent to [default: an address that is no entry point].
    #[arg(long, value_name = "ADDR")]
    to: Option<IpAddr>,
    /// Address of the trusted forwarder that sends the query for the client.
    #[arg(long, value_name = "ADDR")]
    via: Option<IpAddr>,
    /// Domain name of the query.
    #[arg(required_unless_present = "reverse")]
    name: Option<String>,
    /// Record type of the query.
    #[arg(default_value = "A", value_name = "TYPE")]
    rtype: String,
    /// Query the PTR record of this address, instead of NAME and TYPE.
    #[arg(short = 'x', value_name = "ADDR", conflicts_with = "name")]
    reverse: Option<IpAddr>,
    /// Make the server resolve the name: it queries upstream servers if it must.
    #[arg(long, conflicts_with_all = ["offline", "directory"])]
    resolve: bool,
    /// Explain the manifest in this directory, and ask no server.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "admin"])]
    directory: Option<PathBuf>,
    /// Admin address of the server [default: the address in the configuration].
    #[arg(long, value_name = "ADDR:PORT|URL")]
    admin: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// Explain the manifest in the configuration's directory, and ask no server.
    #[arg(long, conflicts_with = "admin")]
    offline: bool,
    /// Output format of the explanation.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command that the arguments name. Wrong usage ends the program with status 2.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve(cli.config)) {
        Command::Serve(arguments) => match Config::load(arguments.config.as_deref()) {
            Ok(config) => serve::serve(&config),
            Err(problems) => {
                report::print_problems(problems);
                ExitCode::FAILURE
            }
        },
        Command::Init { directory } => init::run(&directory),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments, explain::Part::All),
        Command::Cache(command) => cache::run(&command),
        Command::Health(arguments) => health::run(&arguments),
        Command::Firewall(command) => firewall::run(&command),
        Command::Nta(command) => nta::run(&command),
        Command::Journal(command) => journal::run(&command),
        Command::Key(command) => key::run(&command),
        Command::Apply(arguments) => apply::apply(&arguments),
        Command::Diff(arguments) => apply::diff(&arguments),
        Command::Export(arguments) => apply::export(&arguments),
        Command::Import(import::ImportCommand::Aws(arguments)) => import::run(&arguments),
        Command::Sync(sync::SyncCommand::Aws(arguments)) => sync::run(&arguments),
        Command::Forwarders(arguments) => forwarders::run(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Wait(arguments) => status::wait(&arguments),
        Command::Schema => {
            print(&schema::schema());
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zonal", &mut script);
            print(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
        Command::Man { directory } => man::run(&directory, Cli::command()),
    }
}

/// Writes to standard output. A closed pipe is no error. Any other failure, such as a full disk, ends the program with status
/// 1, so that no reader relies on incomplete output.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        print_error(format_args!("standard output cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Prints the output of a command, or its error: exit status 1.
fn print_result(output: anyhow::Result<String>) -> ExitCode {
    match output {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Writes a message to standard error. A closed pipe is no error.
fn print_error(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "zonal: {message}");
}

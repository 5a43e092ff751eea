//! The command line.

mod apply;
mod cache;
mod changes;
mod check;
mod client;
mod explain;
mod forwarders;
mod init;
mod plan;
mod report;
mod schema;
pub mod serve;
mod side_by_side;
mod status;
mod target;

use crate::config::Config;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

/// How output is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// A private DNS resolver for VPCs: it answers with the endpoint in the client's own Availability Zone.
///
/// Networks, endpoints, zones and rules are described in YAML or JSON files in a directory; zonal serves what they say,
/// and follows each change of them.
#[derive(Debug, Parser)]
#[command(name = "zonal", version, args_conflicts_with_subcommands = true, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgument,
}

const EXAMPLES: &str = "\
Examples:
  zonal                                     serve the manifest in ./zones on 127.0.0.1:5300
  zonal serve --config /etc/zonal.yaml      serve as the file says
  zonal init                                write a manifest and a configuration to begin with
  zonal check                               tell all that is wrong with the manifest, and exit
  zonal check /etc/zonal/zones --deny-warnings --format json
  zonal explain --from 10.1.0.7 sqs.us-east-1.amazonaws.com A
                                            how the answer for that client comes about
  zonal forwarders unbound                  what to add to an Unbound on-premises
  zonal cache show www.example.com          what is known of a name that others answer for
  zonal cache flush example.com --subtree   forget it, and the names below
  zonal schema > manifest.schema.json       for editors that complete and check as you type
  zonal completions bash > /etc/bash_completion.d/zonal

Exit status: 0 success; 1 an error was found, or serving failed; 2 wrong usage.";

#[derive(Args, Clone, Debug)]
struct ConfigArgument {
    /// The node's configuration; without it, zonal.yaml in the current directory if it is there, else the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a server is made to know who asks, and how it is known itself.
#[derive(Args, Clone, Debug, Default)]
struct AccessArguments {
    /// A file with the token that the server wants.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities that a server's certificate is checked with, PEM; without it, the system's.
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// The certificate that the server wants, PEM.
    #[arg(long, value_name = "FILE", requires = "client_private_key")]
    client_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_private_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop (the default)
    ///
    /// SIGTERM stops it, SIGHUP makes it read the manifest again. Changed files are noticed without that. A manifest
    /// with an error is refused as a whole, and the last good one goes on being served.
    Serve(ConfigArgument),
    /// Write a manifest and a configuration to begin with
    ///
    /// The manifest is a small network on loopback addresses with comments, which is served and answers as it is. No file is
    /// overwritten.
    #[command(after_long_help = "Examples:\n  zonal init            in the current directory\n  zonal init /etc/zonal")]
    Init {
        /// The directory that the files are written to. It is made if it is not there.
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
    },
    /// Tell all that is wrong with the configuration and the manifest
    ///
    /// The files and addresses that the configuration names are looked at as well. Every problem is shown with its line in the file. Errors make the exit status 1; warnings do so with
    /// --deny-warnings.
    #[command(after_long_help = "Examples:\n  zonal check\n  zonal check /etc/zonal/zones --deny-warnings\n  \
                                 zonal check --config /etc/zonal/zonal.yaml --format json")]
    Check(CheckArguments),
    /// Tell how one answer comes about, step by step
    ///
    /// How the client was found, which name won over which others, which endpoint and which of its interfaces, or which
    /// other servers: from the very function that serves. If a server runs, it is asked, and tells also what is in its cache
    /// and how the other servers answer. If nobody is there, the directory of the manifest is read.
    ///
    /// With several clients, what is the same for all is told once, and what differs in a table beside one another.
    #[command(after_long_help = "Examples:\n  zonal explain --from 10.1.0.7 sqs.us-east-1.amazonaws.com\n  \
                                 zonal explain --from 10.1.0.7 --from 10.1.16.7 sqs.us-east-1.amazonaws.com\n  \
                                 zonal explain --from 10.1.0.7 -x 10.2.0.7\n  \
                                 zonal explain --from 10.1.0.7 --directory /etc/zonal/zones www.corp.example.com\n  \
                                 zonal explain --from 192.168.0.9 --to 10.2.0.53 www.corp.example.com AAAA\n  \
                                 zonal explain --from 10.1.0.7 --resolve db.onprem.example.net")]
    Explain(ExplainArguments),
    /// Show or flush what a running server knows of names that others answer for
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Change what etcd or a server has, so that it is what a directory has
    ///
    /// The plan is shown first: the resources, and the names whose answers change, by who asks. What is not in the directory is
    /// deleted. Nothing is done when the directory has errors, or when somebody else has changed it in the meantime.
    Apply(ApplyArguments),
    /// Show what `apply` would change
    ///
    /// The exit status is 0 when there is no difference, and 1 when there is one.
    Diff(DiffArguments),
    /// Write what etcd or a server has as files
    ///
    /// Resources that cannot be read are left out: each is told of, and the exit status is 1.
    Export(ExportArguments),
    /// Print what to add to a forwarder on-premises
    ///
    /// The snippet forwards the names that the inbound endpoints of the manifest answer: private names of services, also of those of
    /// other companies, the endpoints' own names, those of machines and of their addresses, and private hosted zones. It has
    /// negative trust anchors for servers that validate.
    #[command(after_long_help = "Examples:\n  zonal forwarders bind > /etc/bind/zonal.conf\n  \
                                 zonal forwarders bind --trust-anchors > /etc/bind/zonal.options.conf\n  \
                                 zonal forwarders unbound --directory zones --endpoint rslvr-in-shared\n  \
                                 zonal forwarders dnsmasq --etcd http://127.0.0.1:2379")]
    Forwarders(ForwardersArguments),
    /// Tell what nodes serve, and how they stand to their source
    ///
    /// The exit status is 1 when one does not answer or is not ready.
    Status(StatusArguments),
    /// Wait until nodes serve a revision of their source, or a later one
    Wait(WaitArguments),
    /// Print the JSON Schema of the manifest
    Schema,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
struct CheckArguments {
    /// Check this directory, whatever the configuration says.
    #[arg(value_name = "DIR", conflicts_with_all = ["config", "directory"])]
    named: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgument,
    /// The same as DIR.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    directory: Option<PathBuf>,
    /// Take warnings for errors.
    #[arg(long)]
    deny_warnings: bool,
    /// How problems are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show the entries of a name; without one, what there is, and what is used most
    Show {
        #[command(flatten)]
        arguments: CacheArguments,
        /// How many entries are shown at most, those used most first.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Forget a name; without one, everything
    ///
    /// What was forgotten is asked for anew, and is not used either when nobody answers.
    Flush(CacheArguments),
}

#[derive(Args, Debug)]
struct CacheArguments {
    /// The name.
    name: Option<String>,
    /// The names below it as well.
    #[arg(long, requires = "name")]
    subtree: bool,
    #[command(flatten)]
    config: ConfigArgument,
    /// The admin address of the server, whatever the configuration says.
    #[arg(long, value_name = "ADDR:PORT|URL", conflicts_with = "config")]
    admin: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is changed or written.
#[derive(Args, Debug)]
struct TargetArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// An etcd, whatever the configuration says.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "server"])]
    etcd: Option<String>,
    /// The admin address of a server with `push`, whatever the configuration says.
    #[arg(long, value_name = "ADDR:PORT|URL", conflicts_with = "config")]
    server: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Args, Debug)]
struct ApplyArguments {
    /// The directory of manifests that says what is wanted.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    target: TargetArguments,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Even if more than 30 % would be deleted.
    #[arg(long)]
    force: bool,
    /// Show the plan, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
struct DiffArguments {
    /// The directory of manifests that says what is wanted.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    target: TargetArguments,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args, Debug)]
struct ExportArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Where files are written; without it, the manifest is written to standard output.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ForwardersArguments {
    /// The server that the snippet is for.
    #[arg(value_enum)]
    software: forwarders::Software,
    /// The directory of the manifest, whatever the configuration says.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "etcd", "server"])]
    directory: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArguments,
    /// The inbound endpoint that is asked; without it, each that answers. May be given several times.
    #[arg(long, value_name = "ID")]
    endpoint: Vec<String>,
    /// Print the negative trust anchors, which BIND and systemd-resolved have in a place of their own.
    #[arg(long)]
    trust_anchors: bool,
}

#[derive(Args, Debug)]
struct StatusArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The admin addresses of the nodes; without it, that of the configuration.
    #[arg(long, value_name = "ADDR:PORT|URL", num_args = 1.., conflicts_with = "config")]
    all: Vec<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args, Debug)]
struct WaitArguments {
    /// The revision: etcd's, or the count of changes that were pushed.
    #[arg(long, value_name = "N")]
    revision: u64,
    /// For how many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    #[command(flatten)]
    access: AccessArguments,
    /// The admin addresses of the nodes.
    #[arg(value_name = "ADDR:PORT|URL", required = true)]
    addresses: Vec<String>,
}

#[derive(Args, Clone, Debug)]
struct ExplainArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The client's address. May be given several times: then the clients are compared.
    #[arg(long, value_name = "ADDR", required = true)]
    from: Vec<IpAddr>,
    /// The address that it asks; without it, one that is no door.
    #[arg(long, value_name = "ADDR")]
    to: Option<IpAddr>,
    /// The forwarder that it is behind, if it is.
    #[arg(long, value_name = "ADDR")]
    via: Option<IpAddr>,
    /// The name that it asks for.
    #[arg(required_unless_present = "reverse")]
    name: Option<String>,
    /// The type that it asks for.
    #[arg(default_value = "A", value_name = "TYPE")]
    rtype: String,
    /// Ask for the PTR record of this address, in place of a name.
    #[arg(short = 'x', value_name = "ADDR", conflicts_with = "name")]
    reverse: Option<IpAddr>,
    /// Have the server really ask others.
    #[arg(long, conflicts_with_all = ["offline", "directory"])]
    resolve: bool,
    /// Ask no server: explain what the manifest in this directory says.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "admin"])]
    directory: Option<PathBuf>,
    /// The admin address of the server, whatever the configuration says.
    #[arg(long, value_name = "ADDR:PORT|URL")]
    admin: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// Ask no server: explain what the manifest says.
    #[arg(long, conflicts_with = "admin")]
    offline: bool,
    /// How the explanation is written.
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
                report::complain(problems);
                ExitCode::FAILURE
            }
        },
        Command::Init { directory } => init::run(&directory),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Cache(command) => cache::run(&command),
        Command::Apply(arguments) => apply::apply(&arguments),
        Command::Diff(arguments) => apply::diff(&arguments),
        Command::Export(arguments) => apply::export(&arguments),
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
    }
}

/// Writes to standard output. Whoever reads it may have gone away: that is no error. Where it cannot be written otherwise, as
/// on a full disk, the program ends: nobody may rely on what is not there.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        tell(format_args!("standard output cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Says something on standard error, if anybody listens.
fn tell(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "zonal: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood() {
        Cli::command().debug_assert();
        for (line, is_good) in [
            ("zonal", true),
            ("zonal --config z.yaml", true),
            ("zonal serve --config z.yaml", true),
            ("zonal check --directory zones --deny-warnings --format json", true),
            ("zonal check --directory zones --config z.yaml", false),
            ("zonal check zones --deny-warnings", true),
            ("zonal check zones --directory zones", false),
            ("zonal check zones --config z.yaml", false),
            ("zonal check --format xml", false),
            ("zonal init", true),
            ("zonal init here", true),
            ("zonal init here there", false),
            ("zonal explain --from 10.1.0.7 --from 10.1.16.7 --from fd00::7 a.example AAAA", true),
            ("zonal explain --from 10.1.0.7 -x 10.2.0.7", true),
            ("zonal explain --from 10.1.0.7 -x fd00::7", true),
            ("zonal explain --from 10.1.0.7 -x 10.2.0", false),
            ("zonal explain --from 10.1.0.7 -x 10.2.0.7 a.example", false),
            ("zonal explain --from 10.1.0.7", false),
            ("zonal explain --from 10.1.0.7 --directory zones a.example", true),
            ("zonal explain --from 10.1.0.7 --directory zones --config z.yaml a.example", false),
            ("zonal explain --from 10.1.0.7 --directory zones --resolve a.example", false),
            ("zonal forwarders bind --trust-anchors --directory zones --endpoint a --endpoint b", true),
            ("zonal forwarders knot-resolver --etcd http://127.0.0.1:2379", true),
            ("zonal forwarders windows --directory zones --server 127.0.0.1:9153", false),
            ("zonal forwarders", false),
            ("zonal forwarders djbdns", false),
            ("zonal explain --from 10.1.0.7 --to 10.2.0.53 a.example AAAA --format json", true),
            ("zonal explain --from 10.1.0.7 --resolve --admin 127.0.0.1:9153 a.example", true),
            ("zonal explain --from 10.1.0.7 --resolve --offline a.example", false),
            ("zonal explain a.example", false),
            ("zonal explain --from here a.example", false),
            ("zonal cache show", true),
            ("zonal cache show a.example --subtree --limit 5 --format json --config z.yaml", true),
            ("zonal cache flush a.example --admin 127.0.0.1:9153", true),
            ("zonal cache show --admin https://a:1 --token-file t --certificate-authority ca", true),
            ("zonal explain --from 10.1.0.7 a.example --admin https://a:1 --token-file t", true),
            ("zonal status --client-certificate c --client-private-key k", true),
            ("zonal status --client-certificate c", false),
            ("zonal cache flush --subtree", false),
            ("zonal cache flush --config z.yaml --admin 127.0.0.1:9153", false),
            ("zonal cache", false),
            ("zonal apply --directory zones --etcd http://127.0.0.1:2379 --yes --force --dry-run", true),
            ("zonal apply --etcd http://127.0.0.1:2379", false),
            ("zonal apply --directory zones --etcd http://a:1 --server b:2", false),
            ("zonal diff --directory zones --server 127.0.0.1:9153 --token-file t --format json", true),
            ("zonal export --config z.yaml --directory out", true),
            ("zonal status", true),
            ("zonal status --all a:1 b:2 --format json", true),
            ("zonal wait --revision 7 --timeout 5 a:1 b:2", true),
            ("zonal wait --revision 7", false),
            ("zonal schema", true),
            ("zonal completions fish", true),
            ("zonal nonsense", false),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), is_good, "{line}");
        }
    }
}

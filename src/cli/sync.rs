//! `zonal sync aws`: keeps etcd or a server equal to an AWS account.
//!
//! ```text
//! credentials -> account   signed requests at a bounded rate
//!             -> collect   the descriptions of the account
//!             -> import    the same resources as those of `zonal import aws`
//!             -> changes   what differs from the target, of what this command has made
//!             -> target    written as one change
//! ```

mod account;
mod changes;
mod collect;
mod credentials;
mod http;
mod metrics;

use super::{
    TargetArguments, apply,
    import::{self, Made},
    plan::Plan,
    print, print_error,
    target::{State, Target},
};
use crate::{
    clock::now,
    difference::{self, Answers},
    manifest::{collection::Key, problem::printable, protection},
};
use account::{Account, caller_identity};
use anyhow::{Context, bail};
use changes::{Changes, Deletions};
use clap::{Args, Subcommand};
use collect::{Collector, Descriptions};
use credentials::Chain;
use metrics::Counters;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// The maximum number of answers that are compared with those before a change.
const MAX_ANSWERS: usize = 1000;
/// The maximum number of resources and requests that a message names.
const MAX_NAMED: usize = 10;

/// The source to follow.
#[derive(Debug, Subcommand)]
pub(super) enum SyncCommand {
    /// Keep etcd or a server equal to an AWS account
    ///
    /// The command describes the account again and again, with read-only requests, and writes the differences to etcd, or to a
    /// server with `control_plane.push`. It changes and deletes only resources that it has made itself. The credentials
    /// come from the environment, from the AWS profile, or from the metadata of the EC2 instance.
    /// `deploy/import/policy.json` is an IAM policy with the permissions that it needs.
    #[command(
        after_help = "Documentation: docs/guides/bring-an-aws-account.md, or `man zonal-sync-aws`",
        after_long_help = "Examples:\n  zonal sync aws --once --dry-run --server 127.0.0.1:9153\n  \
                           zonal sync aws --region eu-west-1 --region us-east-1 --etcd http://10.0.0.9:2379\n\n\
                           Documentation: docs/guides/bring-an-aws-account.md, or `man zonal-sync-aws`"
    )]
    Aws(SyncArguments),
}

/// The arguments of `zonal sync aws`.
#[derive(Args, Debug)]
pub(super) struct SyncArguments {
    /// Region to describe; can be repeated [default: the Region of the environment or of the profile].
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<String>,
    /// AWS profile [default: AWS_PROFILE, then `default`].
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// URL to send all requests to, instead of AWS's servers [default: AWS_ENDPOINT_URL].
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Time between the starts of two rounds, in seconds. It is also the shortest interval in which a zone's records are read.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Longest interval in which the records of a zone are read, in seconds. The interval of a zone doubles while its
    /// records stay the same. If the number of its record sets changes, the zone is read in the next round.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    max_interval: u64,
    /// Maximum number of requests to AWS per second.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = rate)]
    rate: f64,
    /// Make one round, and end. The exit status is 1 if something failed.
    #[arg(long)]
    once: bool,
    /// Print the changes without making them.
    #[arg(long)]
    dry_run: bool,
    /// Delete resources even if they are more than 30 % of those that the command has made.
    #[arg(long)]
    force: bool,
    /// Address to serve Prometheus metrics on, at /metrics.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_address: Option<SocketAddr>,
    #[command(flatten)]
    target: TargetArguments,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=100.0).contains(rate));
    rate.ok_or_else(|| "expected a number from 0.01 to 100".into())
}

/// Runs `zonal sync aws`. Exit status 1 if it cannot begin, or if the only round failed.
pub(super) fn run(arguments: &SyncArguments) -> ExitCode {
    apply::exit_code(try_run(arguments))
}

fn try_run(arguments: &SyncArguments) -> anyhow::Result<ExitCode> {
    let target = Target::new(&arguments.target)?;
    let environment = std::env::vars_os();
    let environment =
        environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let chain = Chain::read(arguments.profile.as_deref(), environment)?;
    let mut regions = arguments.regions.clone();
    if regions.is_empty() {
        regions.push(chain.region().context("there is no Region: name it with `--region`, or set AWS_REGION")?);
    }
    let intervals = [arguments.interval, arguments.max_interval.max(arguments.interval)].map(Duration::from_secs);
    let account = Account::new(chain, arguments.endpoint_url.as_deref(), arguments.rate)?;
    let mut sync = Sync {
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        collector: Collector::new(account, regions, (intervals[0], intervals[1])),
        target,
        counters: Counters::default(),
        imported: None,
        last_report: String::new(),
    };
    if let Some(address) = arguments.metrics_address {
        sync.counters.serve(address)?;
    }
    loop {
        let begin = Instant::now();
        let result = sync.round(arguments);
        sync.counters.note_round(result.as_ref().is_ok_and(|is_whole| *is_whole), begin.elapsed(), now());
        match result {
            Ok(is_whole) if arguments.once => {
                return Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Err(error) if arguments.once => return Err(error),
            Ok(_) => {}
            Err(error) => print_error(printable(&format!("this round changed nothing: {error:#}"))),
        }
        std::thread::sleep(intervals[0].saturating_sub(begin.elapsed()));
    }
}

/// The resources of an account's descriptions.
struct Imported {
    /// The digest of the descriptions.
    digest: [u8; 32],
    made: Made,
    /// Reports about descriptions that are not imported.
    remarks: String,
}

impl Imported {
    /// Imports descriptions. Returns the last import if the descriptions are equal, because an import compiles all resources.
    fn of_outputs(outputs: Vec<(PathBuf, Value)>, last: Option<Arc<Imported>>) -> Arc<Imported> {
        let mut digest = Sha256::new();
        outputs.iter().for_each(|(path, output)| digest.update(format!("{}\n{output}\n", path.display())));
        let digest = digest.finalize().into();
        last.filter(|last| last.digest == digest).unwrap_or_else(|| {
            let (made, remarks) = import::of_outputs(outputs);
            Arc::new(Imported { digest, made, remarks })
        })
    }
}

/// A target that follows an account.
struct Sync {
    runtime: Runtime,
    collector: Collector,
    target: Target,
    counters: Counters,
    /// The import of the last round.
    imported: Option<Arc<Imported>>,
    /// The report that was printed last.
    last_report: String,
}

impl Sync {
    /// Describes the account once, and writes the differences. Returns whether everything was described and written.
    fn round(&mut self, arguments: &SyncArguments) -> anyhow::Result<bool> {
        let described = self.runtime.block_on(self.collector.describe());
        let identity = self.runtime.block_on(async {
            let region = self.collector.first_region().to_string();
            caller_identity(self.collector.account(), &region).await
        });
        self.counters.note_requests(self.collector.account().requests());
        let (Descriptions { mut outputs, refused }, identity) = (described?, identity?);
        let account =
            identity["Account"].as_str().context("AWS does not say the account of the credentials")?.to_string();
        if !refused.is_empty() {
            // A resource without the part that was refused would lose that part in the target.
            self.report("", &refused, &Changes::default());
            self.counters.note_refused(refused.len());
            return Ok(false);
        }
        outputs.push(("sts-GetCallerIdentity.json".into(), identity));
        let imported = Imported::of_outputs(outputs, self.imported.take());
        self.imported = Some(imported.clone());
        let state = self.target.read()?;
        let deletions = if arguments.force { Deletions::All } else { Deletions::Limited };
        let changes = Changes::new(&state.collection, &imported.made, &account, deletions);
        self.report(&imported.remarks, &refused, &changes);
        let is_whole = changes.foreign.is_empty() && changes.held.is_empty();
        self.counters.note_state(&changes);
        if changes.edits.is_empty() {
            if arguments.once {
                print("No difference.\n");
            }
            return Ok(is_whole);
        }
        self.write(arguments, state, changes)?;
        Ok(is_whole)
    }

    /// Prints the changes and, unless this is a dry run, makes them.
    fn write(&self, arguments: &SyncArguments, state: State, changes: Changes) -> anyhow::Result<()> {
        let mut after = state.collection.clone();
        after.apply(&changes.edits);
        let Some(new) = apply::compiled(&after) else {
            bail!(
                "the target with the account's resources would have errors: `zonal sync aws --dry-run` shows the changes"
            );
        };
        if let Some((key, refusal)) = protection::violations(&state.collection, &changes.edits).into_iter().next() {
            bail!("{}/{}: {refusal}", key.kind, key.id);
        }
        let old = apply::compiled(&state.collection);
        let is_unknown = old.is_none();
        let answers = old.map_or(Answers::default(), |old| difference::answers(&old, &new, now(), MAX_ANSWERS));
        let steps = self.target.steps(&changes.edits);
        let plan = Plan { state, edits: changes.edits, answers, is_unknown };
        print(&plan.to_text(apply::width(), steps));
        if !arguments.dry_run {
            let revision = self.target.write(&plan.state, &plan.edits, false, || {})?;
            self.counters.note_changes(&plan.edits);
            print(&format!("Written: revision {revision}.\n"));
        }
        Ok(())
    }

    /// Prints what is not imported, not described and not changed, if it is different from the last round.
    fn report(&mut self, remarks: &str, refused: &[String], changes: &Changes) {
        let mut report = remarks.to_string();
        let mut add = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                report += &format!("\n{title}: {}\n", items.len());
                items.iter().take(MAX_NAMED).for_each(|item| report += &format!("  {}\n", printable(item)));
            }
        };
        let keys = |keys: &[Key]| keys.iter().map(|key| format!("{}/{}", key.kind, key.id)).collect();
        add("Requests that AWS refused, so nothing is changed", refused.to_vec());
        add("Not made by this command, and left alone", keys(&changes.foreign));
        add("Not in the account any more, and not deleted (`--force` deletes more than 30 %)", keys(&changes.held));
        if report != self.last_report {
            print(&report);
            self.last_report = report;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_descriptions_are_imported_once() {
        let outputs = |block: &str| {
            let vpc = json!({"VpcId": "vpc-0a", "CidrBlock": block, "OwnerId": "111122223333", "State": "available"});
            vec![(PathBuf::from("us-east-1/ec2-DescribeVpcs.json"), json!({"Vpcs": [vpc]}))]
        };
        let first = Imported::of_outputs(outputs("10.1.0.0/16"), None);
        assert_eq!(first.made["vpcs"].len(), 1, "{}", first.remarks);
        let again = Imported::of_outputs(outputs("10.1.0.0/16"), Some(first.clone()));
        assert!(Arc::ptr_eq(&first, &again));
        let changed = Imported::of_outputs(outputs("10.2.0.0/16"), Some(first.clone()));
        assert_ne!(changed.made, first.made);
    }
}

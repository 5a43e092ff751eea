//! `zonal check`: lists all errors and warnings of the configuration and the manifest.

use super::{CheckArguments, Format, print, report::report};
use crate::{
    clock::now,
    config::{Config, ControlPlane, DEFAULT_FILE, Source},
    control_plane::{internet::Internet, updates::Journals},
    firewall_lists,
    manifest::{
        Loaded, Loader, Manifest, Problem,
        check::check,
        connectivity::Connectivity,
        document::{self, Value},
        load,
        overlay::Overlays,
        presets,
        problem::printable,
    },
    run::files,
    snapshot::{self, Node, Snapshot},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// If more resources than this have errors, the other resources are not checked.
const MAX_BROKEN: usize = 100;

/// Runs the command. Exit status 1 if there is an error or, with `--deny-warnings`, a warning.
pub(super) fn run(arguments: &CheckArguments) -> ExitCode {
    let mut problems = Vec::new();
    let mut is_empty = false;
    let mut allowed_sources = None;
    let (mut listen, mut node, mut overlays) = (Vec::new(), Node::default(), Overlays::default());
    let directory = match arguments.named.as_ref().or(arguments.directory.as_ref()) {
        Some(directory) => Some(directory.clone()),
        None => match Config::load(arguments.config.config.as_deref()) {
            Ok(config) => {
                problems.extend(files::check(&config));
                node.internet = Internet::new(&config, Vec::new()).read();
                // This user may not be allowed to read the journals of the server.
                overlays =
                    config.state_directory.as_deref().and_then(|state| Journals::read(state).ok()).unwrap_or_default();
                problems.extend(config.warnings);
                allowed_sources = Some(config.firewall.allow_sources.clone());
                node.query_logs = Some(config.query_log.allowed());
                node.health_allow.clone_from(&config.health.allow);
                listen.extend(config.listen.into_iter().flatten().map(|listen| listen.address));
                match config.control_plane.source() {
                    Source::Directory(directory) => Some(directory.to_path_buf()),
                    // The server checks these manifests when it receives them.
                    Source::Etcd(_) | Source::Push => None,
                }
            }
            Err(found) => {
                problems.extend(found);
                directory_despite(arguments.config.config.as_deref())
            }
        },
    };
    if let Some(directory) = &directory {
        let (snapshot, warnings) = examine_updated(directory, &listen, &Arc::new(node), overlays);
        problems.extend(warnings);
        is_empty = snapshot.as_ref().is_ok_and(|snapshot| *snapshot.manifest == Manifest::default());
        if let Ok(snapshot) = &snapshot {
            problems.extend(firewall_lists::check::check(snapshot, directory, allowed_sources.as_deref()));
        }
        problems.extend(snapshot.err().into_iter().flatten());
        problems.extend(load::ignored_files(directory));
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    report(problems, arguments.format);
    if arguments.format == Format::Human {
        print(&format!("{}\n", summary(errors, warnings, directory.as_deref(), is_empty)));
    }
    match errors > 0 || warnings > 0 && arguments.deny_warnings {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The manifest's directory, read from a configuration with errors. None if the manifest has another source, or if the
/// directory cannot be determined.
fn directory_despite(config: Option<&Path>) -> Option<PathBuf> {
    let file = config.unwrap_or(Path::new(DEFAULT_FILE));
    let text = load::source(file).ok()?;
    let root = document::read(&text, file.extension().is_some_and(|extension| extension == "json")).0;
    let default = || Some(ControlPlane::default().directory).filter(|directory| directory.is_dir());
    let Some(node) = root.as_ref().and_then(|root| root.entry("control_plane")).map(|entry| &entry.node) else {
        return default();
    };
    match node.entry("directory").map(|entry| &entry.node.value) {
        Some(Value::Scalar { text, .. }) => Some(file.parent().unwrap_or(Path::new("")).join(&**text)),
        Some(_) => None,
        None if node.entry("etcd").is_some() || node.entry("push").is_some() => None,
        None => default(),
    }
}

fn summary(errors: usize, warnings: usize, directory: Option<&Path>, is_empty: bool) -> String {
    let count = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let place = directory.map_or("the configuration".into(), |directory| printable(&directory.display().to_string()));
    let remark = match is_empty {
        true => "; the manifest is empty: no *.yaml, *.yml or *.json file in the directory has a resource",
        false => "",
    };
    format!("{place}: {}, {}{remark}", count(errors, "error"), count(warnings, "warning"))
}

/// Checks the resources that could be read, without the problems that are about broken resources or follow from them.
/// Returns nothing if whole files could not be read.
fn check_rest(manifest: &Manifest, errors: &[Problem]) -> Vec<Problem> {
    let errors = errors.iter().filter(|problem| problem.is_error());
    let Some(broken) = errors.map(|problem| problem.resource.as_ref()).collect::<Option<BTreeSet<_>>>() else {
        return Vec::new();
    };
    // The number is limited, because each identifier is looked for in each problem.
    let ids: Vec<String> = broken
        .iter()
        .filter(|(kind, id)| *kind != "private_hosted_zones" || !manifest.private_hosted_zones.contains_key(id))
        .map(|(_, id)| format!("`{id}`"))
        .take(MAX_BROKEN)
        .collect();
    if ids.len() == MAX_BROKEN {
        return Vec::new();
    }
    let manifest = &presets::complete(&Arc::new(manifest.clone()), &Manifest::default());
    let mut problems = check(manifest, &Connectivity::new(manifest), now());
    problems.retain(|problem| {
        let wants_gateway = problem.field.ends_with("private_dns_only_for_inbound_resolver_endpoint");
        let mentions_broken = ids.iter().any(|id| problem.message.contains(id));
        let gateway_is_broken = wants_gateway && broken.iter().any(|(kind, _)| *kind == "vpc_endpoints");
        !mentions_broken && !gateway_is_broken
    });
    problems
}

/// Warns about rules whose target is this node. Unspecified listening addresses are not compared.
fn check_targets(manifest: &Manifest, listen: &[SocketAddr]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (id, rule) in manifest.resolver_rules.iter().filter(|(_, rule)| rule.enabled) {
        for (at, target) in rule.target_ips.iter().enumerate() {
            let address = SocketAddr::new(target.ip, target.port);
            if listen.contains(&address) {
                let message = format!("the target is this node itself, which listens on {address}");
                problems.push(Problem::warning("resolver_rules", id, format!("target_ips[{at}].ip"), message));
            }
        }
    }
    problems
}

/// Loads, checks and compiles a directory for a node that listens on these addresses. Returns the snapshot and the warnings,
/// or all problems with their positions.
pub(super) fn examine(
    directory: &Path,
    listen: &[SocketAddr],
    node: &Arc<Node>,
) -> (Result<Snapshot, Vec<Problem>>, Vec<Problem>) {
    examine_updated(directory, listen, node, Overlays::default())
}

/// The same, with the dynamic updates of zones.
pub(super) fn examine_updated(
    directory: &Path,
    listen: &[SocketAddr],
    node: &Arc<Node>,
    overlays: Overlays,
) -> (Result<Snapshot, Vec<Problem>>, Vec<Problem>) {
    let mut loader = Loader::new(directory);
    let (loaded, mut problems) = match loader.load() {
        Ok((loaded, problems)) => {
            let manifest = presets::complete(&loaded.manifest, &Manifest::default());
            (Loaded { manifest, overlays, ..loaded }, problems)
        }
        Err(mut problems) => {
            problems.extend(check_rest(loader.manifest(), &problems));
            loader.locate(&mut problems);
            return (Err(problems), Vec::new());
        }
    };
    problems.extend(check(&loaded.manifest, &Connectivity::new(&loaded.manifest), now()));
    problems.extend(check_targets(&loaded.manifest, listen));
    match snapshot::compile_checked(&loaded, node, None, problems) {
        Ok((snapshot, mut problems)) => {
            loader.locate(&mut problems);
            (Ok(snapshot), problems)
        }
        Err(mut problems) => {
            loader.locate(&mut problems);
            (Err(problems), Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_counts_errors_and_warnings() {
        for (errors, warnings, is_empty, expected) in [
            (0, 1, false, "zones: no errors, 1 warning"),
            (2, 0, false, "zones: 2 errors, no warnings"),
            (
                0,
                0,
                true,
                "zones: no errors, no warnings; the manifest is empty: no *.yaml, *.yml or *.json file in the directory has a resource",
            ),
        ] {
            assert_eq!(summary(errors, warnings, Some(Path::new("zones")), is_empty), expected);
        }
    }

    #[test]
    fn a_broken_resource_does_not_hide_errors_of_others() {
        let directory = std::env::temp_dir().join(format!("zonal-check-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let text = "vpcs:\n  a: {region: r}\nresolver_endpoints:\n  in: {vpc_id: a, ip_addresses: [{ip: 10.0.0.2}]}\n  \
                    out: {vpc_id: b, ip_addresses: [{ip: 10.0.0.3}]}\n";
        std::fs::write(directory.join("a.yaml"), text).unwrap();
        let problems = examine(&directory, &[], &Arc::default()).0.err().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let shown: Vec<String> =
            problems.iter().map(|p| p.to_string().rsplit("a.yaml:").next().unwrap().into()).collect();
        assert_eq!(
            shown,
            [
                "2:3: error: vpcs.a.cidr_blocks: the field `cidr_blocks` is missing",
                "5:17: error: resolver_endpoints.out.vpc_id: there is no VPC `b`"
            ]
        );
    }

    #[test]
    fn warns_about_a_target_that_is_the_node_itself() {
        let rule = r#"{"domain_name": "x.example", "rule_type": "FORWARD", "vpc_ids": [],
            "target_ips": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "port": 5353}]}"#;
        let manifest: Manifest = serde_json::from_str(&format!(r#"{{"resolver_rules": {{"r": {rule}}}}}"#)).unwrap();
        let of = |listen: &str| -> Vec<String> {
            check_targets(&manifest, &[listen.parse().unwrap()]).iter().map(Problem::to_string).collect()
        };
        let expected = "warning: resolver_rules.r.target_ips[1].ip: the target is this node itself, which listens on 192.0.2.2:5353";
        assert_eq!((of("192.0.2.2:5353"), of("192.0.2.2:53")), (vec![expected.into()], vec![]));
    }
}

//! Checks of query logging configurations.

use super::Checker;
use crate::manifest::{LogDestination, LogFile, QueryLogConfig};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

const KIND: &str = "query_log_configs";
/// The largest number of configurations. Route 53 allows 20 in a Region.
const MAX_CONFIGS: usize = 50;
/// The smallest value of `max_octets`, in octets.
const MIN_FILE_OCTETS: u64 = 1 << 16;
/// The largest value of `keep`, in files.
const MAX_KEPT_FILES: u32 = 1000;

impl<'a> Checker<'a> {
    pub(super) fn query_logs(&mut self) {
        let manifest = self.manifest;
        // The paths of the log files. Rotation adds `.1`, `.2` and so on.
        let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
        for (number, (id, config)) in manifest.query_log_configs.iter().enumerate() {
            if number >= MAX_CONFIGS {
                self.error(
                    KIND,
                    id,
                    "",
                    format!("the manifest has more than {MAX_CONFIGS} query logging configurations"),
                );
            }
            self.logged_networks(id, config);
            self.destination(id, &config.destination);
            if !(0.0..=1.0).contains(&config.sampling) {
                self.error(KIND, id, "sampling", format!("{} is not a share; expected 0 to 1", config.sampling));
            }
            if config.max_per_second == Some(0) {
                self.error(KIND, id, "max_per_second", "expected at least 1");
            }
            if let Some(file) = &config.destination.file {
                let path = &*file.path;
                let taken = paths.iter().find(|(other, _)| collides(path, other) || collides(other, path));
                if let Some((_, other)) = taken {
                    let message = format!("query log `{other}` writes to `{path}`, or renames full files to it");
                    self.error(KIND, id, "destination.file.path", message);
                }
                paths.insert(path, id);
            }
        }
    }

    fn logged_networks(&mut self, id: &str, config: &'a QueryLogConfig) {
        let manifest = self.manifest;
        self.vpc_list(KIND, id, "vpc_ids", &config.vpc_ids);
        let mut seen = BTreeSet::new();
        for (at, network) in config.on_premises_network_ids.iter().enumerate() {
            let field = format!("on_premises_network_ids[{at}]");
            if !seen.insert(network) {
                self.warning(KIND, id, field, format!("`{network}` is in the list twice"));
            } else {
                self.reference((KIND, id), field, "on-premises network", network, &manifest.on_premises_networks);
            }
        }
        let has_networks = !config.vpc_ids.is_empty() || !config.on_premises_network_ids.is_empty();
        if !has_networks && !self.is_in_profile(KIND, id) {
            self.warning(KIND, id, "", "the query log has no networks: it logs no queries");
            self.help("add networks to `vpc_ids` or `on_premises_network_ids`");
        }
    }

    fn destination(&mut self, id: &str, destination: &LogDestination) {
        let LogDestination { file, stdout: _, unix, tcp, http } = destination;
        if destination.given().len() != 1 {
            self.error(KIND, id, "destination", "expected exactly one destination");
            self.help("write one of `file`, `stdout`, `unix`, `tcp` and `http`");
        }
        if let Some(file) = file {
            self.log_file(id, file);
        }
        if unix.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
            self.error(KIND, id, "destination.unix", "expected an absolute path such as /run/vector/dns.sock");
        }
        if tcp.as_ref().is_some_and(|address| !is_host_and_port(address)) {
            self.error(KIND, id, "destination.tcp", "expected a host and port such as 127.0.0.1:9000 or [::1]:9000");
        }
        if let Some(url) = http {
            let authority = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
            let is_valid = authority
                .is_some_and(|authority| is_host_and_port(authority) || is_host_and_port(&format!("{authority}:80")));
            if !is_valid || url.bytes().any(|octet| octet <= b' ' || octet >= 0x7f) {
                self.error(KIND, id, "destination.http", "expected a URL such as http://127.0.0.1:8080/logs");
            }
        }
    }

    fn log_file(&mut self, id: &str, file: &LogFile) {
        let components = Path::new(&file.path).components();
        let is_below = components.clone().all(|component| matches!(component, Component::Normal(_)));
        if !is_below || components.count() == 0 || file.path.ends_with('/') || file.path.contains('\0') {
            let message = "expected a path below the node's directory of query logs, such as vpc-app.log";
            self.error(KIND, id, "destination.file.path", message);
        }
        if file.max_octets < MIN_FILE_OCTETS {
            self.error(KIND, id, "destination.file.max_octets", format!("expected at least {MIN_FILE_OCTETS}"));
        }
        if file.keep > MAX_KEPT_FILES {
            self.error(KIND, id, "destination.file.keep", format!("expected at most {MAX_KEPT_FILES}"));
        }
    }
}

/// Whether a path is equal to another one, or to a path that rotation makes of it.
fn collides(path: &str, other: &str) -> bool {
    let more = path.strip_prefix(other);
    more.is_some_and(|more| more.is_empty() || more.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok()))
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match is_address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use crate::manifest::check::tests::problems;

    #[test]
    fn reports_all_errors_of_query_logs() {
        let check = |logs: &str| {
            let text = format!(
                "vpcs: {{vpc-a: {{region: r, cidr_blocks: [10.1.0.0/16]}}}}\non_premises_networks: {{dc: {{cidr_blocks: [10.9.0.0/16], \
                 vpc_ids: [vpc-a]}}}}\nquery_log_configs:\n{logs}"
            );
            problems(&text)
        };
        assert_eq!(check("  l: {vpc_ids: [vpc-a], destination: {file: {path: below/vpc-a.log}}}"), [""; 0]);
        assert_eq!(
            check("  l: {on_premises_network_ids: [dc], destination: {http: http://collector/logs}, sampling: 0.5}"),
            [""; 0]
        );
        for (log, expected) in [
            (
                "vpc_ids: [vpc-b, vpc-a, vpc-a], destination: {stdout: {}}",
                &[
                    "error: query_log_configs.l.vpc_ids[0]: there is no VPC `vpc-b` (did you mean `vpc-a`?)",
                    "warning: query_log_configs.l.vpc_ids[2]: `vpc-a` is in the list twice",
                ][..],
            ),
            (
                "on_premises_network_ids: [dx], destination: {stdout: {}}",
                &[
                    "error: query_log_configs.l.on_premises_network_ids[0]: there is no on-premises network `dx` (did you mean `dc`?)",
                ],
            ),
            (
                "destination: {stdout: {}}",
                &[
                    "warning: query_log_configs.l: the query log has no networks: it logs no queries (add networks to `vpc_ids` or `on_premises_network_ids`)",
                ],
            ),
            (
                "vpc_ids: [vpc-a], destination: {}",
                &[
                    "error: query_log_configs.l.destination: expected exactly one destination (write one of `file`, `stdout`, `unix`, \
                 `tcp` and `http`)",
                ],
            ),
            (
                "vpc_ids: [vpc-a], destination: {stdout: {}, unix: run/x, tcp: \"a:0\", http: \"https://x/\"}",
                &[
                    "error: query_log_configs.l.destination: expected exactly one destination (write one of `file`, `stdout`, `unix`, \
                 `tcp` and `http`)",
                    "error: query_log_configs.l.destination.unix: expected an absolute path such as /run/vector/dns.sock",
                    "error: query_log_configs.l.destination.tcp: expected a host and port such as 127.0.0.1:9000 or [::1]:9000",
                    "error: query_log_configs.l.destination.http: expected a URL such as http://127.0.0.1:8080/logs",
                ],
            ),
            (
                "vpc_ids: [vpc-a], destination: {file: {path: ../x, max_octets: 5, keep: 2000}}",
                &[
                    "error: query_log_configs.l.destination.file.path: expected a path below the node's directory of query logs, \
                 such as vpc-app.log",
                    "error: query_log_configs.l.destination.file.max_octets: expected at least 65536",
                    "error: query_log_configs.l.destination.file.keep: expected at most 1000",
                ],
            ),
            (
                "vpc_ids: [vpc-a], destination: {stdout: {}}, sampling: 1.5, max_per_second: 0",
                &[
                    "error: query_log_configs.l.sampling: 1.5 is not a share; expected 0 to 1",
                    "error: query_log_configs.l.max_per_second: expected at least 1",
                ],
            ),
        ] {
            assert_eq!(check(&format!("  l: {{{log}}}")), expected, "{log}");
        }
        for path in ["/etc/passwd", "a/../../b", "", ".", "a/"] {
            let found = check(&format!("  l: {{vpc_ids: [vpc-a], destination: {{file: {{path: {path:?}}}}}}}"));
            assert_eq!(found.len(), 1, "{path}: {found:?}");
        }
        assert_eq!(
            check(
                "  a: {vpc_ids: [vpc-a], destination: {file: {path: x}}}\n  b: {vpc_ids: [vpc-a], destination: {file: {path: x.2}}}"
            ),
            [
                "error: query_log_configs.b.destination.file.path: query log `a` writes to `x.2`, or renames full files to it"
            ]
        );
        let many: String = (0..51)
            .map(|n| format!("  l{n:02}: {{vpc_ids: [vpc-a], destination: {{file: {{path: l-{n}}}}}}}\n"))
            .collect();
        assert_eq!(
            check(&many),
            ["error: query_log_configs.l50: the manifest has more than 50 query logging configurations"]
        );
    }
}

//! The configuration of a node, `zonal.yaml`: its sockets, sources, limits and files. What is the
//! same on all nodes is in the manifest.

mod etcd;
mod firewall;
mod health;
mod internet_resolver;
mod query_log;
pub mod remedy;
#[cfg(test)]
mod tests;
mod tsig;

pub use etcd::Etcd;
pub use firewall::{Firewall, FirewallEvents};
pub use health::Health;
pub use internet_resolver::{Dnssec, ForwardTo, InternetResolver, NegativeTrustAnchor, Recursion};
pub use query_log::{Dnstap, DnstapMessage, DnstapMessages, QueryLog};
pub use tsig::{TsigAlgorithm, TsigKey};

use crate::manifest::{
    Location, Problem, Protocol, Severity,
    decode::decode,
    document::{self, Node},
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The configuration file that is read if the command line names none, and it exists.
pub const DEFAULT_FILE: &str = "zonal.yaml";
/// The maximum size of a configuration file, in octets.
const MAX_OCTETS: u64 = 1 << 20;

/// The configuration of a node. Relative paths in the file have been joined to the file's
/// directory.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The configuration file. None if the defaults apply.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Addresses to receive queries on. Default: 127.0.0.1:5300 and, on that port, each entry point
    /// of the manifest that is a loopback address.
    pub listen: Option<Vec<Listen>>,
    /// The source of the manifest.
    pub control_plane: ControlPlane,
    /// Directory where zonal stores the last valid manifest, so that it can start while the control
    /// plane is unreachable.
    pub state_directory: Option<PathBuf>,
    /// Path of the socket by which a new zonal process takes over from this one. Default:
    /// `takeover` in the runtime directory of the systemd service (`$RUNTIME_DIRECTORY`); none
    /// without systemd.
    pub takeover_socket: Option<PathBuf>,
    /// What `"."` RECURSIVE means on this node.
    pub internet_resolver: InternetResolver,
    /// The admin HTTP server.
    pub admin: Admin,
    /// File with one or two DNS cookie secrets, one per line, of 32 hexadecimal digits each (RFC
    /// 9018).
    pub cookie_secret_file: Option<PathBuf>,
    /// PEM file of authorities that verify the certificates of DoT, DoH and DoQ servers, in
    /// addition to the system's authorities.
    pub certificate_authority: Option<PathBuf>,
    /// The TSIG keys that authenticate zone transfers and dynamic updates, by key name (RFC 8945).
    pub tsig_keys: BTreeMap<String, TsigKey>,
    /// Limits that protect the node and others.
    pub limits: Limits,
    /// The cache of upstream answers.
    pub cache: Cache,
    /// The name server identifier in responses to NSID queries (RFC 5001). Default: the host name.
    pub nsid: Option<String>,
    /// The log.
    pub log: Log,
    /// The permitted destinations of query logs.
    pub query_log: QueryLog,
    /// The server that receives dnstap messages.
    pub dnstap: Option<Dnstap>,
    /// Health checks on this node.
    pub health: Health,
    /// DNS Firewall on this node.
    pub firewall: Firewall,
    /// The warnings about the file.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
    /// The path and the parsed content of the file, for the position of errors.
    #[serde(skip)]
    text: Option<(Arc<Path>, Arc<Node>)>,
}

/// An address to receive queries on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// The transport; Do53 is UDP and TCP, DoH is HTTP/1.1 and HTTP/2 over TCP and HTTP/3 over UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// Certificate and key, for encrypted transports.
    #[serde(default)]
    pub tls: Option<Tls>,
}

impl Listen {
    /// The kinds of sockets on the address.
    fn sockets(&self) -> &'static [&'static str] {
        match self.protocol {
            Protocol::Do53 | Protocol::DoH => &["TCP", "UDP"],
            Protocol::DoT => &["TCP"],
            Protocol::DoQ => &["UDP"],
        }
    }
}

/// Files for TLS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub private_key: Option<PathBuf>,
    /// PEM file of the authorities that verify the certificate of the other side.
    pub certificate_authority: Option<PathBuf>,
}

/// The source of the manifest: exactly one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// Directory of manifest files.
    pub directory: PathBuf,
    /// An etcd cluster that has the resources as keys.
    pub etcd: Option<Etcd>,
    /// Clients send the manifest to the admin API.
    pub push: Option<Push>,
    /// How zonal handles a change with an error: `refuse` rejects the whole change, `set_aside`
    /// rejects only the resources with errors. Default: `set_aside` with etcd, otherwise `refuse`.
    pub on_error: Option<OnError>,
    /// Whether a node reports that it is ready while it serves the stored manifest of an earlier
    /// run and has not yet reached its source.
    pub ready_when_stale: bool,
}

impl Default for ControlPlane {
    fn default() -> ControlPlane {
        ControlPlane { directory: "zones".into(), etcd: None, push: None, on_error: None, ready_when_stale: true }
    }
}

/// The source of the manifest, with its settings.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A directory of manifest files.
    Directory(&'a Path),
    /// The keys of an etcd cluster.
    Etcd(&'a Etcd),
    /// Requests to the admin API.
    Push,
}

impl ControlPlane {
    /// The source of the manifest.
    pub fn source(&self) -> Source<'_> {
        match (&self.etcd, &self.push) {
            (Some(etcd), _) => Source::Etcd(etcd),
            (None, Some(_)) => Source::Push,
            (None, None) => Source::Directory(&self.directory),
        }
    }

    /// How zonal handles a change with an error.
    pub fn on_error(&self) -> OnError {
        self.on_error.unwrap_or(match self.source() {
            Source::Etcd(_) => OnError::SetAside,
            Source::Directory(_) | Source::Push => OnError::Refuse,
        })
    }
}

/// How zonal handles a change with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It rejects the whole change.
    Refuse,
    /// It rejects the resources with errors, and those that refer to them; their last valid
    /// versions stay.
    SetAside,
}

/// A manifest that is pushed by HTTP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {}

/// The admin HTTP server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port to listen on.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// File with the valid tokens: the SHA-256 digest and the role of each. zonal reads the file
    /// again when it changes.
    pub tokens_file: Option<PathBuf>,
    /// File with the access keys of AWS's API. Each line has a role, an access key, its secret and an account. Two members are
    /// optional: `networks=` has the blocks whose addresses the key may use, and `domains=` has the domains of its public
    /// hosted zones. The file has mode 0600. zonal reads the file again when it changes. Without this file, zonal verifies
    /// no signatures, and AWS's API is open on loopback addresses.
    pub access_keys_file: Option<PathBuf>,
    /// Certificate and private key for HTTPS. `certificate_authority` verifies client certificates,
    /// which give clients their role.
    pub tls: Option<Tls>,
    /// The roles of clients with a certificate, by DNS name.
    pub client_certificates: ClientCertificates,
    /// The maximum size of a request body, in octets; the default is 256 MiB.
    pub max_body_octets: u64,
}

/// DNS names in client certificates, by role.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientCertificates {
    /// Names of clients that can read.
    pub read: Vec<String>,
    /// Names of clients that can read and make changes.
    pub write: Vec<String>,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            address: SocketAddr::from(([127, 0, 0, 1], 9153)),
            tokens_file: None,
            access_keys_file: None,
            tls: None,
            client_certificates: ClientCertificates::default(),
            max_body_octets: 256 << 20,
        }
    }
}

impl Admin {
    /// The errors in the section: field and message.
    fn check(&self, takes_changes: bool) -> Vec<(&'static str, &'static str, Option<&'static str>)> {
        let mut wrong = Vec::new();
        let certificates = self.tls.as_ref().and_then(|tls| tls.certificate_authority.as_ref());
        if takes_changes && !self.address.ip().is_loopback() && self.tokens_file.is_none() && certificates.is_none() {
            let message = "`push` accepts changes here, and this is not a loopback address";
            wrong.push(("address", message, Some("set `tokens_file`, or `certificate_authority` in `tls`")));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.certificate.is_none() || tls.private_key.is_none()) {
            wrong.push(("tls", "it needs `certificate` and `private_key`", None));
        }
        let names = &self.client_certificates;
        if certificates.is_none() && !(names.read.is_empty() && names.write.is_empty()) {
            wrong.push(("client_certificates", "they need `tls` with a `certificate_authority`", None));
        }
        wrong
    }
}

/// Limits that protect the node and others.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The maximum number of REFUSED and other error responses over UDP to one source prefix, per
    /// second.
    pub error_answers_per_second: u32,
    /// The maximum number of large responses over UDP to one source prefix for one name, per
    /// second; ten times as many for all names. Default: 20; 0 turns the limit off. A response is
    /// large if it has more than 512 octets and more than 10 times the octets of its query. Beyond
    /// the limit, responses are truncated, unless the query has a valid cookie.
    pub large_answers_per_second: u32,
    /// The maximum number of TCP and QUIC connections.
    pub tcp_connections: u32,
    /// The maximum number of TCP and QUIC connections of one client.
    pub tcp_connections_per_client: u32,
    /// The time without a query after which zonal closes a connection, in seconds.
    pub tcp_idle_timeout_seconds: u32,
    /// The maximum size of one zone transfer, in octets: of its messages, and of its records in
    /// memory. The default is 256 MiB.
    pub transfer_octets: u64,
    /// The maximum size of one transfer of a DNS Firewall list, in octets: of its messages, and of its records in a file. The
    /// default is 1 GiB. If the records need more than `transfer_octets` of memory, they are in the file instead.
    pub list_transfer_octets: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            error_answers_per_second: 50,
            large_answers_per_second: 20,
            tcp_connections: 10_000,
            tcp_connections_per_client: 100,
            tcp_idle_timeout_seconds: 10,
            transfer_octets: 256 << 20,
            list_transfer_octets: 1 << 30,
        }
    }
}

/// The cache of upstream answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// The maximum memory of the cache, in octets; at least 1048576, and 64 MiB by default. Beyond
    /// it, entries are evicted.
    pub size_octets: u64,
    /// The minimum TTL, in seconds; shorter TTLs are lengthened to it. A value above 0 keeps
    /// answers longer than their publisher intends.
    pub min_ttl_seconds: u32,
    /// The maximum TTL of positive answers, in seconds; longer TTLs are shortened to it.
    pub max_ttl_seconds: u32,
    /// The maximum TTL of negative answers (NXDOMAIN and no data), in seconds; longer TTLs are
    /// shortened to it.
    pub max_negative_ttl_seconds: u32,
    /// How long after its expiry an answer can be served as stale if no upstream server answers
    /// (RFC 8767), in seconds; 0 turns stale answers off.
    pub max_stale_seconds: u32,
}

/// The minimum of `transfer_octets` and `list_transfer_octets`: one message.
const MIN_TRANSFER_OCTETS: u64 = 1 << 16;
/// The minimum of `size_octets`.
const MIN_CACHE_OCTETS: u64 = 1 << 20;
/// The maximum time that an answer stays in the cache: a week, in seconds (RFC 8767, section 4).
const MAX_CACHE_SECONDS: u32 = 604_800;

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            size_octets: 64 << 20,
            min_ttl_seconds: 0,
            max_ttl_seconds: 86_400,
            max_negative_ttl_seconds: 10_800,
            max_stale_seconds: 86_400,
        }
    }
}

impl Cache {
    /// The errors in the section: field and message.
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.size_octets < MIN_CACHE_OCTETS || usize::try_from(self.size_octets).is_err() {
            wrong.push(("size_octets", format!("it must be at least {MIN_CACHE_OCTETS}")));
        }
        for (field, seconds) in [
            ("max_ttl_seconds", self.max_ttl_seconds),
            ("max_negative_ttl_seconds", self.max_negative_ttl_seconds),
            ("max_stale_seconds", self.max_stale_seconds),
        ] {
            if seconds > MAX_CACHE_SECONDS {
                wrong.push((field, format!("it must be at most {MAX_CACHE_SECONDS}, a week")));
            }
        }
        if self.min_ttl_seconds > self.max_ttl_seconds.min(self.max_negative_ttl_seconds) {
            wrong.push(("min_ttl_seconds", "it is greater than a maximum TTL".into()));
        }
        wrong
    }
}

/// The log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` writes text for people, `json` writes one JSON object per line.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads a configuration file. Without one, reads `zonal.yaml` in the current directory if it
    /// exists; otherwise returns the defaults.
    ///
    /// # Errors
    /// The file cannot be read, or has errors. The list has the warnings too.
    pub fn load(file: Option<&Path>) -> Result<Config, Vec<Problem>> {
        let path: Arc<Path> = file.unwrap_or(Path::new(DEFAULT_FILE)).into();
        let mut bytes = Vec::new();
        // The limit also ends the reading of a device or pipe without end.
        match std::fs::File::open(&path).and_then(|file| file.take(MAX_OCTETS + 1).read_to_end(&mut bytes)) {
            Ok(_) if bytes.len() as u64 > MAX_OCTETS => {
                let message = format!("{} is larger than {} MiB", path.display(), MAX_OCTETS >> 20);
                Err(vec![problem(Severity::Error, String::new(), message)])
            }
            Ok(_) => Config::read(&bytes, &path).map(|config| Config { file: Some(path.to_path_buf()), ..config }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => Ok(Config::default()),
            Err(error) => {
                let message = match error.kind() {
                    io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
                    _ => format!("{} cannot be read: {error}", path.display()),
                };
                Err(vec![problem(Severity::Error, String::new(), message)])
            }
        }
    }

    /// Parses a configuration file. `path` completes relative paths, and is part of error messages.
    ///
    /// # Errors
    /// The file has errors. The list has the warnings too.
    pub fn read(bytes: &[u8], path: &Arc<Path>) -> Result<Config, Vec<Problem>> {
        let (root, faults) = document::read(bytes, path.extension().is_some_and(|extension| extension == "json"));
        if !faults.is_empty() {
            let problems = faults.into_iter().map(|fault| Problem {
                location: Some(Location::new(fault.span, path)),
                help: fault.help,
                ..problem(Severity::Error, String::new(), fault.message)
            });
            return Err(problems.collect());
        }
        let Some(root) = root.filter(|root| !root.is_null()) else { return Ok(Config::default()) };
        let mut config: Config = decode(&root).map_err(|mistakes| {
            let problems = mistakes.into_iter().map(|mistake| Problem {
                location: Some(Location::new(mistake.span.unwrap_or(root.span), path)),
                help: mistake.help,
                ..problem(Severity::Error, mistake.field, mistake.message)
            });
            problems.collect::<Vec<_>>()
        })?;
        let mut problems = config.check(&root);
        for problem in &mut problems {
            let span = root.locate(&problem.field).unwrap_or(root.span);
            problem.location = Some(Location::new(span, path));
        }
        if problems.iter().any(Problem::is_error) {
            return Err(problems);
        }
        config.resolve_paths(path.parent().unwrap_or(Path::new("")), &root);
        config.warnings = problems;
        config.text = Some((path.clone(), Arc::new(root)));
        Ok(config)
    }

    /// An error about a field, with the field's position in the file.
    pub fn error(&self, field: &str, message: String) -> Problem {
        let location = self.text.as_ref();
        let location = location.map(|(path, root)| Location::new(root.locate(field).unwrap_or(root.span), path));
        Problem { location, ..problem(Severity::Error, field.into(), message) }
    }

    fn check(&self, root: &Node) -> Vec<Problem> {
        let mut errors = Errors::default();
        self.check_listen(&mut errors);
        check_sources(root, &mut errors);
        self.check_internet_resolver(root, &mut errors);
        if let Some(etcd) = &self.control_plane.etcd {
            for (field, message) in etcd.check() {
                errors.add(&format!("control_plane.etcd.{field}"), message, None);
            }
        }
        for (field, message, help) in self.admin.check(self.control_plane.push.is_some()) {
            errors.add(&format!("admin.{field}"), message.into(), help);
        }
        for (field, number) in [
            ("tcp_connections", self.limits.tcp_connections),
            ("tcp_connections_per_client", self.limits.tcp_connections_per_client),
            ("tcp_idle_timeout_seconds", self.limits.tcp_idle_timeout_seconds),
        ] {
            if number == 0 {
                errors.add(&format!("limits.{field}"), "it must be at least 1".into(), None);
            }
        }
        for (field, octets) in [
            ("transfer_octets", self.limits.transfer_octets),
            ("list_transfer_octets", self.limits.list_transfer_octets),
        ] {
            if octets < MIN_TRANSFER_OCTETS {
                errors.add(&format!("limits.{field}"), format!("it must be at least {MIN_TRANSFER_OCTETS}"), None);
            }
        }
        for (field, message) in self.cache.check() {
            errors.add(&format!("cache.{field}"), message, None);
        }
        for (field, message) in tsig::check(&self.tsig_keys) {
            errors.add(&field, message, None);
        }
        for (field, message) in self.health.check(self.control_plane.etcd.is_some()) {
            errors.add(field, message.into(), None);
        }
        for (field, message) in self.firewall.check() {
            errors.add(&field, message, None);
        }
        for (field, message) in self.query_log.check() {
            errors.add(&field, message.into(), None);
        }
        if self.dnstap.as_ref().is_some_and(|dnstap| dnstap.unix.is_some() == dnstap.tcp.is_some()) {
            errors.add("dnstap", "there must be exactly one destination".into(), Some("set one of `unix` and `tcp`"));
        }
        if self.nsid.as_ref().is_some_and(|nsid| nsid.len() > 255) {
            errors.add("nsid", "it is longer than 255 octets".into(), None);
        }
        errors.0
    }

    fn check_listen(&self, errors: &mut Errors) {
        for (at, listen) in self.listen.iter().flatten().enumerate() {
            let (protocol, field) = (listen.protocol, format!("listen[{at}].tls"));
            match &listen.tls {
                Some(_) if protocol == Protocol::Do53 => errors.add(&field, "Do53 has no TLS".into(), None),
                None if protocol == Protocol::Do53 => {}
                Some(Tls { certificate: Some(_), private_key: Some(_), certificate_authority: None }) => {}
                Some(Tls { certificate_authority: Some(_), .. }) => {
                    let message = "zonal verifies no client certificates on this address".into();
                    errors.add(&format!("{field}.certificate_authority"), message, Some("remove the field"));
                }
                _ => {
                    let message = format!("{protocol} needs `tls` with `certificate` and `private_key`");
                    let field = if listen.tls.is_some() { field } else { format!("listen[{at}]") };
                    errors.add(&field, message, Some("tls: {certificate: tls.crt, private_key: tls.key}"));
                }
            }
            let is_taken = |other: &&Listen| {
                let (one, other_one) = (listen.address.ip(), other.address.ip());
                let has_all = one.is_unspecified() || other_one.is_unspecified();
                let overlaps = one == other_one || has_all && one.is_ipv4() == other_one.is_ipv4();
                let is_same_port = other.address.port() == listen.address.port() && listen.address.port() != 0;
                overlaps && is_same_port && other.sockets().iter().any(|socket| listen.sockets().contains(socket))
            };
            if let Some(other) = self.listen.iter().flatten().take(at).find(is_taken) {
                let message = match other.address == listen.address {
                    true => format!("{} is in the list already", listen.address),
                    false => format!("{} overlaps {}, which is in the list already", listen.address, other.address),
                };
                errors.add(&format!("listen[{at}].address"), message, None);
            }
        }
        if self.listen.as_ref().is_some_and(Vec::is_empty) {
            errors.add(
                "listen",
                "the list is empty: zonal would receive no queries".into(),
                Some("remove the field for the default"),
            );
        }
    }

    fn check_internet_resolver(&self, root: &Node, errors: &mut Errors) {
        let internet_resolver = root.entry("internet_resolver").map(|entry| &entry.node);
        let names_servers = internet_resolver.is_some_and(|node| node.entry("forward_to").is_some());
        let trusts_ad = internet_resolver.is_some_and(|node| node.entry("trust_ad").is_some());
        if matches!(&self.internet_resolver, InternetResolver::ForwardTo { entries, .. } if entries.is_empty()) {
            let help = Some("to turn the internet resolver off, write `internet_resolver: none`");
            errors.add("internet_resolver.forward_to", "the list is empty".into(), help);
        } else if names_servers && matches!(self.internet_resolver, InternetResolver::Recursive(_)) {
            errors.add(
                "internet_resolver.forward_to",
                "it has no effect with `recursive: true`".into(),
                Some("remove one of them"),
            );
        }
        match &self.internet_resolver {
            InternetResolver::ForwardTo { entries, trust_ad: true } if names_servers => {
                for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_on_loopback()) {
                    let message = match entry {
                        ForwardTo::Server(_) => "the server is not on loopback: AD could be changed on the way",
                        ForwardTo::ResolvConf(_) => "the file may name servers that are not on loopback",
                    };
                    let field = format!("internet_resolver.forward_to[{at}]");
                    errors.add(&field, message.into(), Some("remove `trust_ad`"));
                }
            }
            InternetResolver::ForwardTo { trust_ad: true, .. } => {
                let message = "it needs `forward_to` with servers on loopback only";
                errors.add("internet_resolver.trust_ad", message.into(), None);
            }
            InternetResolver::Recursive(_) if trusts_ad => {
                let message = "it has no effect with `recursive: true`: recursion validates itself";
                errors.add("internet_resolver.trust_ad", message.into(), None);
            }
            _ => {}
        }
        if let InternetResolver::Recursive(recursion) = &self.internet_resolver {
            for (at, _) in recursion.negative_trust_anchors.iter().enumerate().filter(|(_, one)| one.name.is_root()) {
                errors.add(
                    &format!("internet_resolver.negative_trust_anchors[{at}].name"),
                    "the root would make all answers count as unsigned".into(),
                    Some("to turn validation off, write `dnssec: off`"),
                );
            }
        }
        for field in ["root_hints", "trust_anchor", "dnssec", "allow_servers", "negative_trust_anchors"] {
            let is_given = internet_resolver.is_some_and(|node| node.entry(field).is_some());
            if is_given && !matches!(self.internet_resolver, InternetResolver::Recursive(_)) {
                errors.add(
                    &format!("internet_resolver.{field}"),
                    "it has no effect without `recursive: true`".into(),
                    None,
                );
            }
        }
    }

    /// Joins relative paths to the directory of the configuration file. Defaults stay relative to
    /// the current directory.
    fn resolve_paths(&mut self, directory: &Path, root: &Node) {
        let named = root.entry("control_plane").is_some_and(|entry| entry.node.entry("directory").is_some());
        let control_plane = named.then_some(&mut self.control_plane.directory);
        let etcd = self.control_plane.etcd.iter_mut();
        let (password, etcd_tls): (Vec<_>, Vec<_>) =
            etcd.map(|etcd| (etcd.password_file.as_mut(), etcd.tls.as_mut())).unzip();
        let tls = self.listen.iter_mut().flatten().filter_map(|listen| listen.tls.as_mut());
        let tls = tls.chain(etcd_tls.into_iter().flatten()).chain(&mut self.admin.tls).flat_map(|tls| {
            tls.certificate.iter_mut().chain(&mut tls.private_key).chain(&mut tls.certificate_authority)
        });
        for path in control_plane
            .into_iter()
            .chain(tls)
            .chain(password.into_iter().flatten())
            .chain(&mut self.state_directory)
            .chain(&mut self.takeover_socket)
            .chain(&mut self.admin.tokens_file)
            .chain(&mut self.admin.access_keys_file)
            .chain(&mut self.cookie_secret_file)
            .chain(&mut self.certificate_authority)
            .chain(&mut self.query_log.directory)
            .chain(self.dnstap.iter_mut().filter_map(|dnstap| dnstap.unix.as_mut()))
            .chain(self.tsig_keys.values_mut().filter_map(|key| key.secret_file.as_mut()))
        {
            *path = directory.join(&*path);
        }
        self.internet_resolver.resolve_paths(directory);
    }
}

fn problem(severity: Severity, field: String, message: String) -> Problem {
    Problem { severity, location: None, resource: None, field, message, help: None }
}

/// The errors of a configuration file.
#[derive(Default)]
struct Errors(Vec<Problem>);

impl Errors {
    fn add(&mut self, field: &str, message: String, help: Option<&str>) {
        self.0.push(Problem { help: help.map(String::from), ..problem(Severity::Error, field.into(), message) });
    }
}

/// Checks that the file names at most one source, with a value.
fn check_sources(root: &Node, errors: &mut Errors) {
    let control_plane = root.entry("control_plane").map(|entry| &entry.node);
    // A source without a value would silently be the default directory.
    for source in ["etcd", "push"] {
        let named = control_plane.and_then(|node| node.entry(source));
        if named.is_some_and(|entry| entry.node.is_null()) {
            let help = (source == "push").then_some("write `push: {}`");
            errors.add(&format!("control_plane.{source}"), "the value is empty".into(), help);
        }
    }
    let sources = ["directory", "etcd", "push"];
    let given = sources.iter().filter(|source| control_plane.is_some_and(|node| node.entry(source).is_some()));
    if given.count() > 1 {
        errors.add(
            "control_plane",
            "there is more than one source".into(),
            Some("keep one of `directory`, `etcd` and `push`"),
        );
    }
}

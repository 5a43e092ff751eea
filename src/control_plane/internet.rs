//! The internet resolver: the servers that zonal asks about names outside the manifest, from
//! `internet_resolver` of zonal.yaml and the `resolv.conf` files that it names.

use crate::{
    config::{Config, ForwardTo, InternetResolver},
    manifest::Protocol,
    snapshot::routes::{Route, Servers, Target},
};
use std::{
    fs,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The maximum length of a file, in octets. The rest is ignored.
const MAX_FILE_OCTETS: u64 = 64 << 10;

/// The internet resolver of a node.
pub struct Internet {
    resolver: InternetResolver,
    listen: Vec<SocketAddr>,
    /// The warnings of the last read: each is logged once.
    warnings: Vec<String>,
    route: Option<Arc<Route>>,
}

impl Internet {
    /// The internet resolver of a node that listens on these addresses.
    pub fn new(config: &Config, listen: Vec<SocketAddr>) -> Internet {
        Internet { resolver: config.internet_resolver.clone(), listen, warnings: Vec::new(), route: None }
    }

    /// The files that name servers.
    pub fn files(&self) -> Vec<PathBuf> {
        let InternetResolver::ForwardTo { entries, .. } = &self.resolver else { return Vec::new() };
        let file = |entry: &ForwardTo| match entry {
            ForwardTo::ResolvConf(file) => Some(file.clone()),
            ForwardTo::Server(_) => None,
        };
        entries.iter().filter_map(file).collect()
    }

    /// Reads the files, and logs warnings. If a file exists but cannot be read now, the route stays
    /// as it was.
    pub fn read(&mut self) -> Option<Arc<Route>> {
        let mut warnings = Vec::new();
        let servers = match &self.resolver {
            InternetResolver::None => return None,
            InternetResolver::Recursive(_) => Some(Servers::Recursion),
            InternetResolver::ForwardTo { entries, trust_ad } => match self.targets(entries, &mut warnings) {
                Ok(targets) => Some(Servers::Targets { targets, sources: Vec::new(), trust_ad: *trust_ad }),
                Err(error) => {
                    warnings.push(format!("{error}; the internet resolver stays as it was"));
                    None
                }
            },
        };
        if warnings != self.warnings {
            warnings.iter().for_each(|warning| tracing::warn!(warning, "internet resolver warning"));
            self.warnings = warnings;
        }
        let none = || Servers::Targets { targets: Vec::new(), sources: Vec::new(), trust_ad: false };
        let route = match (servers, &self.route) {
            (None, Some(route)) => return Some(route.clone()),
            (servers, _) => Arc::new(Route::new(String::new(), [0].into(), servers.unwrap_or_else(none))),
        };
        self.route = Some(route.clone());
        Some(route)
    }

    fn targets(&self, entries: &[ForwardTo], warnings: &mut Vec<String>) -> io::Result<Vec<Target>> {
        let mut targets: Vec<Target> = Vec::new();
        for entry in entries {
            let (found, file) = match entry {
                ForwardTo::Server(target) => (vec![target.clone()], None),
                ForwardTo::ResolvConf(file) => (name_servers(file, warnings)?, Some(file)),
            };
            for target in found {
                if self.is_own(&target) {
                    let place = file.map_or("`forward_to`".into(), |file| file.display().to_string());
                    warnings.push(format!("{place} names {target}, which is this server; zonal does not use it"));
                } else if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            warnings.push(
                "the internet resolver has no servers: zonal answers SERVFAIL to names outside the manifest".into(),
            );
        }
        Ok(targets)
    }

    /// Whether a target is this server.
    fn is_own(&self, target: &Target) -> bool {
        // A socket can be bound to the machine's own addresses only.
        let is_local = || UdpSocket::bind((target.ip, 0)).is_ok();
        self.listen.iter().any(|own| {
            own.port() == target.port
                && (own.ip() == target.ip
                    || own.ip().is_unspecified() && own.is_ipv4() == target.ip.is_ipv4() && is_local())
        })
    }
}

/// The name servers in a file of the form of `resolv.conf`. A file that does not exist names none.
///
/// # Errors
///
/// The file exists, and cannot be read.
fn name_servers(file: &Path, warnings: &mut Vec<String>) -> io::Result<Vec<Target>> {
    let mut text = Vec::new();
    match fs::File::open(file).and_then(|file| file.take(MAX_FILE_OCTETS).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            warnings.push(format!("{} does not exist: it names no servers", file.display()));
            return Ok(Vec::new());
        }
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("{} cannot be read ({error})", file.display())));
        }
    }
    // Other lines, and errors in them, concern stub resolvers only.
    let (config, _) = resolv_conf::Config::parse_with_errors(&text);
    let mut targets = Vec::new();
    for server in config.nameservers {
        let ip = match server {
            resolv_conf::ScopedIp::V6(ip, Some(scope)) => {
                warnings
                    .push(format!("{} names {ip}%{scope}; zonal does not use link-local addresses", file.display()));
                continue;
            }
            server => IpAddr::from(server),
        };
        // The C library takes them in the same way.
        let ip = match ip {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        targets.push(Target { ip, port: 53, protocol: Protocol::Do53, server_name: None });
    }
    if targets.is_empty() {
        warnings.push(format!("{} names no servers", file.display()));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internet(text: &str, directory: &Path, listen: &[&str]) -> Internet {
        let path: Arc<Path> = directory.join("zonal.yaml").into();
        let config = Config::read(text.as_bytes(), &path).unwrap();
        Internet::new(&config, listen.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[test]
    fn follows_the_files() {
        let directory = std::env::temp_dir().join(format!("zonal-internet-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("resolv.conf");
        let text = "internet_resolver: {forward_to: [./resolv.conf, 'tls://192.0.2.9', '192.0.2.1']}";
        let mut internet = internet(text, &directory, &["127.0.0.1:53", "0.0.0.0:5353"]);
        assert_eq!(internet.files(), [directory.join("./resolv.conf")]);
        let no_route = internet.read().unwrap();
        assert_eq!(no_route.servers.to_string(), "192.0.2.9 port 853 by DoT or 192.0.2.1 port 53");
        assert_eq!((&*no_route.domain, &*no_route.rule), (&[0][..], ""));
        assert!(internet.warnings[0].contains("resolv.conf does not exist"), "{:?}", internet.warnings);
        for (text, expected) in [
            ("# nothing", ""),
            ("search example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions odd\n", "192.0.2.1, 2001:db8::1"),
            ("nameserver 127.0.0.1\nnameserver 0.0.0.0\nnameserver 127.0.0.2\n", "127.0.0.2"),
            ("nameserver\nnameserver none\nnameserver fe80::1%eth0\n\u{fffd}\nnameserver 192.0.2.2", "192.0.2.2"),
        ] {
            fs::write(&file, text).unwrap();
            let route = internet.read().unwrap();
            let Servers::Targets { targets, .. } = &route.servers else { panic!("{route:?}") };
            let ips: Vec<String> = targets.iter().take_while(|t| t.port == 53).map(|t| t.ip.to_string()).collect();
            assert_eq!(ips.join(", "), expected, "{text}");
            assert_eq!(route.id == no_route.id, expected.is_empty(), "{text}");
        }
        let last = internet.read().unwrap();
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(internet.read(), Some(last), "an unreadable file leaves the route as it was");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn leaves_out_this_server() {
        for (entry, listen, is_own) in [
            ("127.0.0.1", "127.0.0.1:53", true),
            ("127.0.0.1", "127.0.0.1:5300", false),
            ("'127.0.0.1:5300'", "127.0.0.1:5300", true),
            ("127.9.9.9", "0.0.0.0:53", true),
            ("192.0.2.1", "0.0.0.0:53", false),
            ("'::1'", "0.0.0.0:53", false),
        ] {
            let text = format!("internet_resolver: {{forward_to: [{entry}]}}");
            let mut internet = internet(&text, Path::new(""), &[listen]);
            let Servers::Targets { targets, .. } = &internet.read().unwrap().servers else { panic!("{entry}") };
            assert_eq!(targets.is_empty(), is_own, "{entry} {listen}");
            assert_eq!(internet.warnings.len(), 2 * usize::from(is_own), "{:?}", internet.warnings);
        }
        assert!(internet("internet_resolver: none", Path::new(""), &[]).read().is_none());
    }
}

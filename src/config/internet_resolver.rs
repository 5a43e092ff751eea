//! `internet_resolver`: the servers that answer for names outside the manifest.

use crate::{manifest::Protocol, snapshot::routes::Target, wire::Name};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The file with the default servers.
const SYSTEM_FILE: &str = "/etc/resolv.conf";

/// What `"."` RECURSIVE means on this node. Default: `forward_to: [/etc/resolv.conf]`.
#[derive(Clone, Debug, PartialEq)]
pub enum InternetResolver {
    /// No internet resolver: queries are REFUSED.
    None,
    /// These servers are asked.
    ForwardTo {
        /// The servers, and files that name servers.
        entries: Vec<ForwardTo>,
        /// Whether AD in their responses is passed on. If so, all of them are on loopback.
        trust_ad: bool,
    },
    /// The node asks the authoritative servers itself.
    Recursive(Recursion),
}

/// The settings of recursion: the node asks the authoritative servers itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recursion {
    /// Master file with the addresses of root servers. Default: those of IANA.
    pub root_hints: Option<PathBuf>,
    /// File with the trusted DNSKEY records. Default: those of the root zone.
    pub trust_anchor: Option<PathBuf>,
    /// Whether answers are validated. `dnssec_validation` of a VPC takes precedence.
    pub dnssec: Dnssec,
    /// Networks whose servers may be asked although they are not on the Internet. Servers with
    /// private, loopback and other special addresses are not asked otherwise.
    pub allow_servers: Vec<IpNet>,
    /// Names at and below which answers count as unsigned, each until a time.
    pub negative_trust_anchors: Vec<NegativeTrustAnchor>,
}

/// A name at and below which answers count as unsigned until a time (RFC 7646).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NegativeTrustAnchor {
    /// The name.
    pub name: Name,
    /// The end.
    pub until: jiff::Timestamp,
    /// The reason, for people.
    #[serde(default)]
    pub reason: String,
}

/// How zonal handles signed answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dnssec {
    /// It validates them.
    #[default]
    Validate,
    /// It passes them on.
    Off,
}

/// One entry of `forward_to`.
///
/// ```text
/// entry   = address [":" port] | scheme "://" address [":" port] ["/dns-query"] ["#" name] | path
/// address = an IPv4 address, or an IPv6 address; an IPv6 address is in brackets if there is a port or a scheme
/// scheme  = "udp" (port 53, and TCP for what is truncated) | "tls" (853) | "https" (443) | "quic" (853)
/// name    = the name that the server's certificate must have, also sent as SNI; without it, the address
/// path    = a file in the format of resolv.conf; the path contains a "/" or ends with ".conf"
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum ForwardTo {
    /// One server.
    Server(Target),
    /// The servers in a file in the format of `resolv.conf`. zonal reads the file again when it
    /// changes.
    ResolvConf(PathBuf),
}

/// The servers that the system's file names.
fn system_entries() -> Vec<ForwardTo> {
    vec![ForwardTo::ResolvConf(SYSTEM_FILE.into())]
}

impl Default for InternetResolver {
    fn default() -> InternetResolver {
        InternetResolver::ForwardTo { entries: system_entries(), trust_ad: false }
    }
}

impl InternetResolver {
    /// Whether the node asks the authoritative servers itself, and does not validate their answers.
    pub fn is_validation_off(&self) -> bool {
        matches!(self, InternetResolver::Recursive(recursion) if recursion.dnssec == Dnssec::Off)
    }

    /// Joins relative paths to the directory of the configuration file.
    pub(super) fn resolve_paths(&mut self, directory: &Path) {
        let paths: Vec<&mut PathBuf> = match self {
            InternetResolver::None => Vec::new(),
            InternetResolver::ForwardTo { entries, .. } => entries.iter_mut().filter_map(ForwardTo::path).collect(),
            InternetResolver::Recursive(recursion) => {
                recursion.root_hints.iter_mut().chain(&mut recursion.trust_anchor).collect()
            }
        };
        for path in paths {
            *path = directory.join(&*path);
        }
    }
}

impl ForwardTo {
    /// Whether the entry is a server on loopback, whose responses only this machine can change.
    pub(super) fn is_on_loopback(&self) -> bool {
        matches!(self, ForwardTo::Server(target) if target.ip.is_loopback())
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        match self {
            ForwardTo::ResolvConf(path) => Some(path),
            ForwardTo::Server(_) => None,
        }
    }
}

impl FromStr for ForwardTo {
    type Err = String;

    fn from_str(text: &str) -> Result<ForwardTo, String> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return server(scheme, rest).map(ForwardTo::Server);
        }
        match address(text, 53) {
            Some((ip, port)) => Ok(ForwardTo::Server(Target { ip, port, protocol: Protocol::Do53, server_name: None })),
            None if text.contains('/') || text.ends_with(".conf") => Ok(ForwardTo::ResolvConf(text.into())),
            None => Err("expected an address such as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53, a URL such as \
                         tls://192.0.2.1#dns.example, or the path of a resolv.conf file"
                .into()),
        }
    }
}

/// Parses the URL of a server: its scheme, and the rest.
fn server(scheme: &str, rest: &str) -> Result<Target, String> {
    let (protocol, port) = match scheme.to_ascii_lowercase().as_str() {
        "udp" => (Protocol::Do53, 53),
        "tls" => (Protocol::DoT, 853),
        "https" => (Protocol::DoH, 443),
        "quic" => (Protocol::DoQ, 853),
        _ => {
            return Err(format!("`{scheme}://` is not a known scheme (expected one of `udp`, `tls`, `https`, `quic`)"));
        }
    };
    let (rest, name) = match rest.split_once('#') {
        Some((rest, name)) => (rest, Some(name)),
        None => (rest, None),
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match (protocol, path) {
        (_, "") | (Protocol::DoH, "/dns-query") => {}
        (Protocol::DoH, _) => return Err(format!("the path of DoH must be `/dns-query`, not `{path}`")),
        _ => return Err(format!("`{scheme}://` takes no path: remove `{path}`")),
    }
    let Some((ip, port)) = address(host, port) else {
        return Err(format!(
            "`{host}` is not an address: write the server's address, and its name after `#`, as in \
             {scheme}://192.0.2.1#dns.example"
        ));
    };
    if let (Some(name), Protocol::Do53) = (name, protocol) {
        return Err(format!("`{scheme}://` has no certificate: remove the name `{name}`"));
    }
    if let Some(name) = name {
        let is_name = Name::absolute(name).is_ok_and(|parsed| !parsed.is_root()) && name.parse::<IpAddr>().is_err();
        if !is_name {
            return Err(format!("`{name}` is not the name of a server"));
        }
    }
    let server_name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    Ok(Target { ip, port, protocol, server_name })
}

/// Parses an address with an optional port; `port` is the default.
fn address(text: &str, port: u16) -> Option<(IpAddr, u16)> {
    if let Ok(ip) = text.parse() {
        return Some((ip, port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let has_scope = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
        return (address.port() != 0 && !has_scope).then_some((address.ip(), address.port()));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some((inner.parse::<Ipv6Addr>().ok()?.into(), port))
}

impl<'de> Deserialize<'de> for ForwardTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ForwardTo, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The map form of [`InternetResolver`].
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Map {
    forward_to: Option<Vec<ForwardTo>>,
    trust_ad: bool,
    recursive: bool,
    root_hints: Option<PathBuf>,
    trust_anchor: Option<PathBuf>,
    dnssec: Dnssec,
    allow_servers: Vec<IpNet>,
    negative_trust_anchors: Vec<NegativeTrustAnchor>,
}

impl<'de> Deserialize<'de> for InternetResolver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<InternetResolver, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = InternetResolver;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, or a map with `forward_to` or `recursive: true`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InternetResolver, E> {
                match text.eq_ignore_ascii_case("none") {
                    true => Ok(InternetResolver::None),
                    false => Err(E::unknown_variant(text, &["none"])),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<InternetResolver, A::Error> {
                let map = Map::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let trust_ad = map.trust_ad;
                Ok(match map.forward_to {
                    _ if map.recursive => InternetResolver::Recursive(Recursion {
                        root_hints: map.root_hints,
                        trust_anchor: map.trust_anchor,
                        dnssec: map.dnssec,
                        allow_servers: map.allow_servers,
                        negative_trust_anchors: map.negative_trust_anchors,
                    }),
                    Some(entries) => InternetResolver::ForwardTo { entries, trust_ad },
                    None => InternetResolver::ForwardTo { entries: system_entries(), trust_ad },
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for InternetResolver {
    fn schema_name() -> Cow<'static, str> {
        "InternetResolver".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "string", "enum": ["none"]},
            {"type": "object", "additionalProperties": false, "properties": {
                "forward_to": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "trust_ad": {"type": "boolean"},
                "recursive": {"type": "boolean"},
                "root_hints": {"type": "string"},
                "trust_anchor": {"type": "string"},
                "dnssec": {"type": "string", "enum": ["validate", "off"]},
                "allow_servers": {"type": "array", "items": {"type": "string"}},
                "negative_trust_anchors": {"type": "array", "items": {
                    "type": "object", "additionalProperties": false, "required": ["name", "until"],
                    "properties": {
                        "name": {"type": "string"},
                        "until": {"type": "string", "format": "date-time"},
                        "reason": {"type": "string"},
                    },
                }},
            }},
        ]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_servers_and_paths() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1 port 53"),
            ("192.0.2.1:5353", "192.0.2.1 port 5353"),
            ("2001:db8::1", "2001:db8::1 port 53"),
            ("[2001:db8::1]", "2001:db8::1 port 53"),
            ("[2001:db8::1]:5353", "2001:db8::1 port 5353"),
            ("udp://192.0.2.1", "192.0.2.1 port 53"),
            ("tls://192.0.2.1", "192.0.2.1 port 853 by DoT"),
            ("TLS://[2001:db8::1]:8853#DNS.example.", "2001:db8::1 port 8853 by DoT as dns.example"),
            ("https://192.0.2.1/dns-query#dns.example", "192.0.2.1 port 443 by DoH as dns.example"),
            ("https://192.0.2.1:8443", "192.0.2.1 port 8443 by DoH"),
            ("quic://192.0.2.1#dns.example", "192.0.2.1 port 853 by DoQ as dns.example"),
        ] {
            match text.parse() {
                Ok(ForwardTo::Server(target)) => assert_eq!(target.to_string(), expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for path in ["/etc/resolv.conf", "./servers", "resolv.conf", "etc/1.2.3.4"] {
            assert_eq!(path.parse(), Ok(ForwardTo::ResolvConf(path.into())), "{path}");
        }
    }

    #[test]
    fn rejects_malformed_entries() {
        for (text, expected) in [
            ("", "expected an address"),
            ("dns.example", "expected an address"),
            ("192.0.2.1:99999", "expected an address"),
            ("192.0.2.1:0", "expected an address"),
            ("[2001:db8::1", "expected an address"),
            ("fe80::1%2", "expected an address"),
            ("[fe80::1%2]:53", "expected an address"),
            ("tcp://192.0.2.1", "`tcp://` is not a known scheme"),
            ("tls://dns.example", "its name after `#`"),
            ("tls://", "its name after `#`"),
            ("tls://192.0.2.1/dns-query", "takes no path"),
            ("https://192.0.2.1/resolve", "the path of DoH must be `/dns-query`"),
            ("https://192.0.2.1/", "the path of DoH must be `/dns-query`"),
            ("udp://192.0.2.1#dns.example", "has no certificate"),
            ("tls://192.0.2.1#", "is not the name"),
            ("tls://192.0.2.1#192.0.2.1", "is not the name"),
        ] {
            let error = text.parse::<ForwardTo>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! Whether a manifest holds together: references, addresses, names. What single values look like is for reading to say,
//! and what the records of a zone mean is for its compilation.

mod endpoints;
mod networks;
mod overlap;
mod resolver;
#[cfg(test)]
mod tests;
mod zones;

use super::{
    Manifest, Problem, Resources,
    connectivity::{Connectivity, Network},
    decode::nearest,
};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

/// How many unknown references get a suggestion: each is compared with all that is known.
const MAX_SUGGESTIONS: usize = 100;

/// All that is wrong or odd between the resources of a manifest. `now` is in seconds since 1970.
pub fn check(manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Vec<Problem> {
    let mut checker = Checker { manifest, connectivity, now, problems: Vec::new(), suggestions: 0 };
    checker.networks();
    checker.overlaps();
    checker.services();
    checker.endpoints();
    checker.shifts();
    checker.zones();
    checker.resolver_endpoints();
    checker.rules();
    checker.forwarders();
    checker.problems
}

struct Checker<'a> {
    manifest: &'a Manifest,
    connectivity: &'a Connectivity,
    now: i64,
    problems: Vec<Problem>,
    suggestions: usize,
}

impl<'a> Checker<'a> {
    fn error(&mut self, kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::error(kind, id, field, message));
    }

    fn warning(&mut self, kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::warning(kind, id, field, message));
    }

    /// Adds what would be accepted to the last problem.
    fn help(&mut self, help: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some(help.into());
        }
    }

    /// Looks up what a field refers to; an error if it is not there.
    fn reference<T>(
        &mut self,
        (kind, id): (&'static str, &str),
        field: impl Into<String>,
        what: &str,
        target: &str,
        known: &'a Resources<T>,
    ) -> Option<&'a T> {
        if let Some(found) = known.get(target) {
            return Some(found);
        }
        self.unknown((kind, id), field, what, target, known.keys().map(String::as_str));
        None
    }

    fn unknown<'k>(
        &mut self,
        (kind, id): (&'static str, &str),
        field: impl Into<String>,
        what: &str,
        target: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        self.error(kind, id, field, format!("there is no {what} `{target}`"));
        self.suggestions += 1;
        if self.suggestions <= MAX_SUGGESTIONS
            && let Some(nearest) = nearest(target, known)
        {
            self.help(format!("did you mean `{nearest}`?"));
        }
    }

    /// Checks a list of VPCs: each is there, and once.
    fn vpc_list(&mut self, kind: &'static str, id: &str, vpc_ids: &[String]) {
        let mut seen = BTreeSet::new();
        for (at, vpc) in vpc_ids.iter().enumerate() {
            let field = format!("vpc_ids[{at}]");
            if !seen.insert(vpc) {
                self.warning(kind, id, field, format!("`{vpc}` is in the list already"));
            } else {
                self.reference((kind, id), field, "VPC", vpc, &self.manifest.vpcs);
            }
        }
    }

    /// The address ranges of a network.
    fn blocks(&self, network: &Network) -> &'a [IpNet] {
        match network {
            Network::Vpc(id) => self.manifest.vpcs.get(id).map_or(&[], |vpc| &vpc.cidr_blocks),
            Network::OnPremises(id) => self.manifest.on_premises_networks.get(id).map_or(&[], |net| &net.cidr_blocks),
        }
    }
}

fn contains(blocks: &[IpNet], address: IpAddr) -> bool {
    blocks.iter().any(|block| block.contains(&address))
}

fn covers(blocks: &[IpNet], net: &IpNet) -> bool {
    blocks.iter().any(|block| block.contains(net))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn list(blocks: &[IpNet]) -> String {
    blocks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

/// A label of letters, digits, `-` and `_`, of at most 63 octets.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Where something was seen first.
type Seen<K> = HashMap<K, (String, String)>;

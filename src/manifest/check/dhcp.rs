//! Checks of DHCP options: whether the clients of a VPC get zonal's addresses as name servers.

use super::Checker;
use crate::manifest::Vpc;
use std::net::IpAddr;

/// The word for the VPC's own resolver.
const AMAZON: &str = "AmazonProvidedDNS";

impl Checker<'_> {
    /// Checks the values of all DHCP options.
    pub(super) fn dhcp_options(&mut self) {
        const KIND: &str = "dhcp_options";
        let manifest = self.manifest;
        for (id, options) in &manifest.dhcp_options {
            for (at, server) in options.domain_name_servers.iter().enumerate() {
                if server != AMAZON && server.parse::<IpAddr>().is_err() {
                    let message = format!("expected an address or `{AMAZON}`, found `{server}`");
                    self.error(KIND, id, format!("domain_name_servers[{at}]"), message);
                }
            }
            if options.netbios_node_type.is_some_and(|number| !matches!(number, 1 | 2 | 4 | 8)) {
                self.error(KIND, id, "netbios_node_type", "expected 1, 2, 4 or 8 (RFC 2132, section 8.7)");
            }
        }
    }

    /// Checks the DHCP options of a VPC.
    pub(super) fn dhcp_options_of(&mut self, id: &str, vpc: &Vpc) {
        const KIND: &str = "vpcs";
        let manifest = self.manifest;
        // AWS's word for no options.
        let Some(options_id) = vpc.dhcp_options_id.as_ref().filter(|id| *id != "default") else { return };
        let field = "dhcp_options_id";
        let Some(options) = self.reference((KIND, id), field, "DHCP option set", options_id, &manifest.dhcp_options)
        else {
            return;
        };
        let inbound = manifest.resolver_endpoints.values().filter(|endpoint| endpoint.vpc_id == *id);
        let inbound = inbound.flat_map(|endpoint| &endpoint.ip_addresses).map(|address| address.ip);
        let entry_points: Vec<IpAddr> = vpc.resolver_addresses.iter().copied().chain(inbound).collect();
        for server in &options.domain_name_servers {
            let Ok(address) = server.parse::<IpAddr>() else { continue };
            if !entry_points.contains(&address) {
                let message = format!(
                    "the name server {address} of `{options_id}` is not an entry point of the VPC: its clients do not ask zonal"
                );
                self.warning(KIND, id, field, message);
                self.help(
                    "add the address to `resolver_addresses`, or write an entry point into `domain_name_servers`",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Manifest, check, connectivity::Connectivity};
    use serde_json::json;

    fn problems(servers: &[&str], set: &str) -> Vec<String> {
        let manifest: Manifest = serde_json::from_value(json!({
            "dhcp_options": {"dopt-1": {"domain_name_servers": servers, "netbios_node_type": 2}},
            "vpcs": {"vpc-a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"], "resolver_addresses": ["10.1.0.2"],
                               "dhcp_options_id": set}},
            "resolver_endpoints": {"rslvr-in-1": {"vpc_id": "vpc-a", "ip_addresses": [{"ip": "10.1.0.53"}]}},
        }))
        .unwrap();
        check::check(&manifest, &Connectivity::new(&manifest), 0)
            .iter()
            .map(|problem| problem.message.clone())
            .collect()
    }

    #[test]
    fn warns_of_name_servers_that_are_not_entry_points_of_the_vpc() {
        assert!(problems(&["10.1.0.2", "10.1.0.53"], "dopt-1").is_empty());
        assert!(problems(&["AmazonProvidedDNS"], "dopt-1").is_empty());
        assert!(problems(&["10.9.0.2"], "default").is_empty());
        let found = problems(&["10.1.0.2", "10.9.0.2"], "dopt-1");
        assert!(matches!(&found[..], [one] if one.contains("10.9.0.2 of `dopt-1` is not an entry point")), "{found:?}");
    }

    #[test]
    fn refuses_unknown_option_sets_and_servers_that_are_no_addresses() {
        let found = problems(&["10.1.0.2"], "dopt-2");
        assert!(found.contains(&"there is no DHCP option set `dopt-2`".to_string()), "{found:?}");
        let found = problems(&["ns.example"], "dopt-1");
        assert!(
            found.contains(&"expected an address or `AmazonProvidedDNS`, found `ns.example`".to_string()),
            "{found:?}"
        );
    }
}

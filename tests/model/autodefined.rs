//! The naive model of autodefined names.

use super::{
    names::{A, AAAA, Data, PTR, Rr, name, text, under},
    networks::{self, Net},
    oracle::{NXDOMAIN, Step, Who, World},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl World {
    /// Autodefined names, as far as their forms are written down: `at` is the apex of one of their zones.
    pub fn autodefined(&self, who: &Who, at: &[String], asked: &[String], qtype: u16) -> Option<Step> {
        let vpc = &self.manifest.vpcs[&who.vpc];
        let is_one = text(at).ends_with("internal.") || at == name("localhost") || at == name("10.in-addr.arpa");
        if !vpc.enable_dns_hostnames || !is_one {
            return None;
        }
        let own = Net::Vpc(who.vpc.clone());
        let named: Vec<_> = self
            .manifest
            .vpcs
            .iter()
            .filter(|(id, _)| networks::allows_names(&self.manifest, &own, &Net::Vpc((*id).clone())))
            .map(|(_, vpc)| vpc)
            .collect();
        let domain = |region: &str| match region {
            "us-east-1" => name("ec2.internal"),
            other => name(&format!("{other}.compute.internal")),
        };
        let holder = |address: IpAddr| named.iter().find(|vpc| vpc.cidr_blocks.iter().any(|b| b.contains(&address)));
        let localhost = name("localhost");
        let answer = |records: Vec<Rr>| match &records[..] {
            [] => Step::Autodefined(0),
            _ => Step::Records(records),
        };
        if at == localhost {
            // RFC 6761, 6.3: and whatever is below it.
            return Some(match qtype {
                A => answer(vec![Rr::new(asked, A, 60, Data::Address(Ipv4Addr::LOCALHOST.into()))]),
                AAAA => answer(vec![Rr::new(asked, AAAA, 60, Data::Address(Ipv6Addr::LOCALHOST.into()))]),
                _ => Step::Autodefined(0),
            });
        }
        if let Some(region) = named.iter().map(|vpc| &vpc.region).find(|region| domain(region) == at) {
            if asked == at {
                return Some(Step::Autodefined(0));
            }
            let address = (asked.len() == at.len() + 1).then(|| asked[0].strip_prefix("ip-")).flatten();
            let address = address.and_then(|dashed| dashed.replace('-', ".").parse::<Ipv4Addr>().ok());
            return Some(match address {
                Some(ip) if holder(ip.into()).is_some_and(|vpc| vpc.region == *region) => match qtype {
                    A => answer(vec![Rr::new(asked, A, 60, Data::Address(ip.into()))]),
                    _ => Step::Autodefined(0),
                },
                _ => Step::Autodefined(NXDOMAIN),
            });
        }
        if at != name("10.in-addr.arpa") {
            return None;
        }
        let octets: Option<Vec<u8>> = asked[..asked.len() - 2].iter().rev().map(|label| label.parse().ok()).collect();
        let Some(octets) = octets.filter(|octets| octets.len() <= 4) else { return Some(Step::Autodefined(NXDOMAIN)) };
        if asked == at {
            return Some(Step::Autodefined(0));
        }
        let mut low = [0; 4];
        let mut high = [255; 4];
        low[..octets.len()].copy_from_slice(&octets);
        high[..octets.len()].copy_from_slice(&octets);
        let (low, high) = (Ipv4Addr::from(low), Ipv4Addr::from(high));
        if octets.len() < 4 {
            let mut blocks = named.iter().flat_map(|vpc| &vpc.cidr_blocks);
            let overlaps = blocks.any(|block| match block {
                ipnet::IpNet::V4(block) => block.network() <= high && low <= block.broadcast(),
                ipnet::IpNet::V6(_) => false,
            });
            return Some(Step::Autodefined(if overlaps { 0 } else { NXDOMAIN }));
        }
        Some(match holder(low.into()) {
            Some(vpc) if qtype == PTR => {
                let label = format!("ip-{}", low.to_string().replace('.', "-"));
                answer(vec![Rr::new(asked, PTR, 60, Data::Name(under(&label, &domain(&vpc.region))))])
            }
            Some(_) => Step::Autodefined(0),
            None => Step::Autodefined(NXDOMAIN),
        })
    }
}

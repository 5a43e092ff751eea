//! The model of autodefined names.

use super::{
    names::{A, AAAA, Data, N, PTR, Rr, at_or_below, name, under},
    networks::{self, Net},
    oracle::{Layer, NXDOMAIN, Step, Who, World},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zonal::manifest::{ProfileSetting, Vpc};

/// The zones whose names are never forwarded, also in VPCs without autodefined names.
const SPECIAL_USE: [&str; 6] = ["invalid", "test", "onion", "alt", "home.arpa", "service.arpa"];

impl World {
    /// The VPCs whose addresses have autodefined names.
    fn named_vpcs(&self, who: &Who) -> Vec<&Vpc> {
        let own = Net::Vpc(who.vpc.clone());
        let vpcs = self.manifest.vpcs.iter();
        vpcs.filter(|(id, _)| networks::resolves_names_of(&self.manifest, &own, &Net::Vpc((*id).clone())))
            .map(|(_, vpc)| &**vpc)
            .collect()
    }

    /// Whether a VPC has reverse zones: by its own setting, or by the first of its Profiles with one.
    fn has_reverse(&self, who: &Who) -> bool {
        let of_profile = |layer: Layer| match layer {
            Layer::Own => None,
            Layer::Profile(profile) => match profile.autodefined_reverse {
                ProfileSetting::Enabled => Some(true),
                ProfileSetting::Disabled => Some(false),
                ProfileSetting::UseLocal => None,
            },
        };
        let own = self.manifest.vpcs[&who.vpc].autodefined_reverse;
        own.or_else(|| self.layers(who).into_iter().find_map(of_profile)).unwrap_or(true)
    }

    /// The autodefined zones of a view that can contain names of a world, or are above or below a name.
    pub fn autodefined_zones(&self, who: &Who, of: &[String]) -> Vec<N> {
        let mut zones: Vec<N> = SPECIAL_USE.iter().chain(&["localhost"]).map(|zone| name(zone)).collect();
        if !self.manifest.vpcs[&who.vpc].enable_dns_hostnames {
            return zones;
        }
        let has_reverse = self.has_reverse(who);
        if has_reverse {
            zones.push(name("10.in-addr.arpa"));
        }
        for vpc in self.named_vpcs(who) {
            zones.push(match &*vpc.region {
                "us-east-1" => name("ec2.internal"),
                other => name(&format!("{other}.compute.internal")),
            });
            let is_reverse = has_reverse && of.last().is_some_and(|top| top == "arpa");
            for block in vpc.cidr_blocks.iter().filter(|_| is_reverse) {
                // The block in pieces of whole octets, or half octets.
                let (step, len) =
                    if block.addr().is_ipv4() { (8, block.prefix_len()) } else { (4, block.prefix_len()) };
                let whole = len.div_ceil(step).max(1) * step;
                for piece in block.subnets(whole).unwrap() {
                    let labels: Vec<String> = match piece.network() {
                        IpAddr::V4(address) => address.octets().iter().map(u8::to_string).collect(),
                        IpAddr::V6(address) => {
                            format!("{:032x}", u128::from(address)).chars().map(String::from).collect()
                        }
                    };
                    let tree = name(if step == 8 { "in-addr.arpa" } else { "ip6.arpa" });
                    let mut labels = labels[..usize::from(whole / step)].to_vec();
                    labels.reverse();
                    zones.push([labels, tree].concat());
                }
            }
        }
        zones
    }

    /// The answer for an autodefined name of a documented form. `at` is the apex of an autodefined zone.
    pub fn autodefined(&self, who: &Who, at: &[String], asked: &[String], qtype: u16) -> Option<Step> {
        if SPECIAL_USE.iter().any(|zone| at == name(zone)) {
            return Some(Step::Autodefined(if asked == at { 0 } else { NXDOMAIN }));
        }
        if !self.autodefined_zones(who, at).iter().any(|zone| at == zone) {
            return None;
        }
        let named = self.named_vpcs(who);
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
            // RFC 6761, section 6.3: the same holds for all names below it.
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
        if !at_or_below(at, &name("in-addr.arpa")) {
            return Some(Step::Autodefined(if asked == at { 0 } else { NXDOMAIN }));
        }
        let octets: Option<Vec<u8>> = asked[..asked.len() - 2].iter().rev().map(|label| label.parse().ok()).collect();
        let Some(octets) = octets.filter(|octets| octets.len() <= 4) else { return Some(Step::Autodefined(NXDOMAIN)) };
        if asked == at && octets.len() < 4 {
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

//! The name servers that recursion learned, for the rules of DNS Firewall on name servers.
//!
//! hickory's recursor does not show its delegations. The connections see each referral, and store it here. zonal looks up
//! nothing for a rule: if recursion did not need the address of a name server, only its name is stored.

use super::filter::MAX_NAME_SERVERS;
use crate::answer::name_servers::NameServers;
use hickory_server::proto::{
    op::Message,
    rr::{Name, RData, Record},
    serialize::binary::BinEncodable,
};
use moka::{policy::EvictionPolicy, sync::Cache};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// Maximum number of zones. The recursors cache the servers of fewer zones.
const MAX_ZONES: u64 = 8_192;
/// Minimum number of labels of a zone. Rules do not concern the servers of the root and of top-level domains. BIND leaves these
/// servers out too (`min-ns-dots 1`).
const MIN_LABELS: usize = 2;
/// Maximum number of addresses that are stored from a referral before the filter. The addresses that recursion uses are
/// stored in addition.
const MAX_ADDRESSES: usize = 64;

/// The name servers of zones.
pub struct Delegations(Cache<Name, Arc<NameServers>>);

/// The name servers that a referral names, before it is filtered.
pub struct Referral {
    names: Vec<Box<[u8]>>,
    addresses: Vec<IpAddr>,
}

impl Referral {
    /// Reads the referral to a zone. None if it names no server.
    pub fn read(message: &Message, zone: &Name) -> Option<Referral> {
        let records = || message.answers.iter().chain(&message.authorities).filter(|record| record.name == *zone);
        let name = |record: &Record| match &record.data {
            RData::NS(server) => Some(server.0.to_lowercase()),
            _ => None,
        };
        // Recursion asks only these.
        let servers: Vec<Name> = records().filter_map(name).take(MAX_NAME_SERVERS).collect();
        let of_servers = message.additionals.iter().filter(|record| servers.contains(&record.name.to_lowercase()));
        let addresses = of_servers.filter_map(|record| record.data.ip_addr()).take(MAX_ADDRESSES).collect();
        let names: Vec<Box<[u8]>> = servers.iter().filter_map(|name| Some(name.to_bytes().ok()?.into())).collect();
        (!names.is_empty()).then_some(Referral { names, addresses })
    }

    /// Adds the addresses that recursion looked up to ask the servers.
    pub fn complete(&mut self, message: &Message) {
        self.addresses.extend(message.additionals.iter().filter_map(|record| record.data.ip_addr()));
    }
}

impl Delegations {
    /// An empty table. A zone is removed after `lifetime`: by then, the recursor has asked for its servers again.
    ///
    /// In a full table, a new zone replaces the zone that was not used for the longest time, as in the recursors. A table that
    /// prefers the most used zones would not take a new zone while clients ask for many others.
    pub fn new(lifetime: Duration) -> Delegations {
        let zones = Cache::builder().max_capacity(MAX_ZONES).time_to_live(lifetime);
        Delegations(zones.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Notes the name servers of a zone.
    pub fn note(&self, zone: &Name, referral: Referral) {
        if zone.iter().len() < MIN_LABELS {
            return;
        }
        let above = self.of(&zone.base_name());
        let servers = NameServers::new(referral.names, referral.addresses, above);
        self.0.insert(zone.to_lowercase(), Arc::new(servers));
    }

    /// The name servers of the zone of a name, and those of the zones above it. None if they are not known.
    pub fn of(&self, name: &Name) -> Option<Arc<NameServers>> {
        let mut zone = name.to_lowercase();
        while zone.iter().len() >= MIN_LABELS {
            if let Some(servers) = self.0.get(&zone) {
                return Some(servers);
            }
            zone = zone.base_name();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_server::proto::rr::rdata::{A, NS};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn a_name_has_the_servers_of_its_zone_and_of_the_zones_above() {
        let delegations = Delegations::new(Duration::from_secs(60));
        let note = |zone: &str, server: &str, address: [u8; 4]| {
            let mut message = Message::query();
            message.add_authority(Record::from_rdata(name(zone), 60, RData::NS(NS(name(server)))));
            message.add_authority(Record::from_rdata(name("else.test."), 60, RData::NS(NS(name("ns.else.test.")))));
            message.add_additional(Record::from_rdata(name(server), 60, RData::A(A(address.into()))));
            message.add_additional(Record::from_rdata(name("other.test."), 60, RData::A(A([9, 9, 9, 9].into()))));
            delegations.note(&name(zone), Referral::read(&message, &name(zone)).unwrap());
        };
        note("test.", "ns.test.", [192, 0, 2, 1]);
        note("Zone.test.", "NS.zone.test.", [192, 0, 2, 2]);
        note("sub.zone.test.", "ns.far.test.", [192, 0, 2, 3]);
        for (of, expected) in [
            ("other.test.", &[][..]),
            ("www.zone.TEST.", &[(&b"\x02ns\x04zone\x04test\0"[..], [192, 0, 2, 2])]),
            (
                "a.b.sub.zone.test.",
                &[(b"\x02ns\x03far\x04test\0", [192, 0, 2, 3]), (b"\x02ns\x04zone\x04test\0", [192, 0, 2, 2])],
            ),
        ] {
            let servers = delegations.of(&name(of));
            let levels: Vec<_> = servers.iter().flat_map(|servers| servers.levels()).collect();
            let got: Vec<_> = levels.iter().map(|level| (level.names.to_vec(), level.addresses.to_vec())).collect();
            let expected: Vec<_> = (expected.iter())
                .map(|(name, address)| (vec![Box::from(*name)], vec![IpAddr::from(*address)]))
                .collect();
            assert_eq!(got, expected, "{of}");
        }
    }

    #[test]
    fn a_referral_has_few_servers_whatever_the_message_has() {
        let mut message = Message::query();
        for n in 0..3000u32 {
            let server = name(&format!("ns{n}.zone.test."));
            message.add_authority(Record::from_rdata(name("zone.test."), 60, RData::NS(NS(server.clone()))));
            for address in [n, n | 1 << 31] {
                message.add_additional(Record::from_rdata(server.clone(), 60, RData::A(A(address.into()))));
            }
        }
        for n in 0..100u32 {
            message.add_additional(Record::from_rdata(name("ns0.zone.test."), 60, RData::A(A((9000 + n).into()))));
        }
        let referral = Referral::read(&message, &name("zone.test.")).unwrap();
        let expected: Vec<_> =
            (0..MAX_NAME_SERVERS).map(|n| name(&format!("ns{n}.zone.test.")).to_bytes().unwrap()).collect();
        assert_eq!(referral.names.iter().map(|name| name.to_vec()).collect::<Vec<_>>(), expected);
        assert_eq!(referral.addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_new_zone_is_noted_when_the_others_are_used_often() {
        let delegations = Delegations::new(Duration::from_secs(60));
        let note = |zone: &Name| {
            let referral = Referral { names: vec![(*b"\x02ns\x04test\0").into()], addresses: Vec::new() };
            delegations.note(zone, referral);
        };
        for n in 0..MAX_ZONES {
            note(&name(&format!("z{n}.test.")));
        }
        for _ in 0..4 {
            for n in 0..MAX_ZONES {
                delegations.of(&name(&format!("z{n}.test.")));
            }
            delegations.0.run_pending_tasks();
        }
        let new = name("new.test.");
        note(&new);
        delegations.0.run_pending_tasks();
        assert!(delegations.of(&new).is_some());
    }
}

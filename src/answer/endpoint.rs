//! Answers for the names of endpoints (docs/concepts/which-answer.md).

use super::{
    Locality, Moment,
    known::Known,
    resolve::{Outcome, Resolver},
    trace::{Stage, Trace},
    why,
};
use crate::{
    snapshot::endpoints::{Choice, Endpoint, EndpointName, Family, Interface, NameKind},
    wire::{
        codes::{flag, pointer, rcode},
        name::name_text,
        rdata::{rtype, type_to_text},
        reply::{Full, Section},
    },
};
use std::net::IpAddr;

/// The TTL of addresses and of CNAMEs, in seconds.
const TTL: u32 = 60;
/// The TTL of what the apex says of itself, and with it of "no such name": short, so that nobody holds on to that after
/// an endpoint was made.
const APEX_TTL: u32 = 5;
/// The numbers of the SOA record.
const SOA: [u32; 5] = [1, 7200, 900, 1_209_600, APEX_TTL];

impl<'s, K: Known, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Answers at or below a regional or zonal name, `skip` labels above the name in question.
    pub fn public_name(&mut self, name: &'s EndpointName, skip: usize, first: bool) -> Outcome<'s> {
        let endpoint = self.snapshot.endpoints.get(name.slot);
        self.trace.note(Stage::Cut, || {
            let id = endpoint.map_or("-", |endpoint| &endpoint.id);
            let what = if name.kind == NameKind::Regional { "regional" } else { "zonal" };
            format!("the {what} name of endpoint {id}, or one below it: public, every view has it")
        });
        self.endpoint_name(Some(name), skip == 0 || name.wildcard, skip, first)
    }

    /// Answers at or below a private name, `skip` labels above the name in question.
    pub fn private_name(
        &mut self,
        exact: Option<&'s EndpointName>,
        wildcard: Option<&'s EndpointName>,
        skip: usize,
        first: bool,
    ) -> Outcome<'s> {
        // `*.example` asked for literally is matched by itself, and is below the apex like any other.
        let name = if skip == 0 { exact } else { wildcard };
        match (name, skip) {
            (Some(name), _) => self.endpoint_name(Some(name), true, skip, first),
            (None, 0) => self.endpoint_name(None, true, skip, first), // the bare parent of a wildcard
            (None, _) => self.endpoint_name(None, false, skip, first),
        }
    }

    /// Answers at or below the apex that is `skip` labels above the name in question. Without `name` there is nothing
    /// but the apex's own records; `exists` says whether the name in question is one.
    fn endpoint_name(&mut self, name: Option<&'s EndpointName>, exists: bool, skip: usize, first: bool) -> Outcome<'s> {
        if first {
            self.reply.set(flag::AA);
        }
        let apex = self.suffix_at(skip);
        let written = self.write_endpoint_name(name, exists, skip, apex);
        written.unwrap_or_else(|Full| {
            self.reply.truncate();
            Outcome::Done(rcode::NOERROR)
        })
    }

    fn write_endpoint_name(
        &mut self,
        name: Option<&'s EndpointName>,
        exists: bool,
        skip: usize,
        apex: usize,
    ) -> Result<Outcome<'s>, Full> {
        if !exists {
            self.trace.note(Stage::Endpoint, || "nothing is below it: no such name".into());
            self.endpoint_soa(Section::Authority, apex)?;
            return Ok(Outcome::Done(rcode::NXDOMAIN));
        }
        let owner = pointer::to(self.name_at);
        if let Some(target) = name.and_then(|name| name.cname.as_ref())
            && (self.qtype != rtype::DS || skip > 0)
        {
            self.trace.note(Stage::Endpoint, || format!("a customer's service: a CNAME to {target}"));
            let data = self.reply.record(Section::Answer, owner, rtype::CNAME, TTL, &[target.as_wire()])?;
            return Ok(match self.qtype {
                rtype::CNAME | rtype::ANY => Outcome::Done(rcode::NOERROR),
                _ => Outcome::Next(data),
            });
        }
        let before = self.reply.count(Section::Answer);
        match self.qtype {
            rtype::SOA if skip == 0 => self.endpoint_soa(Section::Answer, apex)?,
            rtype::NS if skip == 0 => {
                let target = owner.to_be_bytes();
                self.reply.record(Section::Answer, owner, rtype::NS, APEX_TTL, &[&target])?;
            }
            rtype::A => self.addresses_of(name, Family::V4)?,
            rtype::AAAA => self.addresses_of(name, Family::V6)?,
            rtype::ANY => {
                self.addresses_of(name, Family::V4)?;
                if self.reply.count(Section::Answer) == before {
                    self.addresses_of(name, Family::V6)?;
                }
                if self.reply.count(Section::Answer) == before && skip == 0 {
                    self.endpoint_soa(Section::Answer, apex)?;
                }
            }
            _ => {}
        }
        if self.reply.count(Section::Answer) == before {
            let (snapshot, asked, qtype) = (self.snapshot, &*self.name, self.qtype);
            self.trace.note(Stage::Endpoint, || {
                let endpoint = name.and_then(|name| snapshot.endpoints.get(name.slot));
                let ip_type = match (endpoint, qtype) {
                    (Some(endpoint), rtype::A | rtype::AAAA) => {
                        let ip_type = endpoint.source.dns_options.dns_record_ip_type;
                        format!(" (dns_record_ip_type of {} is {ip_type})", endpoint.id)
                    }
                    _ => String::new(),
                };
                let (asked, qtype) = (name_text(asked.wire()), type_to_text(qtype));
                format!("{asked} exists, but without records of type {qtype}{ip_type}: no data")
            });
            self.endpoint_soa(Section::Authority, apex)?;
        }
        Ok(Outcome::Done(rcode::NOERROR))
    }

    fn endpoint_soa(&mut self, section: Section, apex: usize) -> Result<(), Full> {
        let pointer = pointer::to(apex).to_be_bytes();
        let mut contact = *b"\x0ahostmaster\0\0";
        contact[11..].copy_from_slice(&pointer);
        self.soa_record(section, apex, APEX_TTL, &contact, SOA)
    }

    /// The addresses of an endpoint under an alias. False if it has none of this type.
    pub fn alias_of_endpoint(&mut self, name: &'s EndpointName, skip: usize, qtype: u16) -> Result<bool, Full> {
        let before = self.reply.count(Section::Answer);
        let family = match qtype {
            rtype::A => Family::V4,
            rtype::AAAA => Family::V6,
            _ => return Ok(false),
        };
        if skip == 0 || name.wildcard {
            self.addresses_of(Some(name), family)?;
        }
        Ok(self.reply.count(Section::Answer) > before)
    }

    /// The addresses of an endpoint in the additional section, where `owner` and the name that `end` points to are their owner.
    pub fn addresses_of_endpoint(
        &mut self,
        name: &'s EndpointName,
        qtype: u16,
        owner: &[u8],
        end: u16,
    ) -> Result<(), Full> {
        let family = if qtype == rtype::A { Family::V4 } else { Family::V6 };
        let Some(endpoint) = self.snapshot.endpoints.get(name.slot).filter(|_| name.has(family)) else { return Ok(()) };
        let Moment { now, draw } = self.moment;
        let choice = endpoint.choose(family, name.kind, self.found.az, now, draw);
        let before = self.reply.mark();
        let written = choice.addresses(draw).try_for_each(|address| {
            self.reply.octets(owner)?;
            let written = match address {
                IpAddr::V4(a) => self.reply.record(Section::Additional, end, rtype::A, TTL, &[&a.octets()]),
                IpAddr::V6(a) => self.reply.record(Section::Additional, end, rtype::AAAA, TTL, &[&a.octets()]),
            };
            written.map(|_| ())
        });
        written.inspect_err(|Full| self.reply.back_to(before))
    }

    /// Writes the addresses that this client gets, under the name in question; those that fit, where not all do.
    fn addresses_of(&mut self, name: Option<&'s EndpointName>, family: Family) -> Result<(), Full> {
        let Some(name) = name.filter(|name| name.has(family)) else { return Ok(()) };
        let Some(endpoint) = self.snapshot.endpoints.get(name.slot) else { return Ok(()) };
        let Moment { now, draw } = self.moment;
        let choice = endpoint.choose(family, name.kind, self.found.az, now, draw);
        self.note_interfaces(endpoint, name, family, choice);
        let locality = match self.found.az {
            None => Locality::NoAz,
            Some(az) if choice.interfaces().all(|interface| interface.az == az) => Locality::SameAz,
            Some(_) => Locality::CrossAz,
        };
        let (before, owner) = (self.reply.count(Section::Answer), pointer::to(self.name_at));
        let written =
            choice.addresses(draw).try_for_each(|address| self.address_record(owner, TTL, address).map(|_| ()));
        if self.reply.count(Section::Answer) > before {
            self.locality = self.locality.max(Some(locality));
        }
        written
    }

    /// Costs nothing when nobody listens, as it makes nothing but closures.
    #[inline]
    fn note_interfaces(&mut self, endpoint: &'s Endpoint, name: &EndpointName, family: Family, choice: Choice<'s>) {
        let (snapshot, found, now) = (self.snapshot, &self.found, self.moment.now);
        if name.kind != NameKind::Private {
            self.trace.note(Stage::Endpoint, || why::reach(snapshot, found, endpoint));
        }
        self.trace.note(Stage::Endpoint, || why::interfaces(snapshot, found, name, endpoint, choice));
        self.trace.notes(Stage::Interface, || {
            let line =
                |interface: &Interface| why::interface(interface, family, snapshot.azs.id(interface.az), now, choice);
            endpoint.interfaces.iter().map(line).collect()
        });
    }
}

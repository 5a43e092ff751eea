//! Answers for the names of endpoints (docs/concepts/which-answer.md).

use super::{
    Locality, Moment, explanation,
    known::KnownAnswers,
    resolve::{Decision, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::endpoints::{Choice, Endpoint, EndpointName, Family, Interface, NameKind},
    wire::{
        codes::{pointer, rcode},
        name::name_text,
        rdata::{rtype, type_to_text},
        reply::{Full, Section},
    },
};
use std::net::IpAddr;

/// The TTL of address and CNAME records, in seconds.
const TTL: u32 = 60;
/// The TTL of SOA and NS records, and of negative answers, in seconds. It is short, so that clients soon see a new endpoint.
const APEX_TTL: u32 = 5;
/// The numbers of the SOA record: serial, refresh, retry, expire and minimum.
const SOA: [u32; 5] = [1, 7200, 900, 1_209_600, APEX_TTL];

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Answers from the regional or zonal name that is `skip` labels above the current name.
    pub fn public_name(&mut self, name: &'s EndpointName, skip: usize) -> Decision<'s> {
        let endpoint = self.context.snapshot.endpoints.get(name.slot);
        self.trace.note(Stage::Cut, || {
            let id = endpoint.map_or("-", |endpoint| &endpoint.id);
            let what = if name.kind == NameKind::Regional { "regional" } else { "zonal" };
            format!("the {what} name of endpoint {id}, or a name below it: every view has it")
        });
        self.endpoint_name(Some(name), skip == 0 || name.wildcard, skip)
    }

    /// Answers from the private name that is `skip` labels above the current name.
    pub fn private_name(
        &mut self,
        exact: Option<&'s EndpointName>,
        wildcard: Option<&'s EndpointName>,
        skip: usize,
    ) -> Decision<'s> {
        // A query for `*.example` itself is matched by the wildcard, like any name below the apex.
        let name = if skip == 0 { exact } else { wildcard };
        match (name, skip) {
            (Some(name), _) => self.endpoint_name(Some(name), true, skip),
            (None, 0) => self.endpoint_name(None, true, skip), // the bare parent of a wildcard
            (None, _) => self.endpoint_name(None, false, skip),
        }
    }

    /// Answers from the apex that is `skip` labels above the current name. `exists` says whether the current name exists.
    /// Without `name` it has only the records of an apex.
    fn endpoint_name(&mut self, name: Option<&'s EndpointName>, exists: bool, skip: usize) -> Decision<'s> {
        self.set_authoritative();
        let apex = self.suffix_at(skip);
        let written = self.write_endpoint_name(name, exists, skip, apex);
        written.unwrap_or_else(|Full| {
            self.reply.truncate();
            Decision::Answered(rcode::NOERROR)
        })
    }

    fn write_endpoint_name(
        &mut self,
        name: Option<&'s EndpointName>,
        exists: bool,
        skip: usize,
        apex: usize,
    ) -> Result<Decision<'s>, Full> {
        if !exists {
            self.trace.note(Stage::Endpoint, || "the endpoint has no names below it: NXDOMAIN".into());
            self.endpoint_soa(Section::Authority, apex)?;
            return Ok(Decision::Answered(rcode::NXDOMAIN));
        }
        let owner = pointer::to(self.name_at);
        if let Some(target) = name.and_then(|name| name.cname.as_ref())
            && (self.qtype != rtype::DS || skip > 0)
        {
            self.trace.note(Stage::Endpoint, || {
                format!("the service belongs to a customer: the answer is a CNAME to {target}")
            });
            let data = self.reply.record(Section::Answer, owner, rtype::CNAME, TTL, &[target.as_wire()])?;
            return Ok(match self.qtype {
                rtype::CNAME | rtype::ANY => Decision::Answered(rcode::NOERROR),
                _ => Decision::Target(data),
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
            let (snapshot, asked, qtype) = (self.context.snapshot, &*self.name, self.qtype);
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
                format!("{asked} exists, but has no records of type {qtype}{ip_type}: NODATA")
            });
            self.endpoint_soa(Section::Authority, apex)?;
        }
        Ok(Decision::Answered(rcode::NOERROR))
    }

    fn endpoint_soa(&mut self, section: Section, apex: usize) -> Result<(), Full> {
        let pointer = pointer::to(apex).to_be_bytes();
        let mut contact = *b"\x0ahostmaster\0\0";
        contact[11..].copy_from_slice(&pointer);
        self.soa_record(section, apex, APEX_TTL, &contact, SOA)
    }

    /// Writes the addresses of an endpoint under an alias. False if the endpoint has none of this type.
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

    /// Writes the addresses of an endpoint into the additional section. Their owner is `owner`, and behind it the name that
    /// `end` points to.
    pub fn addresses_of_endpoint(
        &mut self,
        name: &'s EndpointName,
        qtype: u16,
        owner: &[u8],
        end: u16,
    ) -> Result<(), Full> {
        let family = if qtype == rtype::A { Family::V4 } else { Family::V6 };
        let Some(endpoint) = self.context.snapshot.endpoints.get(name.slot).filter(|_| name.has(family)) else {
            return Ok(());
        };
        let Moment { now, draw } = self.context.moment;
        let choice = endpoint.choose(family, name.kind, self.context.matched.az, now, draw);
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

    /// Writes the addresses that this client gets, under the current name. If not all fit, it writes those that fit.
    fn addresses_of(&mut self, name: Option<&'s EndpointName>, family: Family) -> Result<(), Full> {
        let Some(name) = name.filter(|name| name.has(family)) else { return Ok(()) };
        let Some(endpoint) = self.context.snapshot.endpoints.get(name.slot) else { return Ok(()) };
        let Moment { now, draw } = self.context.moment;
        let choice = endpoint.choose(family, name.kind, self.context.matched.az, now, draw);
        self.note_interfaces(endpoint, name, family, choice);
        let locality = match self.context.matched.az {
            None => Locality::NoAz,
            Some(az) if choice.interfaces().all(|interface| interface.az == az) => Locality::SameAz,
            Some(_) => Locality::CrossAz,
        };
        let (before, owner) = (self.reply.count(Section::Answer), pointer::to(self.name_at));
        let written =
            choice.addresses(draw).try_for_each(|address| self.address_record(owner, TTL, address).map(|_| ()));
        if self.reply.count(Section::Answer) > before {
            self.summary.locality = self.summary.locality.max(Some(locality));
        }
        written
    }

    /// Tells the listener which interfaces answer.
    #[inline]
    fn note_interfaces(&mut self, endpoint: &'s Endpoint, name: &EndpointName, family: Family, choice: Choice<'s>) {
        let context = &self.context;
        if name.kind != NameKind::Private {
            self.trace.note(Stage::Endpoint, || explanation::reach(context, endpoint));
        }
        self.trace.note(Stage::Endpoint, || explanation::interfaces(context, name, endpoint, choice));
        self.trace.notes(Stage::Interface, || {
            let line = |interface: &Interface| explanation::interface(context, interface, family, choice);
            endpoint.interfaces.iter().map(line).collect()
        });
    }
}

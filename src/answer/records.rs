//! Records that zonal makes itself, and where names are in a reply.

use super::resolve::Resolver;
use crate::wire::{
    codes::pointer,
    query::HEADER,
    rdata::rtype,
    reply::{Full, Section, suffix_at},
};
use std::net::IpAddr;

impl<K, T> Resolver<'_, '_, '_, K, T> {
    /// The offset in the reply of the suffix that is left when `skip` labels are taken from the current name.
    #[inline]
    pub fn suffix_at(&self, skip: usize) -> usize {
        if self.name_at == HEADER {
            return HEADER + self.name.start(skip);
        }
        suffix_at(self.reply.written(), self.name_at, skip)
    }

    /// Writes an A or AAAA record.
    pub fn address_record(&mut self, owner: u16, ttl: u32, address: IpAddr) -> Result<(), Full> {
        let written = match address {
            IpAddr::V4(a) => self.reply.record(Section::Answer, owner, rtype::A, ttl, &[&a.octets()]),
            IpAddr::V6(a) => self.reply.record(Section::Answer, owner, rtype::AAAA, ttl, &[&a.octets()]),
        };
        written.map(|_| ())
    }

    /// Writes a SOA record. The name at the offset `apex` is its owner and its MNAME, `contact` its RNAME. `numbers` are serial,
    /// refresh, retry, expire and minimum.
    pub fn soa_record(
        &mut self,
        section: Section,
        apex: usize,
        ttl: u32,
        contact: &[u8],
        numbers: [u32; 5],
    ) -> Result<(), Full> {
        let owner = pointer::to(apex);
        let mut octets = [0; 20];
        for (at, number) in numbers.into_iter().enumerate() {
            octets[4 * at..4 * at + 4].copy_from_slice(&number.to_be_bytes());
        }
        self.reply.record(section, owner, rtype::SOA, ttl, &[&owner.to_be_bytes(), contact, &octets]).map(|_| ())
    }
}

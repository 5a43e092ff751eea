//! The tables of the operations that zonal serves, with the class of each parameter.

use super::{Context, Parameters, ReadResult, WriteResult, ec2, profiles, resolver, route53, sts, zonal_shift};
use crate::aws::model::Service;

/// An operation that zonal serves.
#[derive(Debug)]
pub struct Entry {
    /// The service.
    pub service: Service,
    /// The operation.
    pub name: &'static str,
    /// What does it.
    pub handler: Handler,
    /// The parameters that zonal serves: they change the manifest, or the result.
    pub served: &'static str,
    /// The parameters that zonal keeps and returns, without an effect on DNS.
    pub echoed: &'static str,
    /// The parameters that zonal refuses. A path goes through members and lists: `ChangeBatch.Changes.Action`.
    pub refused: &'static str,
}

/// What does an operation.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// It reads the manifest.
    Read(fn(&Context, Parameters) -> ReadResult),
    /// It changes the manifest.
    Write(fn(&Context, Parameters) -> WriteResult),
}

/// An operation that reads.
pub(super) const fn read(
    service: Service,
    name: &'static str,
    handler: fn(&Context, Parameters) -> ReadResult,
    served: &'static str,
) -> Entry {
    Entry { service, name, handler: Handler::Read(handler), served, echoed: "", refused: "" }
}

/// An operation that writes.
pub(super) const fn write(
    service: Service,
    name: &'static str,
    handler: fn(&Context, Parameters) -> WriteResult,
    served: &'static str,
) -> Entry {
    Entry { service, name, handler: Handler::Write(handler), served, echoed: "", refused: "" }
}

impl Entry {
    pub(super) const fn echoes(self, echoed: &'static str) -> Entry {
        Entry { echoed, ..self }
    }

    pub(super) const fn refuses(self, refused: &'static str) -> Entry {
        Entry { refused, ..self }
    }
}

/// The operations that zonal serves: the tables of each service, except EC2.
static TABLES: &[&[Entry]] = &[
    sts::TABLE,
    route53::TABLE,
    route53::authorizations::TABLE,
    route53::delegation_sets::TABLE,
    route53::features::TABLE,
    route53::geo_locations::TABLE,
    route53::health_checks::TABLE,
    route53::test_dns_answer::TABLE,
    resolver::endpoints::TABLE,
    resolver::rules::TABLE,
    resolver::query_logs::TABLE,
    resolver::settings::TABLE,
    resolver::policies::TABLE,
    resolver::tags::TABLE,
    resolver::firewall::TABLE,
    profiles::TABLE,
    zonal_shift::TABLE,
];

/// All operations that zonal serves.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    TABLES.iter().chain(ec2::TABLES).copied().flatten()
}

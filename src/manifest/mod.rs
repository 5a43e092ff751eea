//! The manifest, which describes what zonal serves: its types, how it is read from files and from
//! resources, and how it is checked.
//!
//! ```text
//! files     -> load        -> document -> decode -> types, master -> check
//! resources -> collection  -> document -> decode -> types, master -> check
//! ```
//!
//! An error in a text is a [`SyntaxError`](document::SyntaxError), an error in a value is a
//! [`ValueError`](decode::ValueError). Both become a [`Problem`], which also has the file, the
//! resource and the field. Checks report problems only.
//!
//! This room does not decide which answers follow from a manifest: that is the work of `snapshot`.
//! A resource that did not change between two manifests is the same `Arc` in both, so that every
//! later step can find the difference without a comparison.

pub mod aws_data;
pub mod catalog;
pub mod check;
pub mod cidr_collections;
pub mod collection;
pub mod connectivity;
pub mod decode;
pub mod digest;
pub mod document;
pub mod domain_lists;
pub mod firewall;
pub mod health_checks;
pub mod hosted_zones;
mod kinds;
pub mod load;
pub mod master;
pub mod overlay;
pub mod presets;
pub mod primaries;
pub mod problem;
pub mod profiles;
pub mod protection;
pub mod query_log;
pub mod record_file;
pub mod record_lints;
pub mod record_sets;
pub mod resources;
pub mod rewrite;
pub mod routing_policies;
pub(crate) mod schema_patterns;
pub mod secondaries;
pub mod transferred;
pub mod transit_gateways;
pub mod types;
pub(crate) mod words;
pub mod work;

pub use aws_data::{AwsData, DelegationSet, DhcpOptions, SecurityGroup, Tags, WithMetadata};
pub use cidr_collections::CidrCollection;
pub use firewall::{
    BlockResponse, ConfidenceThreshold, DnsThreatProtection, DomainSpecification, FirewallAction, FirewallDomainList,
    FirewallListFormat, FirewallListSource, FirewallRule, FirewallRuleGroup, FirewallRuleGroupAssociation, OnMissing,
    QueryType, RedirectionAction,
};
pub use health_checks::{HealthCheck, HealthCheckType, InterfaceHealthCheck, ProbeType, WhenStale};
pub use hosted_zones::{Alias, PrivateHostedZone, ResourceRecordSet};
pub use kinds::{KINDS, Resource, ResourceChange, kind_of};
pub use load::Loader;
pub use primaries::{Catalog, NotifySource, Primary};
pub use problem::{Location, Problem, Severity};
pub use profiles::{PlacedRuleGroup, Profile, ProfileAssociation, ProfileRuleGroup, ProfileSetting};
pub use query_log::{ClientAddress, LogDestination, LogFile, QueryLogConfig, Rcode, Stdout};
pub use record_sets::RecordSets;
pub use resources::{Change, Resources, changes, same_resources};
pub use secondaries::{Access, Secondary};
pub use transferred::Transferred;
pub use transit_gateways::{Attachment, TransitGateway};
pub use types::*;

use crate::wire::Name;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// A record of a master file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The owner name.
    pub owner: Name,
    /// The number of the record type.
    pub rtype: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// Record data in uncompressed wire format.
    pub rdata: Box<[u8]>,
    /// The file that the record is in, as an index into [`MasterFile::files`].
    pub file: u16,
    /// The line of the record's first token, from 1.
    pub line: u32,
}

/// The records of a zone's master file and of the files that it includes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MasterFile {
    /// The master file, and the files that it includes.
    pub files: Vec<Arc<Path>>,
    /// The records, in their order in the files. All are of class IN.
    pub records: Vec<Record>,
}

/// The records of a zone that has a `file`.
#[derive(Clone, Debug)]
pub enum ZoneData {
    /// Neither resource nor files changed since the last accepted load: the previous snapshot has
    /// this zone.
    Unchanged,
    /// The records, read from the files.
    Read(MasterFile),
}

/// A manifest, with the records of its zones that are not in the manifest itself.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The records of each zone that has a `file`.
    pub zone_data: BTreeMap<Id, ZoneData>,
    /// The records of zones that have `primaries`, as they were transferred.
    pub transferred: Transferred,
    /// The zones that catalogs list and zonal does not serve.
    pub omitted_members: Vec<catalog::OmittedMember>,
    /// The record sets that dynamic updates changed.
    pub overlays: overlay::Overlays,
    /// A digest of all resources and records. It is equal on two nodes that have equal data.
    pub digest: [u8; 32],
}

/// Shares equal resources between two manifests, as loading does.
#[cfg(test)]
pub(crate) fn share_unchanged(new: &mut Manifest, old: &Manifest) {
    for kind in KINDS {
        old.each_of(kind, None, |id, resource| {
            if new.resource(kind, id).as_ref() == Some(&resource) {
                new.put(id, resource);
            }
            true
        });
    }
}

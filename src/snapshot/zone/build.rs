//! Compiling a zone: collects its records, checks that they may be together, and lays them out in memory.

use super::{
    GROUP, Node, Serial, Zone,
    changes::{self, SetChange, Shape},
    groups::{MAX_MEMBERS, Policy, Rule},
    overridden::Overridden,
    resource_changes,
};
use crate::{
    manifest::{
        Id, Location, MasterFile, PrivateHostedZone, Problem, ResourceRecordSet, Severity, overlay::Overlay,
        transferred::Content, work,
    },
    snapshot::names::Numbering,
    wire::{
        Name,
        name::{labels, name_text},
        query::{LookupName, name_hash},
        rdata::{self, rtype},
    },
};
use std::{borrow::Cow, collections::HashSet, sync::Arc};

/// The kind of resource of all problems in this module.
const KIND: &str = "private_hosted_zones";
/// The TTL of SOA and NS records that zonal makes itself, in seconds.
const OWN_TTL: u32 = 60;
/// The TTL of record sets without `ttl`, in seconds.
pub(super) const DEFAULT_TTL: u32 = 300;
/// The largest size of a record set, in octets: a DNS message without header, question and OPT record.
pub(super) const MAX_SET_OCTETS: usize = u16::MAX as usize - 12 - 259 - 64;
/// The number of problems of a zone that are listed. The rest are only counted.
const MAX_PROBLEMS: usize = 100;
/// The largest number of record sets of a name. Each query for the name reads all of them.
const MAX_SETS: usize = 256;
/// The largest size of a zone in memory, in octets. Offsets in its block have 32 bits.
const MAX_ZONE_OCTETS: usize = 2 << 30;
/// The memory of a name beside its own octets: the heads of its node and of a set, in octets.
const NODE_OCTETS: usize = 32;
/// The memory of a label: the slot of an empty non-terminal in the table, in octets.
const LABEL_OCTETS: usize = 32;
/// The memory of a record beside its data: its head, and the offset of an additional node, in octets.
const VALUE_OCTETS: usize = 16;
/// The number of records from which a set has an index of its values.
const INDEXED_SET: usize = 16;

/// The origin of a record.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// The master file: number of the file, and line.
    File(u16, u32),
    /// `records[set].records[value]` of the manifest.
    Manifest(usize, usize),
    /// A primary.
    Transfer,
    /// zonal itself.
    Own,
    /// A dynamic update, or the zone as it was before an update.
    Update,
}

/// A record set while its zone is built.
pub(super) struct SetBuilder<'a> {
    pub rtype: u16,
    pub ttl: u32,
    pub values: Vec<Cow<'a, [u8]>>,
    pub alias: Option<usize>,
    pub origin: Origin,
    /// The size of the records in a message, in octets. Beyond [`MAX_SET_OCTETS`], more records are ignored.
    pub octets: usize,
    /// The values of a set with more than [`INDEXED_SET`] records.
    seen: HashSet<Cow<'a, [u8]>>,
}

/// A node while its zone is built.
/// A group of record sets that a routing policy chooses of.
pub(super) struct GroupBuilder<'a> {
    /// The node of its name.
    pub node: usize,
    pub policy: Policy,
    pub members: Vec<MemberBuilder<'a>>,
}

pub(super) struct MemberBuilder<'a> {
    pub identifier: Box<str>,
    /// Its records; none for an alias.
    pub records: SetBuilder<'a>,
    /// Its target, and whether the target's health counts.
    pub alias: Option<(Name, bool)>,
    pub rule: Rule,
    pub health_check: Option<Id>,
}

pub(super) struct NodeBuilder<'a> {
    /// The name with the apex, in lower case and wire format.
    pub name: Box<[u8]>,
    pub sets: Vec<SetBuilder<'a>>,
    pub flags: u8,
    pub wildcard: Option<usize>,
    pub occluder: Option<usize>,
}

/// A zone while it is built.
pub(super) struct Builder<'a> {
    pub(super) id: &'a str,
    source: &'a PrivateHostedZone,
    data: Option<&'a MasterFile>,
    content: Option<&'a Content>,
    pub(super) overlay: Option<&'a Overlay>,
    /// The record sets of the files that updates override.
    pub(super) overridden: Overridden<'a>,
    pub apex: Box<[u8]>,
    pub nodes: Vec<NodeBuilder<'a>>,
    by_name: Numbering,
    aliases: Vec<Name>,
    pub(super) groups: Vec<GroupBuilder<'a>>,
    problems: &'a mut Vec<Problem>,
    /// The number of problems, including those that are not listed.
    problem_count: usize,
    /// The last problem that is not listed.
    unlisted: Option<Problem>,
    pub failed: bool,
    /// A record was given twice.
    has_duplicates: bool,
    /// The size in memory so far, in octets. Beyond [`MAX_ZONE_OCTETS`], nothing more is built.
    octets: usize,
}

/// The input from which a zone is compiled.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Its identifier.
    pub id: &'a Id,
    /// Its resource.
    pub source: &'a Arc<PrivateHostedZone>,
    /// The records of its master file.
    pub data: Option<&'a MasterFile>,
    /// The records of a transferred zone.
    pub content: Option<&'a Arc<Content>>,
    /// The zone before the last update or transfer, or with an older version of its resource.
    pub base: Option<&'a Zone>,
    /// The record sets that dynamic updates have changed.
    pub overlay: Option<&'a Arc<Overlay>>,
    /// The reason why it has no records, so that it answers nothing; none if it has records.
    pub missing: Option<&'static str>,
    /// Its last serial, if it has one; and the first serial of a zone without one.
    pub serial: (Option<Serial>, u32),
}

impl<'a> Job<'a> {
    /// A zone that has only the records of its resource.
    pub fn new(id: &'a Id, source: &'a Arc<PrivateHostedZone>) -> Job<'a> {
        let (data, content, base, overlay, missing) = Default::default();
        Job { id, source, data, content, base, overlay, missing, serial: (None, 1) }
    }
}

/// Compiles a zone. None if it has an error. The serial is that of a zone that secondaries copy.
pub fn build(job: Job, problems: &mut Vec<Problem>) -> Option<(Zone, Option<Serial>)> {
    let (zone, is_numbered) = match job.base.and_then(|base| changed(&job, base)) {
        Some(zone) => (zone, job.source.needs_serial()),
        None => build_again(&job, problems)?,
    };
    let mut zone = zone;
    zone.protect(job.base);
    let (last, first) = job.serial;
    let serial = is_numbered.then(|| zone.set_next_serial(last.as_ref(), first));
    Some((zone, serial))
}

/// The zone with the changes of the last update, transfer or version of its resource. None if the zone has to be built again.
fn changed(job: &Job, base: &Zone) -> Option<Zone> {
    let of_resource;
    let sets = match (job.content, job.overlay) {
        (None, None) => {
            of_resource = resource_changes::between(base, job.source)?;
            of_resource.iter().map(SetChange::new).collect()
        }
        _ if !base.is_of(job.source) => return None,
        (Some(content), _) => changes::transferred(base.content.as_deref()?, content),
        (None, Some(overlay)) => changes::between(base.overlay.as_deref(), overlay)?,
    };
    base.after(job, &sets)
}

/// Compiles a zone from all of its records. Returns also whether secondaries copy it.
fn build_again(job: &Job, problems: &mut Vec<Problem>) -> Option<(Zone, bool)> {
    let Job { id, source, overlay, .. } = *job;
    // A transfer or another version of the resource has all records of the zone.
    let base = job.base.filter(|base| job.content.is_none() && base.is_of(source));
    let mut builder = Builder::new(job, problems);
    match base {
        None => {
            builder.add_master_file();
            builder.add_content();
            builder.add_record_sets();
        }
        Some(base) => {
            builder.add_zone(base);
            builder.add_groups();
        }
    }
    builder.warn_of_overridden_sets();
    builder.add_overlay();
    let has_made_soa = builder.complete_apex() || base.is_some_and(|base| base.has_made_soa);
    builder.check_sets();
    builder.link_nodes();
    builder.check_glue();
    builder.warn_of_unlisted_problems();
    if builder.failed {
        return None;
    }
    let is_plain = builder.problem_count == 0 && !builder.has_duplicates;
    let records = builder.nodes.iter().flat_map(|node| &node.sets).map(|set| set.values.len().max(1)).sum();
    let cuts = builder.cuts();
    let laid_out = builder.lay_out()?;
    let mut zone = Zone {
        id: id.clone(),
        source: source.clone(),
        apex_labels: labels(&builder.apex).count(),
        apex: builder.apex,
        fallthrough: source.fallthrough,
        records,
        missing: job.missing.map(Arc::from),
        overlay: overlay.cloned(),
        protected: None,
        content: job.content.cloned(),
        has_made_soa,
        has_empty_wildcards: laid_out.has_empty_wildcards,
        table: laid_out.table,
        block: laid_out.block,
        negative: laid_out.negative,
        aliases: builder.aliases.into(),
        groups: laid_out.groups,
        cuts: cuts.into(),
        digest: Default::default(),
        shape: None,
        changes: None,
    };
    let is_numbered = source.needs_serial() && zone.missing.is_none();
    if is_numbered {
        zone.digest = zone.content_digest();
    }
    // A zone that has changed once will change again.
    let is_to_change = job.base.is_some() || !source.allow_update.is_empty() || source.is_transferred();
    if is_to_change && !zone.has_groups() {
        zone.shape = Shape::new(&zone, is_plain).map(Arc::new);
    }
    Some((zone, is_numbered))
}

impl<'a> Builder<'a> {
    /// An empty zone with an apex.
    pub fn new(job: &Job<'a>, problems: &'a mut Vec<Problem>) -> Builder<'a> {
        let apex: Box<[u8]> = job.source.name.to_lowercase().as_wire().into();
        let mut builder = Builder {
            id: job.id,
            source: job.source,
            data: job.data,
            content: job.content.map(|content| &**content),
            overlay: job.overlay.map(|overlay| &**overlay),
            overridden: Overridden::new(),
            apex: apex.clone(),
            nodes: Vec::new(),
            by_name: Numbering::default(),
            aliases: Vec::new(),
            groups: Vec::new(),
            problems,
            problem_count: 0,
            unlisted: None,
            failed: false,
            has_duplicates: false,
            octets: 0,
        };
        builder.node(&apex);
        builder
    }

    fn problem(&mut self, severity: Severity, origin: Origin, message: String) -> &mut Problem {
        // The first error is listed, however many warnings come before it.
        let is_first_error = severity == Severity::Error && !self.failed;
        self.failed |= severity == Severity::Error;
        self.problem_count += 1;
        let whole = if self.source.is_transferred() { "primaries" } else { "file" };
        let has_content = self.content.is_some();
        let (field, place) = match (origin, self.data) {
            (Origin::Manifest(set, value), _) => (format!("records[{set}].records[{value}]"), None),
            (Origin::File(file, line), Some(data)) => {
                let file = data.files.get(file as usize).cloned();
                (whole.into(), file.map(|file| Location { file, line, column: 1, length: 1 }))
            }
            (Origin::File(..), None) => (whole.into(), None),
            (Origin::Transfer, _) => (whole.into(), None),
            (Origin::Own, data) if has_content || data.is_some() => (whole.into(), None),
            (Origin::Own, _) => (String::new(), None),
            (Origin::Update, _) => ("allow_update".into(), None),
        };
        let mut problem = Problem::error(KIND, self.id, field, message);
        problem.severity = severity;
        if matches!(origin, Origin::Update) {
            problem.help = Some(format!("a dynamic update made this record: see `zonal journal show {}`", self.id));
        }
        problem.location = place;
        if self.problem_count > MAX_PROBLEMS && !is_first_error {
            return self.unlisted.insert(problem);
        }
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    pub(super) fn error(&mut self, origin: Origin, message: String) -> &mut Problem {
        self.problem(Severity::Error, origin, message)
    }

    pub(super) fn warning(&mut self, origin: Origin, message: String) -> &mut Problem {
        self.problem(Severity::Warning, origin, message)
    }

    /// Warns if not all problems are listed.
    fn warn_of_unlisted_problems(&mut self) {
        if self.problem_count > MAX_PROBLEMS {
            let message = format!("the zone has {} problems; {MAX_PROBLEMS} of them are shown", self.problem_count);
            self.problems.push(Problem::warning(KIND, self.id, "", message));
        }
    }

    /// The number of the node of a name in lower case, if it has one.
    pub fn node_of(&self, name: &[u8], hash: u64) -> Option<usize> {
        let found = self.by_name.find(hash, |at| *self.nodes[at as usize].name == *name);
        found.map(|at| at as usize)
    }

    /// The node of a name in wire format and any case.
    pub fn named(&self, name: &[u8]) -> Option<usize> {
        let name = LookupName::new(name)?;
        self.node_of(name.wire(), name.hash(0))
    }

    /// The node of a name in lower case. It is made if the name has none.
    fn node(&mut self, name: &[u8]) -> usize {
        let hash = name_hash(name);
        if let Some(node) = self.node_of(name, hash) {
            return node;
        }
        let node = self.nodes.len();
        self.by_name.insert(hash, node as u32);
        self.octets += NODE_OCTETS + name.len() + LABEL_OCTETS * labels(name).count();
        self.nodes.push(NodeBuilder { name: name.into(), sets: Vec::new(), flags: 0, wildcard: None, occluder: None });
        node
    }

    fn add(&mut self, owner: &Name, rtype: u16, ttl: u32, value: Cow<'a, [u8]>, origin: Origin) {
        if !owner.is_at_or_below(&self.source.name) {
            let message = format!("{owner} is outside of the zone {}", self.source.name);
            self.error(origin, message);
            return;
        }
        work::count(1);
        if self.is_overlaid(owner, rtype, origin, Some((ttl, &value)))
            || !self.reserve(value.len() + VALUE_OCTETS, origin)
        {
            return;
        }
        let node = self.node(owner.to_lowercase().as_wire());
        let Some(set) = self.nodes[node].sets.iter_mut().find(|set| set.rtype == rtype) else {
            self.add_set(node, SetBuilder::new(rtype, ttl, value, origin));
            return;
        };
        if let Some(alias) = set.alias.filter(|_| !matches!(origin, Origin::Update)) {
            return self.refuse_values(owner, rtype, alias, origin);
        }
        let is_new = set.add(value);
        self.has_duplicates |= !is_new;
        if !is_new || set.ttl == ttl || rtype == rtype::RRSIG {
            return;
        }
        let message = format!(
            "the {} records of {owner} have different TTLs: all are served with {} (RFC 2181, 5.2)",
            rdata::type_to_text(rtype),
            set.ttl
        );
        self.warning(origin, message);
    }

    /// Counts memory. False if the zone is too large; the first time, that is an error.
    fn reserve(&mut self, octets: usize, origin: Origin) -> bool {
        let had_room = self.octets <= MAX_ZONE_OCTETS;
        self.octets += octets;
        let has_room = self.octets <= MAX_ZONE_OCTETS;
        if had_room && !has_room {
            let message = format!("the zone needs more than {} MiB of memory", MAX_ZONE_OCTETS >> 20);
            self.error(origin, message).help = Some("divide it into several zones".into());
        }
        has_room
    }

    /// Adds a set to a node. It is an error if the node has too many.
    fn add_set(&mut self, node: usize, set: SetBuilder<'a>) {
        let sets = &mut self.nodes[node].sets;
        if sets.len() < MAX_SETS {
            return sets.push(set);
        }
        let owner = name_text(&self.nodes[node].name);
        self.error(set.origin, format!("{owner} has more than {MAX_SETS} record sets"));
    }

    /// Adds the record sets that updates have changed.
    fn add_overlay(&mut self) {
        for set in self.overlay.into_iter().flat_map(Overlay::sets) {
            for value in &set.values {
                self.add(&set.owner, set.rtype, set.ttl, Cow::Borrowed(value), Origin::Update);
            }
        }
    }

    /// Adds a changed record set.
    pub fn add_changed(&mut self, set: &SetChange<'a>) {
        for value in &set.values {
            self.add(set.owner, set.rtype, set.ttl, Cow::Borrowed(value), Origin::Update);
        }
    }

    /// Adds all sets of a zone that updates have not changed. They were checked when that zone was built.
    fn add_zone(&mut self, zone: &Zone) {
        self.aliases = zone.aliases.to_vec();
        let overlay = self.overlay;
        for node in zone.nodes() {
            let owner = node.name();
            self.add_node(node, |rtype| overlay.is_some_and(|overlay| overlay.has(&owner, rtype)));
        }
    }

    /// Adds the sets of a node that have not changed.
    pub fn add_node(&mut self, node: Node, is_changed: impl Fn(u16) -> bool) {
        for set in node.sets().filter(|set| !is_changed(set.rtype()) && set.group().is_none()) {
            let values: Vec<Cow<[u8]>> = set.values().map(Cow::Owned).collect();
            work::count(values.len());
            let octets = values.iter().map(|value| value.len()).sum::<usize>() + 12 * values.len();
            if !self.reserve(octets + VALUE_OCTETS * values.len().max(1), Origin::Update) {
                return;
            }
            let at = self.node(&[node.relative(), &self.apex].concat());
            let (alias, ttl) = (set.alias(), if values.is_empty() { 0 } else { set.ttl() });
            let new = SetBuilder::new(set.rtype(), ttl, Cow::default(), Origin::Update);
            self.add_set(at, SetBuilder { values, octets, alias, ..new });
        }
    }

    fn add_master_file(&mut self) {
        let Some(data) = self.data else { return };
        for record in &data.records {
            let origin = Origin::File(record.file, record.line);
            self.add(&record.owner, record.rtype, record.ttl, Cow::Borrowed(&record.rdata), origin);
        }
    }

    /// Adds the record sets with a routing policy alone.
    fn add_groups(&mut self) {
        let source = self.source;
        for (at, set) in source.records.iter().enumerate().filter(|(_, set)| set.set_identifier.is_some()) {
            let owner = Name::parse(set.name.as_bytes(), Some(&source.name));
            let (Ok(owner), Some(rtype), Some(rule)) = (owner, rdata::type_from_text(&set.record_type), Rule::of(set))
            else {
                continue;
            };
            self.add_member(at, &owner, rtype, set, rule);
        }
    }

    fn add_content(&mut self) {
        for (owner, rtype, values) in self.content.into_iter().flat_map(Content::sets) {
            for (ttl, value) in values.iter() {
                self.add(owner, rtype, ttl, Cow::Borrowed(value), Origin::Transfer);
            }
        }
    }

    fn add_record_sets(&mut self) {
        let source = self.source;
        for (at, set) in source.records.iter().enumerate() {
            let owner = match Name::parse(set.name.as_bytes(), Some(&source.name)) {
                Ok(owner) => owner,
                Err(error) => {
                    self.field_error(format!("records[{at}].name"), format!("`{}`: {error}", set.name));
                    continue;
                }
            };
            let Some(rtype) = rdata::type_from_text(&set.record_type).filter(|rtype| is_data(*rtype)) else {
                let message = format!("`{}` is not a record type", set.record_type);
                self.field_error(format!("records[{at}].type"), message);
                continue;
            };
            if let Some(rule) = set.set_identifier.as_ref().and_then(|_| Rule::of(set)) {
                self.add_member(at, &owner, rtype, set, rule);
                continue;
            }
            if let Some(alias) = &set.alias {
                self.add_alias(at, &owner, rtype, &alias.name);
                continue;
            }
            for (number, value) in set.records.iter().enumerate() {
                match rdata::parse_text(rtype, value, &Name::root()) {
                    Ok(rdata) => {
                        let ttl = set.ttl.unwrap_or(DEFAULT_TTL);
                        self.add(&owner, rtype, ttl, Cow::Owned(rdata.into()), Origin::Manifest(at, number));
                    }
                    Err(error) => {
                        self.error(Origin::Manifest(at, number), format!("`{value}`: {error}"));
                    }
                }
            }
        }
    }

    fn field_error(&mut self, field: String, message: String) {
        self.error(Origin::Own, message).field = field;
    }

    /// Adds a record set that a routing policy chooses or not.
    fn add_member(&mut self, at: usize, owner: &Name, rtype: u16, set: &'a ResourceRecordSet, rule: Rule) {
        let error =
            |this: &mut Self, message: String| this.field_error(format!("records[{at}].set_identifier"), message);
        if !owner.is_at_or_below(&self.source.name) {
            let message = format!("{owner} is outside of the zone {}", self.source.name);
            return self.field_error(format!("records[{at}].name"), message);
        }
        if matches!(rtype, rtype::SOA | rtype::NS | rtype::DS | rtype::DNAME) {
            return error(self, format!("a routing policy is not possible for {} records", rdata::type_to_text(rtype)));
        }
        let identifier = set.set_identifier.as_deref().unwrap_or_default();
        let origin = Origin::Manifest(at, 0);
        let mut values = Vec::new();
        for (number, value) in set.records.iter().enumerate() {
            match rdata::parse_text(rtype, value, &Name::root()) {
                Ok(rdata) => values.push(Cow::Owned(Vec::from(rdata))),
                Err(message) => {
                    self.error(Origin::Manifest(at, number), format!("`{value}`: {message}"));
                    return;
                }
            }
        }
        if rtype == rtype::CNAME && values.len() != 1 {
            return error(self, "a record set of type CNAME has exactly one record".into());
        }
        let octets = values.iter().map(|value: &Cow<[u8]>| value.len() + 12).sum::<usize>();
        if octets > MAX_SET_OCTETS {
            return error(self, "the records are too large for a DNS message".into());
        }
        if !self.reserve(octets + NODE_OCTETS + identifier.len(), origin) {
            return;
        }
        let node = self.node(owner.to_lowercase().as_wire());
        let existing = self.nodes[node].sets.iter().find(|set| set.rtype == rtype).map(|set| set.alias);
        let group = match existing {
            Some(Some(number)) if number & GROUP != 0 => number & !GROUP,
            Some(_) => {
                let rtype = rdata::type_to_text(rtype);
                return error(self, format!("{owner} has {rtype} records without a set_identifier"));
            }
            None => {
                let alias = Some(GROUP | self.groups.len());
                self.groups.push(GroupBuilder { node, policy: rule.policy(), members: Vec::new() });
                let new = SetBuilder::new(rtype, 0, Cow::default(), origin);
                self.add_set(node, SetBuilder { alias, values: Vec::new(), ..new });
                self.groups.len() - 1
            }
        };
        let GroupBuilder { policy, members, .. } = &self.groups[group];
        let (policy, count) = (*policy, members.len());
        if policy != rule.policy() {
            let message =
                format!("{owner} has {} records with {} routing already", rdata::type_to_text(rtype), policy.word());
            return error(self, message);
        }
        if members.iter().any(|member| &*member.identifier == identifier) {
            return error(
                self,
                format!("`{identifier}` is the identifier of another record set with this name and type"),
            );
        }
        if count >= MAX_MEMBERS {
            return error(self, format!("there are more than {MAX_MEMBERS} record sets with this name and type"));
        }
        let ttl = set.ttl.unwrap_or(DEFAULT_TTL);
        let records = SetBuilder { values, octets, ..SetBuilder::new(rtype, ttl, Cow::default(), origin) };
        let alias = set.alias.as_ref().map(|alias| (alias.name.clone(), alias.evaluate_target_health));
        let health_check = set.health_check_id.clone();
        let member = MemberBuilder { identifier: identifier.into(), records, alias, rule, health_check };
        self.groups[group].members.push(member);
    }

    fn add_alias(&mut self, at: usize, owner: &Name, rtype: u16, target: &Name) {
        if !owner.is_at_or_below(&self.source.name) {
            let message = format!("{owner} is outside of the zone {}", self.source.name);
            return self.field_error(format!("records[{at}].name"), message);
        }
        let origin = Origin::Manifest(at, 0);
        if self.is_overlaid(owner, rtype, origin, None) {
            return;
        }
        let node = self.named(owner.as_wire()).map(|at| &self.nodes[at]);
        if node.is_some_and(|node| node.sets.iter().any(|set| set.rtype == rtype)) {
            let message = format!("{owner} has {} records already", rdata::type_to_text(rtype));
            return self.field_error(format!("records[{at}].alias"), message);
        }
        self.add_alias_set(owner, rtype, target, origin);
    }

    fn add_alias_set(&mut self, owner: &Name, rtype: u16, target: &Name, origin: Origin) {
        if !self.reserve(target.as_wire().len() + VALUE_OCTETS, origin) {
            return;
        }
        let node = self.node(owner.to_lowercase().as_wire());
        let alias = Some(self.aliases.len());
        self.aliases.push(target.clone());
        self.add_set(
            node,
            SetBuilder { alias, values: Vec::new(), ..SetBuilder::new(rtype, 0, Cow::default(), origin) },
        );
    }

    /// Adds SOA and NS records to an apex without them (docs/reference/manifest.md, `private_hosted_zones`). Returns whether it
    /// added a SOA record.
    fn complete_apex(&mut self) -> bool {
        let lacks_soa = !self.nodes[0].sets.iter().any(|set| set.rtype == rtype::SOA);
        let has = |this: &Self, rtype| this.nodes[0].sets.iter().any(|set| set.rtype == rtype);
        let zone = self.source.name.clone();
        let what = if self.source.is_transferred() { "transferred zone" } else { "master file" };
        let has_records = self.data.is_some() || self.content.is_some();
        if !has(self, rtype::SOA) {
            if has_records {
                self.error(Origin::Own, format!("the {what} has no SOA record at {zone}")).help =
                    Some("add a line such as `@ SOA ns hostmaster 1 7200 900 1209600 60`".into());
            } else if let (Ok(ns), Ok(hostmaster)) = (zone.child(b"ns"), zone.child(b"hostmaster")) {
                let numbers = [1u32, 7200, 900, 1_209_600, 60].map(u32::to_be_bytes).concat();
                let value = [ns.as_wire(), hostmaster.as_wire(), &numbers].concat();
                self.add(&zone, rtype::SOA, OWN_TTL, Cow::Owned(value), Origin::Own);
            } else {
                self.error(Origin::Own, "the zone's name is too long for a name below it".into());
            }
        }
        if !has(self, rtype::NS) {
            if has_records {
                self.warning(
                    Origin::Own,
                    format!("the {what} has no NS record at {zone}: zonal answers with ns.{zone}"),
                );
            }
            if let Ok(ns) = zone.child(b"ns") {
                self.add(&zone, rtype::NS, OWN_TTL, Cow::Owned(ns.as_wire().to_vec()), Origin::Own);
            }
        }
        lacks_soa
    }
}

impl<'a> SetBuilder<'a> {
    fn new(rtype: u16, ttl: u32, value: Cow<'a, [u8]>, origin: Origin) -> SetBuilder<'a> {
        let octets = 12 + value.len();
        SetBuilder { rtype, ttl, values: vec![value], alias: None, origin, octets, seen: HashSet::new() }
    }

    /// Adds a record. False if the set has it already (RFC 2181, 5) or is too large.
    fn add(&mut self, value: Cow<'a, [u8]>) -> bool {
        if self.octets > MAX_SET_OCTETS {
            return false;
        }
        if self.values.len() == INDEXED_SET {
            self.seen.extend(self.values.iter().cloned());
        }
        let is_new = match self.values.len() < INDEXED_SET {
            true => !self.values.contains(&value),
            false => self.seen.insert(value.clone()),
        };
        if is_new {
            self.octets += 12 + value.len();
            self.values.push(value);
        }
        is_new
    }
}

/// Whether a zone may have records of a type: not those of query types and pseudo-records.
fn is_data(rtype: u16) -> bool {
    !matches!(rtype, 0 | rtype::OPT | 128..=255)
}

/// Whether a name in wire format is at or below another one, in any case.
pub(super) fn ends_with(name: &[u8], other: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > other.len() {
        rest = &rest[1 + rest[0] as usize..];
    }
    rest.eq_ignore_ascii_case(other)
}

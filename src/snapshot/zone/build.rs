//! Compiles a zone: checks that its records go together, and lays them out.

use super::{
    Node, Serial, Zone,
    changes::{self, SetChange, Shape},
    node_flag,
    overridden::Overridden,
};
use crate::{
    manifest::{
        Id, MasterFile, Place, PrivateHostedZone, Problem, Severity, overlay::Overlay, transferred::Content, work,
    },
    snapshot::names::Numbering,
    wire::{
        Name,
        name::{labels, printed},
        query::{LookupName, name_hash},
        rdata::{self, rtype},
    },
};
use std::{borrow::Cow, collections::HashSet, sync::Arc};

/// The kind of all problems here.
const KIND: &str = "private_hosted_zones";
/// The TTL of SOA and NS records that we make ourselves, in seconds.
const OWN_TTL: u32 = 60;
/// The TTL of record sets that name none, in seconds.
const DEFAULT_TTL: u32 = 300;
/// The most that a record set may fill, in octets: a DNS message less header, question and OPT record.
const MOST: usize = u16::MAX as usize - 12 - 259 - 64;
/// How many problems of a zone are told one by one.
const MAX_PROBLEMS: usize = 100;
/// How many record sets a name may have: each query for the name looks through them.
const MAX_SETS: usize = 256;
/// How much memory a zone may take when it is built, in octets. Places in its block are numbers of 32 bits.
const MAX_ZONE_OCTETS: usize = 2 << 30;
/// What a name takes beside its octets, at most: the heads of its node and of a set.
const NODE_OCTETS: usize = 32;
/// What each of its labels takes, at most: the place of an empty non-terminal in the table.
const LABEL_OCTETS: usize = 32;
/// What a record takes beside its data, at most: its head, and the place of an additional node.
const VALUE_OCTETS: usize = 16;
/// A set with more records than this has an index.
const SMALL_SET: usize = 16;

/// Where a record comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// The master file: file and line.
    File(u16, u32),
    /// `records[set].records[value]` of the manifest.
    Manifest(usize, usize),
    /// A primary.
    Transfer,
    /// We made it ourselves.
    Own,
    /// An update has made it; or it was in the zone before an update.
    Update,
}

pub(super) struct SetBuilder<'a> {
    pub rtype: u16,
    pub ttl: u32,
    pub values: Vec<Cow<'a, [u8]>>,
    pub alias: Option<usize>,
    pub origin: Origin,
    /// What the records fill in a message. When it is more than [`MOST`], no more are taken.
    octets: usize,
    /// The values of a set with many of them.
    seen: HashSet<Cow<'a, [u8]>>,
}

pub(super) struct NodeBuilder<'a> {
    /// In lower case, the apex included.
    pub name: Box<[u8]>,
    pub sets: Vec<SetBuilder<'a>>,
    pub flags: u8,
    pub wildcard: Option<usize>,
    pub occluder: Option<usize>,
}

pub(super) struct Builder<'a> {
    pub(super) id: &'a str,
    source: &'a PrivateHostedZone,
    data: Option<&'a MasterFile>,
    content: Option<&'a Content>,
    pub(super) overlay: Option<&'a Overlay>,
    /// What of the files updates have made something else of.
    pub(super) overridden: Overridden<'a>,
    pub apex: Box<[u8]>,
    pub nodes: Vec<NodeBuilder<'a>>,
    by_name: Numbering,
    aliases: Vec<Name>,
    problems: &'a mut Vec<Problem>,
    /// How many problems there are; from [`MAX_PROBLEMS`] on they are only counted.
    told: usize,
    untold: Option<Problem>,
    pub failed: bool,
    /// What has been built takes this much memory, in octets: when it is more than may be, nothing more is built.
    octets: usize,
}

/// What a zone is compiled from.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Its identifier.
    pub id: &'a Id,
    /// Its resource.
    pub source: &'a Arc<PrivateHostedZone>,
    /// The records of its master file.
    pub data: Option<&'a MasterFile>,
    /// The records of a zone that is transferred.
    pub content: Option<&'a Arc<Content>>,
    /// The zone as it was before the last update or transfer: all but that is unchanged.
    pub base: Option<&'a Zone>,
    /// What updates have made of it.
    pub overlay: Option<&'a Arc<Overlay>>,
    /// Why its records are not there, if they are not: it is not answered from.
    pub missing: Option<&'static str>,
    /// The serial that it had, if it had one that counts, and else the first one.
    pub serial: (Option<Serial>, u32),
}

impl<'a> Job<'a> {
    /// Compiles a zone that has no records but those of its resource.
    pub fn new(id: &'a Id, source: &'a Arc<PrivateHostedZone>) -> Job<'a> {
        let (data, content, base, overlay, missing) = Default::default();
        Job { id, source, data, content, base, overlay, missing, serial: (None, 1) }
    }
}

/// Compiles a zone. None if there is an error in it. With it comes its serial, if that counts.
pub fn build(job: Job, problems: &mut Vec<Problem>) -> Option<(Zone, Option<Serial>)> {
    let (zone, is_numbered) = match job.base.and_then(|base| changed(&job, base)) {
        Some(zone) => (zone, job.source.is_numbered()),
        None => build_anew(&job, problems)?,
    };
    let mut zone = zone;
    let (last, first) = job.serial;
    let serial = is_numbered.then(|| zone.count_on(last.as_ref(), first));
    Some((zone, serial))
}

/// The zone as updates or transfers have changed it since it was built. None if that has to be found out by building it anew.
fn changed(job: &Job, base: &Zone) -> Option<Zone> {
    if !base.is_of(job.source) {
        return None;
    }
    let sets = match job.content {
        Some(content) => changes::transferred(base.content.as_deref()?, content),
        None => changes::between(base.overlay.as_deref(), job.overlay?)?,
    };
    base.after(job, &sets)
}

/// Compiles a zone from all that it holds. Says whether its serial counts.
fn build_anew(job: &Job, problems: &mut Vec<Problem>) -> Option<(Zone, bool)> {
    let Job { id, source, overlay, .. } = *job;
    // What is transferred is all that the zone has.
    let base = job.base.filter(|_| job.content.is_none());
    let mut builder = Builder::new(job, problems);
    match base {
        None => {
            builder.add_master_file();
            builder.add_content();
            builder.add_record_sets();
        }
        Some(base) => builder.add_zone(base),
    }
    builder.tell_overridden();
    builder.add_overlay();
    let has_made_soa = builder.complete_apex() || base.is_some_and(|base| base.has_made_soa);
    builder.check_sets();
    builder.relate();
    builder.check_glue();
    builder.tell_more();
    if builder.failed {
        return None;
    }
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
        content: job.content.cloned(),
        has_made_soa,
        has_empty_wildcards: laid_out.has_empty_wildcards,
        table: laid_out.table,
        block: laid_out.block,
        negative: laid_out.negative,
        aliases: builder.aliases.into(),
        cuts: cuts.into(),
        digest: Default::default(),
        shape: None,
        changes: None,
    };
    let is_numbered = source.is_numbered() && zone.missing.is_none();
    if is_numbered {
        zone.digest = zone.content_digest();
    }
    if !source.allow_update.is_empty() || source.is_transferred() {
        zone.shape = Shape::new(&zone).map(Arc::new);
    }
    Some((zone, is_numbered))
}

impl<'a> Builder<'a> {
    /// A zone of which nothing is known yet but that it has an apex.
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
            problems,
            told: 0,
            untold: None,
            failed: false,
            octets: 0,
        };
        builder.node(&apex);
        builder
    }

    fn problem(&mut self, severity: Severity, origin: Origin, message: String) -> &mut Problem {
        // An error is told, however many warnings came before.
        let is_first_error = severity == Severity::Error && !self.failed;
        self.failed |= severity == Severity::Error;
        self.told += 1;
        let whole = if self.source.is_transferred() { "primaries" } else { "file" };
        let has_content = self.content.is_some();
        let (field, place) = match (origin, self.data) {
            (Origin::Manifest(set, value), _) => (format!("records[{set}].records[{value}]"), None),
            (Origin::File(file, line), Some(data)) => {
                let file = data.files.get(file as usize).cloned();
                (whole.into(), file.map(|file| Place { file, line, column: 1, length: 1 }))
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
            problem.help = Some(format!("a dynamic update has made it: `zonal journal show {}`", self.id));
        }
        problem.place = place;
        if self.told > MAX_PROBLEMS && !is_first_error {
            return self.untold.insert(problem);
        }
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn error(&mut self, origin: Origin, message: String) -> &mut Problem {
        self.problem(Severity::Error, origin, message)
    }

    pub(super) fn warning(&mut self, origin: Origin, message: String) -> &mut Problem {
        self.problem(Severity::Warning, origin, message)
    }

    /// Says that there are more problems than are told.
    fn tell_more(&mut self) {
        if self.told > MAX_PROBLEMS {
            let message = format!("the zone has {} problems; {MAX_PROBLEMS} of them are shown", self.told);
            self.problems.push(Problem::warning(KIND, self.id, "", message));
        }
    }

    /// The number of the node of a name in lower case, if there is one.
    pub fn node_of(&self, name: &[u8], hash: u64) -> Option<usize> {
        let found = self.by_name.find(hash, |at| *self.nodes[at as usize].name == *name);
        found.map(|at| at as usize)
    }

    /// The node of a name in wire format, whatever its case.
    pub fn named(&self, name: &[u8]) -> Option<usize> {
        let name = LookupName::new(name)?;
        self.node_of(name.wire(), name.hash(0))
    }

    /// The node of a name in lower case; made if there is none.
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
        if self.is_overlaid(owner, rtype, origin, Some((ttl, &value))) || !self.take(value.len() + VALUE_OCTETS, origin)
        {
            return;
        }
        let node = self.node(owner.to_lowercase().as_wire());
        let Some(set) = self.nodes[node].sets.iter_mut().find(|set| set.rtype == rtype) else {
            self.add_set(node, SetBuilder::new(rtype, ttl, value, origin));
            return;
        };
        if !set.take(value) || set.ttl == ttl || rtype == rtype::RRSIG {
            return;
        }
        let message = format!(
            "the {} records of {owner} differ in their TTL: {} is served for all (RFC 2181, 5.2)",
            rdata::type_to_text(rtype),
            set.ttl
        );
        self.warning(origin, message);
    }

    /// Counts memory that is taken: false, and an error once, if it is more than a zone may take.
    fn take(&mut self, octets: usize, origin: Origin) -> bool {
        let had_room = self.octets <= MAX_ZONE_OCTETS;
        self.octets += octets;
        let has_room = self.octets <= MAX_ZONE_OCTETS;
        if had_room && !has_room {
            let message = format!("the zone takes more than {} MiB of memory", MAX_ZONE_OCTETS >> 20);
            self.error(origin, message).help = Some("divide it into several zones".into());
        }
        has_room
    }

    /// Adds a set to a node, unless that has too many.
    fn add_set(&mut self, node: usize, set: SetBuilder<'a>) {
        let sets = &mut self.nodes[node].sets;
        if sets.len() < MAX_SETS {
            return sets.push(set);
        }
        let owner = printed(&self.nodes[node].name);
        self.error(set.origin, format!("{owner} has more than {MAX_SETS} record sets"));
    }

    /// What updates have made.
    fn add_overlay(&mut self) {
        for set in self.overlay.into_iter().flat_map(Overlay::sets) {
            for value in &set.values {
                self.add(&set.owner, set.rtype, set.ttl, Cow::Borrowed(value), Origin::Update);
            }
        }
    }

    /// What a change makes of a set.
    pub fn add_changed(&mut self, set: &SetChange<'a>) {
        for value in &set.values {
            self.add(set.owner, set.rtype, set.ttl, Cow::Borrowed(value), Origin::Update);
        }
    }

    /// All that a zone has that updates have made nothing else of: it was checked when the zone was built.
    fn add_zone(&mut self, zone: &Zone) {
        self.aliases = zone.aliases.to_vec();
        let overlay = self.overlay;
        for node in zone.nodes() {
            let owner = node.name();
            self.add_node(node, |rtype| overlay.is_some_and(|overlay| overlay.has(&owner, rtype)));
        }
    }

    /// The sets of a node, but those that have become something else.
    pub fn add_node(&mut self, node: Node, is_changed: impl Fn(u16) -> bool) {
        for set in node.sets().filter(|set| !is_changed(set.rtype())) {
            let values: Vec<Cow<[u8]>> = set.values().map(Cow::Owned).collect();
            work::count(values.len());
            let octets = values.iter().map(|value| value.len()).sum::<usize>() + 12 * values.len();
            if !self.take(octets + VALUE_OCTETS * values.len().max(1), Origin::Update) {
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
                let message = format!("`{}` is no type of a record", set.record_type);
                self.field_error(format!("records[{at}].type"), message);
                continue;
            };
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
        if !self.take(target.as_wire().len() + VALUE_OCTETS, origin) {
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

    /// Supplies SOA and NS records where there are none (manifest, `private_hosted_zones`). Returns whether the SOA record
    /// was made.
    fn complete_apex(&mut self) -> bool {
        let lacks_soa = !self.nodes[0].sets.iter().any(|set| set.rtype == rtype::SOA);
        let has = |this: &Self, rtype| this.nodes[0].sets.iter().any(|set| set.rtype == rtype);
        let zone = self.source.name.clone();
        let what = if self.source.is_transferred() { "transferred zone" } else { "master file" };
        let has_records = self.data.is_some() || self.content.is_some();
        if !has(self, rtype::SOA) {
            if has_records {
                self.error(Origin::Own, format!("the {what} has no SOA record at {zone}")).help =
                    Some("a line such as `@ SOA ns hostmaster 1 7200 900 1209600 60`".into());
            } else if let (Ok(ns), Ok(hostmaster)) = (zone.child(b"ns"), zone.child(b"hostmaster")) {
                let numbers = [1u32, 7200, 900, 1_209_600, 60].map(u32::to_be_bytes).concat();
                let value = [ns.as_wire(), hostmaster.as_wire(), &numbers].concat();
                self.add(&zone, rtype::SOA, OWN_TTL, Cow::Owned(value), Origin::Own);
            } else {
                self.error(Origin::Own, "the zone's name leaves no room for a name below it".into());
            }
        }
        if !has(self, rtype::NS) {
            if has_records {
                self.warning(Origin::Own, format!("the {what} has no NS record at {zone}: ns.{zone} is answered"));
            }
            if let Ok(ns) = zone.child(b"ns") {
                self.add(&zone, rtype::NS, OWN_TTL, Cow::Owned(ns.as_wire().to_vec()), Origin::Own);
            }
        }
        lacks_soa
    }

    /// What may not be together at one name.
    pub fn check_sets(&mut self) {
        for at in 0..self.nodes.len() {
            let owner = Name::from_wire(&self.nodes[at].name).unwrap_or_else(|_| Name::root());
            let is_apex = at == 0;
            let wildcard = owner.is_wildcard();
            let types: Vec<u16> = self.nodes[at].sets.iter().map(|set| set.rtype).collect();
            for number in 0..types.len() {
                let set = &self.nodes[at].sets[number];
                let (origin, values, alias) = (set.origin, set.values.len(), set.alias);
                let size = set.octets;
                let name = rdata::type_to_text(set.rtype);
                match set.rtype {
                    rtype::CNAME if alias.is_some() => {
                        self.error(origin, format!("{owner}: an alias of type CNAME is none"));
                    }
                    rtype::CNAME if values > 1 => {
                        self.error(origin, format!("{owner} has {values} CNAME records")).help =
                            Some("a name has one CNAME record at most".into());
                    }
                    rtype::CNAME if types.iter().any(|other| !may_be_beside_cname(*other)) => {
                        let others: Vec<_> = types.iter().filter(|other| !may_be_beside_cname(**other)).collect();
                        let others: Vec<_> = others.into_iter().map(|other| rdata::type_to_text(*other)).collect();
                        let message = format!("{owner} has a CNAME beside other data ({})", others.join(", "));
                        self.error(origin, message).help =
                            Some("a name with a CNAME record has no other records (RFC 1034, 3.6.2); an alias may stand at the apex".into());
                    }
                    rtype::DNAME if values > 1 => {
                        self.error(origin, format!("{owner} has {values} DNAME records"));
                    }
                    rtype::SOA if !is_apex => {
                        self.error(origin, format!("{owner} has a SOA record, but is not the apex of the zone"));
                    }
                    rtype::SOA if values > 1 => {
                        self.error(origin, format!("{owner} has {values} SOA records"));
                    }
                    rtype::NS | rtype::DNAME if wildcard && !is_apex => {
                        self.error(origin, format!("{owner}: a wildcard cannot have {name} records"));
                    }
                    _ if size > MOST => {
                        let message = format!(
                            "the {name} records of {owner} fill more than {MOST} octets, which a message holds"
                        );
                        self.error(origin, message);
                    }
                    _ => {}
                }
                let flags = match self.nodes[at].sets[number].rtype {
                    rtype::NS if !is_apex => node_flag::CUT,
                    rtype::DNAME => node_flag::DNAME,
                    rtype::CNAME => node_flag::CNAME,
                    _ => 0,
                };
                self.nodes[at].flags |= flags;
            }
        }
    }

    /// Finds out which nodes have a wildcard below them, and which are occluded: below a zone cut or a DNAME (RFC 2181, 6;
    /// RFC 6672, 2.4).
    fn relate(&mut self) {
        let mut above = Numbering::default();
        let mut is_divided = false;
        for at in 0..self.nodes.len() {
            let name = &self.nodes[at].name;
            if self.nodes[at].flags & (node_flag::CUT | node_flag::DNAME) != 0 {
                above.insert(name_hash(name), at as u32);
                is_divided = true;
            }
            if at != 0
                && let Some(parent) = name.strip_prefix(b"\x01*").and_then(|parent| self.named(parent))
            {
                self.nodes[parent].wildcard = Some(at);
                self.nodes[parent].flags |= node_flag::WILDCARD;
            }
        }
        let apex_labels = labels(&self.apex).count();
        for at in 1..self.nodes.len() {
            let Some(name) = LookupName::new(&self.nodes[at].name).filter(|_| is_divided) else { continue };
            // The highest one.
            let occluder = (1..=name.labels() - apex_labels).rev().find_map(|skip| {
                above.find(name.hash(skip), |other| *self.nodes[other as usize].name == *name.suffix(skip))
            });
            if let Some(occluder) = occluder {
                self.nodes[at].occluder = Some(occluder as usize);
                self.nodes[at].flags |= node_flag::OCCLUDED;
            }
        }
    }
}

impl<'a> SetBuilder<'a> {
    fn new(rtype: u16, ttl: u32, value: Cow<'a, [u8]>, origin: Origin) -> SetBuilder<'a> {
        let octets = 12 + value.len();
        SetBuilder { rtype, ttl, values: vec![value], alias: None, origin, octets, seen: HashSet::new() }
    }

    /// Takes one more record. False, and nothing has changed, if it is there already (RFC 2181, 5), or if there is no room.
    fn take(&mut self, value: Cow<'a, [u8]>) -> bool {
        if self.octets > MOST {
            return false;
        }
        if self.values.len() == SMALL_SET {
            self.seen.extend(self.values.iter().cloned());
        }
        let is_new = match self.values.len() < SMALL_SET {
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

/// Types that a zone may hold: neither queries nor pseudo-records.
fn is_data(rtype: u16) -> bool {
    !matches!(rtype, 0 | rtype::OPT | 128..=255)
}

/// RFC 4035, 2.5; RFC 3007 for KEY.
fn may_be_beside_cname(other: u16) -> bool {
    matches!(other, rtype::CNAME | rtype::RRSIG | rtype::NSEC | 25)
}

pub(super) fn has_address(node: &NodeBuilder) -> bool {
    node.sets.iter().any(|set| matches!(set.rtype, rtype::A | rtype::AAAA) && set.alias.is_none())
}

/// Whether a wire-format name is at or below another one; case is ignored.
pub(super) fn ends_with(name: &[u8], other: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > other.len() {
        rest = &rest[1 + rest[0] as usize..];
    }
    rest.eq_ignore_ascii_case(other)
}

//! Compiles a zone: checks that its records go together, and lays them out.

use super::{NodeAt, Serial, Set, Zone, ZoneCut, additional::Made, node_flag};
use crate::{
    manifest::{Id, MasterFile, Place, PrivateHostedZone, Problem, Severity, overlay::Overlay},
    snapshot::{names::Table, routes::NameServer},
    wire::{
        Name,
        name::{labels, printed},
        query::name_hash,
        rdata::{self, rtype},
    },
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// The kind of all problems here.
const KIND: &str = "private_hosted_zones";
/// The TTL of SOA and NS records that we make ourselves, in seconds.
const OWN_TTL: u32 = 60;
/// The TTL of record sets that name none, in seconds.
const DEFAULT_TTL: u32 = 300;
/// The most that a record set may fill, in octets: a DNS message less header, question and OPT record.
const MOST: usize = u16::MAX as usize - 12 - 259 - 64;

/// Where a record comes from.
#[derive(Clone, Copy)]
enum Origin {
    /// The master file: file and line.
    File(u16, u32),
    /// `records[set].records[value]` of the manifest.
    Manifest(usize, usize),
    /// We made it ourselves.
    Own,
    /// An update has made it; or it was in the zone before an update.
    Update,
}

pub(super) struct SetBuilder<'a> {
    pub(super) rtype: u16,
    ttl: u32,
    pub(super) values: Vec<Cow<'a, [u8]>>,
    alias: Option<usize>,
    origin: Origin,
}

pub(super) struct NodeBuilder<'a> {
    /// In lower case, the apex included.
    pub(super) name: Box<[u8]>,
    pub(super) sets: Vec<SetBuilder<'a>>,
    pub(super) flags: u8,
    parent: Option<usize>,
    pub(super) wildcard: Option<usize>,
    pub(super) occluder: Option<usize>,
}

pub(super) struct Builder<'a> {
    id: &'a str,
    source: &'a PrivateHostedZone,
    data: Option<&'a MasterFile>,
    overlay: Option<&'a Overlay>,
    pub(super) apex: Box<[u8]>,
    pub(super) nodes: Vec<NodeBuilder<'a>>,
    pub(super) by_name: HashMap<Box<[u8]>, usize>,
    aliases: Vec<Name>,
    problems: &'a mut Vec<Problem>,
    failed: bool,
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
    /// The zone as it was before the last update: all but that is unchanged.
    pub base: Option<&'a Zone>,
    /// What updates have made of it.
    pub overlay: Option<&'a Arc<Overlay>>,
    /// Why its records are not there, if they are not: it is not answered from.
    pub missing: Option<&'static str>,
    /// The serial that it had, if it had one that counts, and else the first one.
    pub serial: (Option<Serial>, u32),
}

/// Compiles a zone. None if there is an error in it. With it comes its serial, if that counts.
pub fn build(job: Job, problems: &mut Vec<Problem>) -> Option<(Zone, Option<Serial>)> {
    let Job { id, source, data, base, overlay, .. } = job;
    let apex: Box<[u8]> = source.name.to_lowercase().as_wire().into();
    let mut builder = Builder {
        id,
        source,
        data,
        overlay: overlay.map(|overlay| &**overlay),
        apex: apex.clone(),
        nodes: Vec::new(),
        by_name: HashMap::new(),
        aliases: Vec::new(),
        problems,
        failed: false,
    };
    builder.node(apex.clone());
    match base {
        None => {
            builder.add_master_file();
            builder.add_record_sets();
        }
        Some(base) => builder.add_zone(base),
    }
    builder.add_overlay();
    let has_made_soa = builder.complete_apex() || base.is_some_and(|base| base.has_made_soa);
    builder.check_sets();
    builder.relate();
    builder.check_glue();
    if builder.failed {
        return None;
    }
    let records = builder.nodes.iter().flat_map(|node| &node.sets).map(|set| set.values.len().max(1)).sum();
    let cuts = builder.cuts();
    let laid_out = builder.lay_out()?;
    let apex_labels = labels(&apex).count();
    let mut zone = Zone {
        id: id.clone(),
        source: source.clone(),
        apex,
        fallthrough: source.fallthrough,
        records,
        missing: job.missing.map(Arc::from),
        overlay: overlay.cloned(),
        has_made_soa,
        apex_labels,
        table: laid_out.table,
        block: laid_out.block,
        apex_node: NodeAt(0),
        negative: laid_out.negative,
        aliases: builder.aliases.into(),
        cuts,
    };
    let (last, first) = job.serial;
    let is_numbered = source.is_numbered() && zone.missing.is_none();
    let serial = is_numbered.then(|| zone.count_on(last.as_ref(), first));
    Some((zone, serial))
}

struct LaidOut {
    table: Table,
    block: Box<[u8]>,
    negative: u32,
}

impl<'a> Builder<'a> {
    fn problem(&mut self, severity: Severity, origin: Origin, message: String) -> &mut Problem {
        self.failed |= severity == Severity::Error;
        let whole = if self.source.is_transferred() { "primaries" } else { "file" };
        let (field, place) = match (origin, self.data) {
            (Origin::Manifest(set, value), _) => (format!("records[{set}].records[{value}]"), None),
            (Origin::File(file, line), Some(data)) => {
                let file = data.files.get(file as usize).cloned();
                (whole.into(), file.map(|file| Place { file, line, column: 1, length: 1 }))
            }
            (Origin::File(..), None) => (whole.into(), None),
            (Origin::Own, Some(_)) => (whole.into(), None),
            (Origin::Own, None) => (String::new(), None),
            (Origin::Update, _) => ("allow_update".into(), None),
        };
        let mut problem = Problem::error(KIND, self.id, field, message);
        problem.severity = severity;
        if matches!(origin, Origin::Update) {
            problem.help = Some("a dynamic update has made it; what updates have made is in `state_directory`".into());
        }
        problem.place = place;
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn error(&mut self, origin: Origin, message: String) -> &mut Problem {
        self.problem(Severity::Error, origin, message)
    }

    fn warning(&mut self, origin: Origin, message: String) -> &mut Problem {
        self.problem(Severity::Warning, origin, message)
    }

    /// The node of a name, made with all that are between it and the apex.
    fn node(&mut self, name: Box<[u8]>) -> usize {
        if let Some(&node) = self.by_name.get(&name) {
            return node;
        }
        let parent = (name.len() > self.apex.len()).then(|| self.node(name[1 + name[0] as usize..].into()));
        let node = self.nodes.len();
        self.by_name.insert(name.clone(), node);
        if let Some(parent) = parent
            && name.starts_with(b"\x01*")
        {
            self.nodes[parent].wildcard = Some(node);
            self.nodes[parent].flags |= node_flag::WILDCARD;
        }
        self.nodes.push(NodeBuilder { name, sets: Vec::new(), flags: 0, parent, wildcard: None, occluder: None });
        node
    }

    fn add(&mut self, owner: &Name, rtype: u16, ttl: u32, value: Cow<'a, [u8]>, origin: Origin) {
        if !owner.is_at_or_below(&self.source.name) {
            let message = format!("{owner} is outside of the zone {}", self.source.name);
            self.error(origin, message);
            return;
        }
        if self.is_overlaid(owner, rtype, origin) {
            return;
        }
        let node = self.node(owner.to_lowercase().as_wire().into());
        let Some(set) = self.nodes[node].sets.iter_mut().find(|set| set.rtype == rtype) else {
            let set = SetBuilder { rtype, ttl, values: vec![value], alias: None, origin };
            self.nodes[node].sets.push(set);
            return;
        };
        if set.values.contains(&value) {
            return; // RFC 2181, 5: a set has no duplicates
        }
        let (clash, first_ttl) = (set.ttl != ttl && rtype != rtype::RRSIG, set.ttl);
        set.values.push(value);
        if clash {
            let message = format!(
                "the {} records of {owner} differ in their TTL: {first_ttl} is served for all (RFC 2181, 5.2)",
                rdata::type_to_text(rtype)
            );
            self.warning(origin, message);
        }
    }

    /// Whether an update has made something else of the set.
    fn is_overlaid(&self, owner: &Name, rtype: u16, origin: Origin) -> bool {
        !matches!(origin, Origin::Update) && self.overlay.is_some_and(|overlay| overlay.has(owner, rtype))
    }

    /// What updates have made.
    fn add_overlay(&mut self) {
        for set in self.overlay.into_iter().flat_map(Overlay::sets) {
            for value in &set.values {
                self.add(&set.owner, set.rtype, set.ttl, Cow::Borrowed(value), Origin::Update);
            }
        }
    }

    /// All that a zone has that updates have made nothing else of.
    fn add_zone(&mut self, zone: &Zone) {
        for node in zone.nodes() {
            let owner = node.name();
            for set in node.sets() {
                if self.overlay.is_some_and(|overlay| overlay.has(&owner, set.rtype())) {
                    continue;
                }
                if let Some(number) = set.alias() {
                    self.add_alias_set(&owner, set.rtype(), zone.alias(number), Origin::Update);
                }
                for value in set.values() {
                    self.add(&owner, set.rtype(), set.ttl(), Cow::Owned(value), Origin::Update);
                }
            }
        }
    }

    fn add_master_file(&mut self) {
        let Some(data) = self.data else { return };
        for record in &data.records {
            let origin = Origin::File(record.file, record.line);
            self.add(&record.owner, record.rtype, record.ttl, Cow::Borrowed(&record.rdata), origin);
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
        self.failed = true;
        self.problems.push(Problem::error(KIND, self.id, field, message));
    }

    fn add_alias(&mut self, at: usize, owner: &Name, rtype: u16, target: &Name) {
        if !owner.is_at_or_below(&self.source.name) {
            let message = format!("{owner} is outside of the zone {}", self.source.name);
            return self.field_error(format!("records[{at}].name"), message);
        }
        let origin = Origin::Manifest(at, 0);
        if self.is_overlaid(owner, rtype, origin) {
            return;
        }
        let node = self.by_name.get(owner.to_lowercase().as_wire()).map(|at| &self.nodes[*at]);
        if node.is_some_and(|node| node.sets.iter().any(|set| set.rtype == rtype)) {
            let message = format!("{owner} has {} records already", rdata::type_to_text(rtype));
            return self.field_error(format!("records[{at}].alias"), message);
        }
        self.add_alias_set(owner, rtype, target, origin);
    }

    fn add_alias_set(&mut self, owner: &Name, rtype: u16, target: &Name, origin: Origin) {
        let node = self.node(owner.to_lowercase().as_wire().into());
        let alias = Some(self.aliases.len());
        self.aliases.push(target.clone());
        self.nodes[node].sets.push(SetBuilder { rtype, ttl: 0, values: Vec::new(), alias, origin });
    }

    /// Supplies SOA and NS records where there are none (manifest, `private_hosted_zones`). Returns whether the SOA record
    /// was made.
    fn complete_apex(&mut self) -> bool {
        let lacks_soa = !self.nodes[0].sets.iter().any(|set| set.rtype == rtype::SOA);
        let has = |this: &Self, rtype| this.nodes[0].sets.iter().any(|set| set.rtype == rtype);
        let zone = self.source.name.clone();
        let what = if self.source.is_transferred() { "transferred zone" } else { "master file" };
        if !has(self, rtype::SOA) {
            if self.data.is_some() {
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
            if self.data.is_some() {
                self.warning(Origin::Own, format!("the {what} has no NS record at {zone}: ns.{zone} is answered"));
            }
            if let Ok(ns) = zone.child(b"ns") {
                self.add(&zone, rtype::NS, OWN_TTL, Cow::Owned(ns.as_wire().to_vec()), Origin::Own);
            }
        }
        lacks_soa
    }

    /// What may not be together at one name.
    fn check_sets(&mut self) {
        for at in 0..self.nodes.len() {
            let owner = Name::from_wire(&self.nodes[at].name).unwrap_or_else(|_| Name::root());
            let is_apex = at == 0;
            let wildcard = owner.is_wildcard();
            let types: Vec<u16> = self.nodes[at].sets.iter().map(|set| set.rtype).collect();
            for number in 0..types.len() {
                let set = &self.nodes[at].sets[number];
                let (origin, values, alias) = (set.origin, set.values.len(), set.alias);
                let size: usize = set.values.iter().map(|value| 12 + value.len()).sum();
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
                    rtype::NS | rtype::DNAME if wildcard => {
                        self.error(origin, format!("{owner}: a wildcard cannot have {name} records"));
                    }
                    _ if size > MOST => {
                        let message =
                            format!("the {name} records of {owner} fill {size} octets, more than a message holds");
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

    /// Finds out which nodes are occluded: below a zone cut or a DNAME (RFC 2181, 6; RFC 6672, 2.4).
    fn relate(&mut self) {
        // A parent has a smaller number than its children.
        for at in 1..self.nodes.len() {
            let Some(parent) = self.nodes[at].parent else { continue };
            let above = &self.nodes[parent];
            let occluder =
                above.occluder.or((above.flags & (node_flag::CUT | node_flag::DNAME) != 0).then_some(parent));
            if let Some(occluder) = occluder {
                self.nodes[at].occluder = Some(occluder);
                self.nodes[at].flags |= node_flag::OCCLUDED;
            }
        }
    }

    /// Warns of occluded data that is no glue, and of delegations that lack glue.
    fn check_glue(&mut self) {
        let mut wanted: HashSet<Box<[u8]>> = HashSet::new();
        let mut warnings = Vec::new();
        for node in &self.nodes {
            if node.flags & node_flag::CUT == 0 || node.occluder.is_some() {
                continue;
            }
            for set in node.sets.iter().filter(|set| set.rtype == rtype::NS) {
                for target in &set.values {
                    let target = target.to_ascii_lowercase();
                    let has_address = self.by_name.get(&target[..]).is_some_and(|at| has_address(&self.nodes[*at]));
                    if ends_with(&target, &node.name) && !has_address {
                        let (owner, target) = (printed(&node.name), printed(&target));
                        let message = format!("the delegation of {owner} lacks glue: {target} has no address");
                        warnings.push((set.origin, message));
                    }
                    wanted.insert(target.into());
                }
            }
        }
        for node in &self.nodes {
            let Some(occluder) = node.occluder else { continue };
            let is_glue = wanted.contains(&node.name);
            for set in &node.sets {
                if !(is_glue && matches!(set.rtype, rtype::A | rtype::AAAA)) {
                    let (owner, above) = (printed(&node.name), printed(&self.nodes[occluder].name));
                    let what = rdata::type_to_text(set.rtype);
                    let message = format!(
                        "{owner} {what} is never answered: it is below {above}, which is delegated or has a DNAME"
                    );
                    warnings.push((set.origin, message));
                }
            }
        }
        for (origin, message) in warnings {
            self.warning(origin, message);
        }
    }

    /// The zone cuts, with the name servers below them and those of their addresses that the zone has.
    fn cuts(&self) -> Box<[ZoneCut]> {
        let is_cut = |node: &&NodeBuilder| node.flags & node_flag::CUT != 0 && node.occluder.is_none();
        let address = |value: &Cow<[u8]>| match value.len() {
            4 => <[u8; 4]>::try_from(&value[..]).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(&value[..]).ok().map(IpAddr::from),
        };
        let name_server = |name: &Cow<[u8]>| {
            let name: Box<[u8]> = name.to_ascii_lowercase().into();
            let node = self.by_name.get(&name).map(|at| &self.nodes[*at]);
            let sets = node.into_iter().flat_map(|node| &node.sets);
            let sets = sets.filter(|set| matches!(set.rtype, rtype::A | rtype::AAAA));
            let addresses = sets.flat_map(|set| &set.values).filter_map(address).collect();
            NameServer { name, addresses }
        };
        let cut = |node: &NodeBuilder| {
            let sets = node.sets.iter().filter(|set| set.rtype == rtype::NS);
            let name_servers = sets.flat_map(|set| &set.values).map(name_server).collect();
            ZoneCut { name: node.name.clone(), name_servers }
        };
        self.nodes.iter().filter(is_cut).map(cut).collect()
    }

    /// Lays the zone out: first sizes, and so places; then the octets.
    fn lay_out(&mut self) -> Option<LaidOut> {
        let mut places = Vec::with_capacity(self.nodes.len());
        let mut size = 0usize;
        let mut compressed: Vec<Vec<Vec<Record>>> = Vec::with_capacity(self.nodes.len());
        let mut made = Made::default();
        let additionals: Vec<Vec<Vec<usize>>> = self
            .nodes
            .iter()
            .map(|node| node.sets.iter().map(|set| self.additional(node, set, &mut made)).collect())
            .collect();
        for (node, additional) in self.nodes.iter().zip(&additionals) {
            places.push(size);
            size += 4 + 4 * (node.flags & (node_flag::WILDCARD | node_flag::OCCLUDED)).count_ones() as usize;
            size += node.name.len() - self.apex.len();
            let sets: Vec<Vec<Record>> = node
                .sets
                .iter()
                .map(|set| set.values.iter().map(|value| compress(set.rtype, value, &self.apex)).collect())
                .collect();
            for ((set, records), additional) in node.sets.iter().zip(&sets).zip(additional) {
                size += set_size(set, records, additional.len());
            }
            compressed.push(sets);
        }
        let soa = self.nodes[0].sets.iter().find(|set| set.rtype == rtype::SOA)?;
        let negative_record = vec![compress(rtype::SOA, soa.values.first()?, &self.apex)];
        let negative_ttl = soa.ttl.min(soa_minimum(soa.values.first()?));
        let mut total = size + set_size(soa, &negative_record, 0);
        let goes_along = |set: &SetBuilder| matches!(set.rtype, rtype::A | rtype::AAAA | rtype::SVCB | rtype::HTTPS);
        for (name, source) in &made.names {
            places.push(total);
            total += 4 + name.len() - self.apex.len();
            let sets = self.nodes[*source].sets.iter().zip(&compressed[*source]);
            total += sets.filter(|(set, _)| goes_along(set)).map(|(set, r)| set_size(set, r, 0)).sum::<usize>();
        }
        if total >= u32::MAX as usize {
            self.error(Origin::Own, format!("the zone fills {total} octets, more than 4 GiB"));
            return None;
        }
        let mut block = Vec::with_capacity(total);
        for (at, node) in self.nodes.iter().enumerate() {
            let relative = &node.name[..node.name.len() - self.apex.len()];
            block.extend_from_slice(&[relative.len() as u8, node.flags]);
            block.extend_from_slice(&(node.sets.len() as u16).to_le_bytes());
            for other in [node.wildcard, node.occluder].into_iter().flatten() {
                block.extend_from_slice(&(places[other] as u32).to_le_bytes());
            }
            block.extend_from_slice(relative);
            for (number, set) in node.sets.iter().enumerate() {
                let additional: Vec<u32> = additionals[at][number].iter().map(|node| places[*node] as u32).collect();
                write_set(&mut block, set.rtype, set.ttl, &compressed[at][number], &additional, set.alias);
            }
        }
        let negative = block.len() as u32;
        write_set(&mut block, rtype::SOA, negative_ttl, &negative_record, &[], None);
        // What follows is found by nobody but sets that name it.
        for (name, source) in &made.names {
            let relative = &name[..name.len() - self.apex.len()];
            let sets = || self.nodes[*source].sets.iter().zip(&compressed[*source]).filter(|(set, _)| goes_along(set));
            block.extend_from_slice(&[relative.len() as u8, 0]);
            block.extend_from_slice(&(sets().count() as u16).to_le_bytes());
            block.extend_from_slice(relative);
            for (set, records) in sets() {
                write_set(&mut block, set.rtype, set.ttl, records, &[], set.alias);
            }
        }
        let table =
            Table::new(self.nodes.iter().zip(&places).map(|(node, place)| (name_hash(&node.name), *place as u32)));
        Some(LaidOut { table, block: block.into(), negative })
    }
}

/// A record's data with names cut short where a pointer to the apex will stand, and the places of these pointers.
struct Record {
    data: Vec<u8>,
    pointers: Vec<usize>,
}

fn compress(rtype: u16, value: &[u8], apex: &[u8]) -> Record {
    let mut record = Record { data: Vec::with_capacity(value.len()), pointers: Vec::new() };
    let mut copied = 0;
    for (name, may_be_compressed) in rdata::names(rtype, value) {
        if may_be_compressed && apex.len() > 2 && ends_with(&value[name.clone()], apex) {
            record.data.extend_from_slice(&value[copied..name.end - apex.len()]);
            record.pointers.push(record.data.len());
            record.data.extend_from_slice(&[0xc0, 0]);
            copied = name.end;
        }
    }
    record.data.extend_from_slice(&value[copied..]);
    record
}

fn set_size(set: &SetBuilder, records: &[Record], additional: usize) -> usize {
    let octets: usize = records.iter().map(|record| 12 + record.data.len()).sum();
    let pointers: usize = records.iter().map(|record| record.pointers.len()).sum();
    Set::FIXED + 4 * additional + 2 * pointers + octets + if set.alias.is_some() { 4 } else { 0 }
}

fn write_set(block: &mut Vec<u8>, rtype: u16, ttl: u32, records: &[Record], additional: &[u32], alias: Option<usize>) {
    let octets: usize =
        records.iter().map(|record| 12 + record.data.len()).sum::<usize>() + if alias.is_some() { 4 } else { 0 };
    let pointers: usize = records.iter().map(|record| record.pointers.len()).sum();
    for number in [rtype as usize, records.len(), octets, pointers, additional.len()] {
        block.extend_from_slice(&(number as u16).to_le_bytes());
    }
    additional.iter().for_each(|node| block.extend_from_slice(&node.to_le_bytes()));
    let mut at = 0;
    for record in records {
        at += 12;
        record.pointers.iter().for_each(|place| block.extend_from_slice(&((at + place) as u16).to_le_bytes()));
        at += record.data.len();
    }
    if let Some(alias) = alias {
        block.extend_from_slice(&(alias as u32).to_le_bytes());
    }
    for record in records {
        block.extend_from_slice(&[0xc0, 12]);
        block.extend_from_slice(&rtype.to_be_bytes());
        block.extend_from_slice(&[0, 1]);
        block.extend_from_slice(&ttl.to_be_bytes());
        block.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
        block.extend_from_slice(&record.data);
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

fn has_address(node: &NodeBuilder) -> bool {
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

/// The MINIMUM field: the last four octets.
fn soa_minimum(soa: &[u8]) -> u32 {
    soa.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum))
}

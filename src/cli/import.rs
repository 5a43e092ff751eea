//! `zonal import aws`: makes a manifest of what the AWS CLI describes.
//!
//! ```text
//! files -> input     the outputs, by what they list
//!       -> networks, endpoints, zones, resolver, firewall, profiles
//!                    resources with the names of the manifest, as JSON
//!       -> settle    reads, checks and compiles them, and takes out what has errors
//!       -> manifest.json, and a report
//! ```
//!
//! The import asks no server: it works offline.

mod arguments;
mod endpoints;
mod firewall;
mod input;
mod networks;
mod profiles;
mod record_sets;
mod report;
mod resolver;
mod settle;
#[cfg(test)]
mod tests;
mod zones;

pub(super) use arguments::ImportCommand;

use super::{Format, print, print_error};
use anyhow::Context;
use arguments::ImportArguments;
use input::{Input, Item, is_region, last_part, list, text, texts};
use report::Report;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The imported resources: JSON values with the names of the manifest, by kind and identifier.
pub(super) type Made = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// Runs `zonal import aws`. Exit status 1 if a file could not be read, or nothing could be written.
pub(super) fn run(arguments: &ImportArguments) -> ExitCode {
    match try_run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_error(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn try_run(arguments: &ImportArguments) -> anyhow::Result<bool> {
    let mut report = Report::default();
    let input = Input::read(&arguments.paths, &mut report);
    let made = import(&input, arguments.region.as_deref(), &mut report);
    if let Some(directory) = &arguments.out {
        write(directory, &made)?;
    }
    print(&match arguments.format {
        Format::Human => report.to_text(&made, input.files),
        Format::Json => format!("{:#}\n", report.to_json(&made, input.files)),
    });
    if let (Some(directory), Format::Human) = (&arguments.out, arguments.format) {
        print(&format!("\nThe manifest is in {}\n", directory.join(FILE).display()));
    }
    Ok(report.has_read_all())
}

/// Makes the resources of a manifest from outputs, which have the names of files. Also returns the report about what is only
/// approximated, not expressible or not read.
pub(super) fn of_outputs(outputs: Vec<(PathBuf, Value)>) -> (Made, String) {
    let (mut report, mut input) = (Report::default(), Input::default());
    for (path, output) in outputs {
        input.read_text(&path, output.to_string().as_bytes(), &mut report);
    }
    let made = import(&input, None, &mut report);
    (made, report.remarks())
}

/// The name of the manifest's file.
const FILE: &str = "manifest.json";

/// Writes the manifest into a directory: all of it, or nothing.
fn write(directory: &Path, made: &Made) -> anyhow::Result<()> {
    let (path, new) = (directory.join(FILE), directory.join(format!(".{FILE}.new")));
    let made: BTreeMap<_, _> = made.iter().filter(|(_, resources)| !resources.is_empty()).collect();
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&new, format!("{:#}\n", json!(made))))
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the resources of a manifest that zonal can serve.
fn import(input: &Input, region: Option<&str>, report: &mut Report) -> Made {
    let mut import = Import::new(input, region, report);
    import.networks();
    import.endpoints();
    import.zones();
    import.resolver();
    import.firewall();
    import.profiles();
    let made = std::mem::take(&mut import.made);
    let settled = settle::settle(made, report);
    report.sort();
    settled
}

/// An import while it is made.
struct Import<'i> {
    input: &'i Input,
    /// The Region of files that do not say theirs.
    region: Option<&'i str>,
    report: &'i mut Report,
    made: Made,
    /// The tags that outputs of their own list, by the identifier of the resource.
    tags: HashMap<&'i str, Vec<&'i Value>>,
    /// The AZ IDs of AZ names, by Region.
    azs: HashMap<(String, &'i str), &'i str>,
    /// The subnets, by identifier.
    subnets: HashMap<&'i str, &'i Item>,
}

impl<'i> Import<'i> {
    fn new(input: &'i Input, region: Option<&'i str>, report: &'i mut Report) -> Import<'i> {
        let mut tags: HashMap<&str, Vec<&Value>> = HashMap::new();
        for set in input.list("ResourceTagSets") {
            if let Some(id) = set.text("ResourceId") {
                tags.entry(id.rsplit('/').next().unwrap_or(id)).or_default().extend(set.list("Tags"));
            }
        }
        let subnets = input.list("Subnets").iter().filter_map(|item| Some((item.text("SubnetId")?, item))).collect();
        let mut import = Import { input, region, report, made: Made::new(), tags, azs: HashMap::new(), subnets };
        for zone in input.list("AvailabilityZones") {
            import.add_az(zone, "ZoneName", "ZoneId");
        }
        for subnet in input.list("Subnets") {
            import.add_az(subnet, "AvailabilityZone", "AvailabilityZoneId");
        }
        import
    }

    fn add_az(&mut self, item: &'i Item, name: &str, id: &str) {
        if let (Some(region), Some(name), Some(id)) = (self.region_of(item), item.text(name), item.text(id)) {
            self.azs.entry((region, name)).or_insert(id);
        }
    }

    /// The Region of an element: that of its ARN, of its AZ, of its file, or of the command line.
    fn region_of(&self, item: &Item) -> Option<String> {
        let arn = item.value.as_object()?.iter().find_map(|(member, value)| {
            let arn = value.as_str().filter(|_| member.ends_with("Arn"))?.strip_prefix("arn:")?;
            arn.split(':').nth(2).filter(|region| is_region(region))
        });
        let az = item.text("AvailabilityZone").and_then(region_of_az);
        let named = item.text("RegionName").or(item.origin.region.as_deref());
        arn.or(az).or(named).or(self.region).map(String::from)
    }

    /// The account that owns an element: its own, that of its ARN, or that of the CLI.
    fn owner_of(&self, item: &Item) -> Option<String> {
        let of_arn =
            item.text("Arn").and_then(|arn| arn.split(':').nth(4)).filter(|account| crate::aws::is_account(account));
        item.text("OwnerId").or(of_arn).or(self.input.account.as_deref()).map(String::from)
    }

    /// Data of AWS that DNS does not need, with the owner and the Region of an element.
    fn placed_data(&self, item: &Item, named: &[(&str, &str)]) -> Value {
        let mut aws = aws_data(item, named, &[]);
        for (member, value) in [("owner_id", self.owner_of(item)), ("region", self.region_of(item))] {
            if let Some(value) = value {
                aws[member] = value.into();
            }
        }
        aws
    }

    /// Adds a resource. Members that are null or empty are left out.
    fn put(&mut self, kind: &'static str, id: &str, mut resource: Value) {
        if let Value::Object(members) = &mut resource {
            members.retain(|_, value| !is_empty(value));
        }
        self.made.entry(kind).or_default().insert(id.into(), resource);
    }

    fn has(&self, kind: &str, id: &str) -> bool {
        self.made.get(kind).is_some_and(|resources| resources.contains_key(id))
    }

    /// The identifier of an element. An element without one is in the report.
    fn id(&mut self, kind: &'static str, item: &'i Item, member: &str) -> Option<&'i str> {
        let id = item.text(member);
        if id.is_none() {
            self.report.not_read(&item.origin.file, format!("an element of {kind} has no `{member}`"));
        }
        id
    }

    /// Reports that an element lacks a member which it needs.
    fn lacks(&mut self, kind: &str, id: &str, member: &str) {
        self.report.not_expressible(kind, id, format!("the output has no `{member}`"));
    }

    /// The tags of a resource: those in the element, and those that an output of their own lists.
    fn tags_of(&self, id: &str, item: &Item) -> Value {
        let own = ["Tags", "TagSet"].into_iter().flat_map(|member| item.list(member));
        let own = own.chain(self.tags.get(id).into_iter().flatten().copied());
        let pairs = own.filter_map(|tag| Some((text(tag, "Key")?, tag.get("Value").and_then(Value::as_str)?)));
        Value::Object(pairs.map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The VPCs of a list that are imported. The others are in the report.
    fn known_vpcs<'v>(&mut self, kind: &str, id: &str, vpcs: impl Iterator<Item = &'v str>) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut known = Vec::new();
        for vpc in vpcs.filter(|vpc| seen.insert(*vpc)) {
            match self.has("vpcs", vpc) {
                true => known.push(vpc.to_string()),
                false => {
                    let reason = format!("{vpc} is not among the imported VPCs: the association with it is left out");
                    self.report.approximated(kind, id, reason);
                }
            }
        }
        known
    }
}

/// The Region of an AZ's name: `us-east-1` of `us-east-1a` and of `us-east-1-bos-1a`.
fn region_of_az(az: &str) -> Option<&str> {
    let digits = az.find(|c: char| c.is_ascii_digit())?;
    let end = az[digits..].find(|c: char| !c.is_ascii_digit()).map_or(az.len(), |length| digits + length);
    Some(&az[..end]).filter(|region| is_region(region))
}

/// The data of an association or a rule, for the member `aws` of its resource.
fn part_data(item: &Item) -> Value {
    let named = [
        ("Name", "name"),
        ("CreatorRequestId", "creator_request_id"),
        ("FirewallThreatProtectionId", "threat_protection_id"),
        ("CreationTime", "created"),
        ("ModificationTime", "modified"),
    ];
    aws_data(item, &named, &[])
}

/// Data of AWS that DNS does not need: some members of an element, with zonal's names, and others as AWS names them.
fn aws_data(item: &Item, named: &[(&str, &str)], echoed: &[&str]) -> Value {
    let mut data = Map::new();
    for (member, name) in named {
        if let Some(value) = item.value.get(*member).filter(|value| !is_empty(value)) {
            data.insert((*name).into(), value.clone());
        }
    }
    let echoed = echoed.iter().filter_map(|member| Some((*member, item.value.get(*member)?)));
    let echoed: Map<String, Value> =
        echoed.filter(|(_, value)| !is_empty(value)).map(|(member, value)| (member.into(), value.clone())).collect();
    if !echoed.is_empty() {
        data.insert("echo".into(), Value::Object(echoed));
    }
    Value::Object(data)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A name without its last dot.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name)
}

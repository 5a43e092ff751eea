//! Reads the JSON that the AWS CLI prints, and sorts what it lists.
//!
//! An output is known by its members: `Vpcs` is the output of `describe-vpcs`. Some outputs do not say which resource they
//! are about, so that the file's name has to: `list-resource-record-sets.Z0123.json`. The Region of a file is the directory
//! that it is in, if that has the name of a Region.

use super::report::Report;
use crate::manifest::document::MAX_FILE_OCTETS;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The greatest depth of directories that are searched.
const MAX_DEPTH: usize = 8;

/// The lists that are read: the member of an output, and the list that its elements go to.
const LISTS: &[(&str, &str)] = &[
    ("Vpcs", "Vpcs"),
    ("Subnets", "Subnets"),
    ("AvailabilityZones", "AvailabilityZones"),
    ("DhcpOptions", "DhcpOptions"),
    ("SecurityGroups", "SecurityGroups"),
    ("VpcEndpoints", "VpcEndpoints"),
    ("ServiceDetails", "ServiceDetails"),
    ("ServiceConfigurations", "ServiceConfigurations"),
    ("NetworkInterfaces", "NetworkInterfaces"),
    ("VpcPeeringConnections", "VpcPeeringConnections"),
    ("TransitGateways", "TransitGateways"),
    ("TransitGatewayAttachments", "TransitGatewayAttachments"),
    ("TransitGatewayVpcAttachments", "TransitGatewayVpcAttachments"),
    ("TransitGatewayPeeringAttachments", "TransitGatewayPeeringAttachments"),
    ("TransitGatewayRouteTables", "TransitGatewayRouteTables"),
    ("HostedZones", "HostedZones"),
    ("HealthChecks", "HealthChecks"),
    ("HealthCheck", "HealthChecks"),
    ("ResourceTagSets", "ResourceTagSets"),
    ("ResourceTagSet", "ResourceTagSets"),
    ("CidrCollections", "CidrCollections"),
    ("ResolverEndpoints", "ResolverEndpoints"),
    ("ResolverEndpoint", "ResolverEndpoints"),
    ("ResolverRules", "ResolverRules"),
    ("ResolverRule", "ResolverRules"),
    ("ResolverRuleAssociations", "ResolverRuleAssociations"),
    ("ResolverRuleAssociation", "ResolverRuleAssociations"),
    ("ResolverQueryLogConfigs", "ResolverQueryLogConfigs"),
    ("ResolverQueryLogConfig", "ResolverQueryLogConfigs"),
    ("ResolverQueryLogConfigAssociations", "ResolverQueryLogConfigAssociations"),
    ("ResolverConfigs", "ResolverConfigs"),
    ("ResolverConfig", "ResolverConfigs"),
    ("ResolverDnssecConfigs", "ResolverDnssecConfigs"),
    ("ResolverDNSSECConfig", "ResolverDnssecConfigs"),
    ("FirewallConfigs", "FirewallConfigs"),
    ("FirewallConfig", "FirewallConfigs"),
    ("FirewallDomainLists", "FirewallDomainLists"),
    ("FirewallDomainList", "FirewallDomainLists"),
    ("FirewallRuleGroups", "FirewallRuleGroups"),
    ("FirewallRuleGroup", "FirewallRuleGroups"),
    ("FirewallRules", "FirewallRules"),
    ("FirewallRuleGroupAssociations", "FirewallRuleGroupAssociations"),
    ("FirewallRuleGroupAssociation", "FirewallRuleGroupAssociations"),
    ("ProfileSummaries", "Profiles"),
    ("Profile", "Profiles"),
    ("ProfileAssociations", "ProfileAssociations"),
    ("ProfileAssociation", "ProfileAssociations"),
    ("ProfileResourceAssociations", "ProfileResourceAssociations"),
    ("ProfileResourceAssociation", "ProfileResourceAssociations"),
];

/// The lists that do not say which resource they are about: the member, the list that its elements go to, the member in which
/// a wrapper can name the resource, and what that is.
const LISTS_OF: &[(&str, &str, &str, &str)] = &[
    ("ResourceRecordSets", "ResourceRecordSets", "HostedZoneId", "hosted zone"),
    ("IpAddresses", "ResolverEndpointIpAddresses", "ResolverEndpointId", "Resolver endpoint"),
    ("Domains", "FirewallDomains", "FirewallDomainListId", "domain list"),
    ("HostedZoneSummaries", "HostedZoneSummaries", "VPCId", "VPC"),
    (
        "TransitGatewayRouteTablePropagations",
        "TransitGatewayRouteTablePropagations",
        "TransitGatewayRouteTableId",
        "route table",
    ),
    ("CidrBlocks", "CidrBlocks", "CollectionId", "CIDR collection"),
];

/// The lists that no answer depends on: zonal reads nothing from them.
const NOT_NEEDED: &[&str] = &[
    "RouteTables",
    "PrefixLists",
    "NetworkAcls",
    "Regions",
    "ServiceNames",
    "Associations",
    "FirewallRuleTypes",
    "ResolverRulePolicy",
    "DelegationSets",
];

/// Where an element comes from.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The Region of the file.
    pub region: Option<String>,
    /// The resource that the output is about.
    pub of: String,
}

/// An element of a list.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The element. It is an object, or the text of a list of texts.
    pub value: Value,
    /// Where it comes from.
    pub origin: Arc<Origin>,
}

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Input {
    lists: BTreeMap<&'static str, Vec<Item>>,
    /// The number of files that were read.
    pub files: usize,
    /// The account that the CLI was run for.
    pub account: Option<String>,
}

impl Input {
    /// Reads files, and all JSON files in directories. What cannot be read is in the report.
    pub fn read(paths: &[PathBuf], report: &mut Report) -> Input {
        let mut input = Input::default();
        for path in paths {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => input.read_directory(path, 0, report),
                Ok(_) => input.read_file(path, report),
                Err(error) => report.not_read(path, error.to_string()),
            }
        }
        input
    }

    /// The elements of a list.
    pub fn list(&self, list: &str) -> &[Item] {
        self.lists.get(list).map_or(&[], Vec::as_slice)
    }

    fn read_directory(&mut self, directory: &Path, depth: usize, report: &mut Report) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return report.not_read(directory, error.to_string()),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
            if path.is_dir() {
                match depth < MAX_DEPTH {
                    true => self.read_directory(&path, depth + 1, report),
                    false => report.not_read(&path, format!("more than {MAX_DEPTH} directories deep")),
                }
            } else if is_json {
                self.read_file(&path, report);
            }
        }
    }

    fn read_file(&mut self, path: &Path, report: &mut Report) {
        let mut octets = Vec::new();
        // A file can grow while it is read, and a device has no size.
        let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE_OCTETS + 1).read_to_end(&mut octets));
        if let Err(error) = read {
            return report.not_read(path, error.to_string());
        }
        if octets.len() as u64 > MAX_FILE_OCTETS {
            return report.not_read(path, format!("the file has more than {} MiB", MAX_FILE_OCTETS >> 20));
        }
        self.files += 1;
        self.read_text(path, &octets, report);
    }

    /// Reads the text of a file: one output, or several.
    pub fn read_text(&mut self, path: &Path, octets: &[u8], report: &mut Report) {
        let mut is_empty = true;
        for output in serde_json::Deserializer::from_slice(octets).into_iter::<Value>() {
            is_empty = false;
            match output {
                Ok(Value::Object(output)) => self.add_output(path, output, report),
                Ok(_) => report.not_read(path, "expected the output of an AWS CLI command: a JSON object".into()),
                Err(error) => {
                    let help = "run the AWS CLI with `--output json`";
                    return report.not_read(path, format!("not valid JSON: {error}; {help}"));
                }
            }
        }
        // The CLI prints nothing if an operation has no output.
        if is_empty && !octets.is_empty() && octets.iter().any(|octet| !octet.is_ascii_whitespace()) {
            report.not_read(path, "not valid JSON".into());
        }
    }

    fn add_output(&mut self, path: &Path, mut output: Map<String, Value>, report: &mut Report) {
        let region = path.parent().and_then(|parent| parent.file_name()?.to_str().filter(|name| is_region(name)));
        let region = region.map(String::from);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let of = stem.rsplit('.').next().unwrap_or_default().to_string();
        let origin = |of: String| Arc::new(Origin { file: path.to_path_buf(), region: region.clone(), of });
        let plain = origin(String::new());
        let mut is_known = false;
        if let Some(account) = output.get("Account").and_then(Value::as_str).filter(|_| output.contains_key("Arn")) {
            self.account = Some(account.into());
            is_known = true;
        }
        if output.contains_key("VpcId") && output.keys().any(|member| member.starts_with("Enable")) {
            self.add("VpcAttributes", Value::Object(output), &plain);
            return;
        }
        if output.contains_key("HostedZone") {
            self.add("HostedZone", Value::Object(output), &plain);
            return;
        }
        for (member, list) in LISTS {
            let Some(value) = output.remove(*member) else { continue };
            is_known = true;
            match value {
                Value::Array(items) => {
                    items.into_iter().for_each(|item| self.add_object(member, list, item, &plain, report))
                }
                item => self.add_object(member, list, item, &plain, report),
            }
        }
        for (member, list, wrapper, what) in LISTS_OF {
            let Some(value) = output.remove(*member) else { continue };
            is_known = true;
            let Value::Array(items) = value else {
                report.not_read(path, format!("`{member}` is not a list"));
                continue;
            };
            let named = output.get(*wrapper).and_then(Value::as_str).map(last_part);
            let of = named.or_else(|| Some(last_part(&of)).filter(|of| of.as_str() != stem || looks_like_id(of)));
            let Some(of) = of.filter(|_| !items.is_empty()) else {
                if !items.is_empty() {
                    let message = format!(
                        "`{member}` does not say of which {what}: name the file after it, as in `{}.ID.json`",
                        if stem.is_empty() { member } else { stem }
                    );
                    report.not_read(path, message);
                }
                continue;
            };
            let origin = origin(of);
            items.into_iter().for_each(|item| self.add(list, item, &origin));
        }
        if let Some(tags) = output.remove("Tags") {
            is_known = true;
            self.add_tags(&tags, &origin(last_part(&of)));
        }
        is_known |= NOT_NEEDED.iter().any(|member| output.contains_key(*member));
        if !is_known {
            let members: Vec<&str> = output.keys().take(5).map(String::as_str).collect();
            let message = match members.is_empty() {
                true => "the output is empty".to_string(),
                false => format!("no known output of the AWS CLI: it has the members {}", members.join(", ")),
            };
            report.not_read(path, message);
        }
    }

    fn add_object(&mut self, member: &str, list: &'static str, item: Value, origin: &Arc<Origin>, report: &mut Report) {
        match item {
            Value::Object(_) => self.add(list, item, origin),
            Value::Null => {}
            _ => report.not_read(&origin.file, format!("`{member}` has an element that is not an object")),
        }
    }

    /// The output of `describe-tags`, in which each tag names its resource, or of `list-tags-for-resource`, which has the
    /// tags of the resource that the file is named after.
    fn add_tags(&mut self, tags: &Value, origin: &Arc<Origin>) {
        for tag in tags.as_array().into_iter().flatten() {
            let id = text(tag, "ResourceId").unwrap_or(&origin.of).to_string();
            let set = serde_json::json!({"ResourceId": id, "Tags": [tag]});
            self.add("ResourceTagSets", set, origin);
        }
    }

    fn add(&mut self, list: &'static str, value: Value, origin: &Arc<Origin>) {
        self.lists.entry(list).or_default().push(Item { value, origin: origin.clone() });
    }
}

/// Whether a text has the form of a Region, as in `us-east-1` or `us-gov-west-1`.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [first, middle @ .., last] = &parts[..] else { return false };
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_lowercase());
    (2..=4).contains(&first.len())
        && is_word(first)
        && !middle.is_empty()
        && middle.iter().all(is_word)
        && !last.is_empty()
        && last.bytes().all(|octet| octet.is_ascii_digit())
}

/// Whether a file's name is an identifier alone, as in `Z0123.json`.
fn looks_like_id(text: &str) -> bool {
    let is_zone =
        text.starts_with('Z') && text.bytes().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit());
    is_zone || ["rslvr-", "vpc-", "tgw-rtb-"].iter().any(|prefix| text.starts_with(prefix))
}

/// The last part of a path or ARN: `Z1` of `/hostedzone/Z1`.
pub(super) fn last_part(text: &str) -> String {
    text.rsplit('/').next().unwrap_or(text).to_string()
}

impl Item {
    /// A member that is text, and not empty.
    pub fn text(&self, member: &str) -> Option<&str> {
        text(&self.value, member)
    }

    /// The elements of a member that is a list.
    pub fn list(&self, member: &str) -> &[Value] {
        list(&self.value, member)
    }

    /// A member that is true or false.
    pub fn flag(&self, member: &str) -> Option<bool> {
        self.value.get(member)?.as_bool()
    }
}

/// A member that is text, and not empty.
pub(super) fn text<'v>(value: &'v Value, member: &str) -> Option<&'v str> {
    value.get(member)?.as_str().filter(|text| !text.is_empty())
}

/// The elements of a member that is a list.
pub(super) fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a member that is a list of texts.
pub(super) fn texts<'v>(value: &'v Value, member: &str) -> impl Iterator<Item = &'v str> {
    list(value, member).iter().filter_map(Value::as_str)
}

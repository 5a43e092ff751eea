//! DNS Firewall: lists of domain names, and groups of rules that allow, report or block queries for these names.

use super::{
    Id,
    aws_data::{AwsData, Tags},
    primaries::Primary,
    schema_patterns::{Cidr, DomainName, RecordType},
    words::{is_default, words},
};
use crate::wire::{
    Name,
    rdata::{type_from_text, type_to_text},
};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// A list of domain names: written here, or read from a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FirewallDomainList {
    /// The names. `*.example.com` means the names below `example.com`, without that name itself; `*` means all names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainSpecification>,
    /// The source that the names are read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<FirewallListSource>,
    /// What the rules with this list do while zonal has no valid copy of it.
    #[serde(skip_serializing_if = "is_default")]
    pub on_missing: OnMissing,
    /// A name for people. It changes no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// The source of a list: exactly one of `file`, `url` and `primaries`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [{"required": ["file"]}, {"required": ["url"]}, {"required": ["primaries"]}]))]
pub struct FirewallListSource {
    /// The path of a file, relative to the file of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An `https` or `http` URL. The node's configuration must allow its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Servers to transfer the list from, as a response policy zone (RPZ), in order of preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub primaries: Vec<Primary>,
    /// The name of the response policy zone. Required with `primaries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<DomainName>")]
    pub zone: Option<Name>,
    /// The format. Default: `domains`; with `primaries`, `rpz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<FirewallListFormat>,
    /// The time between two downloads from `url`, in seconds. Default: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60))]
    pub refresh: Option<u32>,
    /// The age in seconds at which a copy of `url` is no longer valid. Default: a copy stays valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60))]
    pub expires_after: Option<u32>,
}

words! {
    /// The formats of lists.
    pub enum FirewallListFormat {
        Domains = "domains",
        SubdomainsIncluded = "subdomains_included",
        Hosts = "hosts",
        Adblock = "adblock",
        Rpz = "rpz",
    }
}

words! {
    /// What a rule does while zonal has no valid copy of its list: `fail` is the fail mode of the VPC, `skip` ignores the
    /// rule.
    #[derive(Default)]
    pub enum OnMissing {
        #[default]
        Fail = "fail",
        Skip = "skip",
    }
}

/// A domain name of a list, as in the Route 53 API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainSpecification {
    /// The name, without a leading `*`.
    pub name: Name,
    /// The names below are meant, and not the name itself.
    pub below_only: bool,
}

impl DomainSpecification {
    /// All names, `*`.
    pub fn all() -> DomainSpecification {
        DomainSpecification { name: Name::root(), below_only: true }
    }

    /// Reads `name`, `*.name` or `*`.
    ///
    /// # Errors
    ///
    /// The reason, in a sentence without a full stop.
    pub fn parse(text: &str) -> Result<DomainSpecification, String> {
        if text == "*" {
            return Ok(DomainSpecification::all());
        }
        let (name, below_only) = match text.strip_prefix('*') {
            None => (text, false),
            Some(rest) => match rest.strip_prefix('.') {
                Some(name) if !name.is_empty() => (name, true),
                _ => {
                    let rest = rest.trim_start_matches(['*', '.']);
                    return Err(format!(
                        "`{text}`: a dot must follow `*`; write `*.{rest}` for the names below {rest}, and `{rest}` for \
                         that name itself"
                    ));
                }
            },
        };
        let name = Name::absolute(name).map_err(|error| format!("`{text}`: {error}"))?;
        if name.labels().any(|label| label == b"*") {
            return Err(format!("`{text}`: `*` can only be the first label"));
        }
        Ok(DomainSpecification { name, below_only })
    }

    /// Whether it means every name.
    pub fn is_all(&self) -> bool {
        self.below_only && self.name.is_root()
    }

    /// Whether it means a name.
    pub fn contains(&self, name: &Name) -> bool {
        match self.below_only {
            true => self.is_all() || name.is_at_or_below(&self.name) && *name != self.name,
            false => *name == self.name,
        }
    }
}

impl fmt::Display for DomainSpecification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.below_only, self.name.is_root()) {
            (true, true) => f.write_str("*"),
            (true, false) => write!(f, "*.{}", self.name),
            // A `*` in front would be read as "the names below".
            (false, _) if self.name.as_wire().get(1) == Some(&b'*') => write!(f, "\\{}", self.name),
            (false, _) => write!(f, "{}", self.name),
        }
    }
}

impl Serialize for DomainSpecification {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DomainSpecification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        DomainSpecification::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for DomainSpecification {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DomainSpecification".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "domain name", "type": "string",
            "pattern": "^(\\.|(([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.)*([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.?)$",
            "not": {"type": "string", "pattern": "^@$|^\\*[^.]"},
        })
    }
}

/// A group of rules, and the VPCs that it filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FirewallRuleGroup {
    /// The rules. The rule with the lowest priority comes first, and the first rule that matches decides.
    pub rules: Vec<FirewallRule>,
    /// The VPCs whose queries the group filters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpc_associations: Vec<FirewallRuleGroupAssociation>,
    /// A name for people. It changes no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// The association of a rule group with a VPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRuleGroupAssociation {
    /// The VPC.
    pub vpc_id: Id,
    /// The position of the group among those of the VPC: the lowest priority comes first. It is unique in the VPC.
    pub priority: u32,
    /// Whether the association is protected: zonal refuses a change that alters or removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mutation_protection: bool,
}

/// A rule of a group. It has exactly one of `firewall_domain_list_id`, `answer_addresses` and `dns_threat_protection`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["firewall_domain_list_id"]}, {"required": ["answer_addresses"]},
    {"required": ["dns_threat_protection", "confidence_threshold"]}
]))]
pub struct FirewallRule {
    /// The name of the rule, which is unique in the group.
    pub name: String,
    /// The position of the rule in the group: the lowest priority comes first. It is unique in the group.
    pub priority: u32,
    /// What zonal does with a query that the rule matches. Each action ends the evaluation.
    pub action: FirewallAction,
    /// The list of names that the rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall_domain_list_id: Option<Id>,
    /// The addresses that the rule matches, in A and AAAA records that other servers answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Cidr>")]
    pub answer_addresses: Vec<IpNet>,
    /// For `answer_addresses`: only answers of the internet resolver count, not those of resolver rules.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internet_only: bool,
    /// The detector whose findings the rule matches: names below the domain of a tunnel, or names of algorithms. ALLOW is not
    /// possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_threat_protection: Option<DnsThreatProtection>,
    /// For `dns_threat_protection`: how much a detector must have seen. LOW finds most, and is wrong most often. The guide to
    /// filtering names has the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_threshold: Option<ConfidenceThreshold>,
    /// The query types that the rule matches. Default: all types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qtypes: Vec<QueryType>,
    /// For BLOCK: the response. Default: NODATA; for an entry of an RPZ list, the response that the entry says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_response: Option<BlockResponse>,
    /// For OVERRIDE: the target of the CNAME record. A leading `*.` puts the query name in front of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<DomainName>")]
    pub block_override_domain: Option<Name>,
    /// For OVERRIDE: the TTL of the CNAME record, in seconds: 0 to 604800.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(max = 604_800))]
    pub block_override_ttl: u32,
    /// For NODATA and NXDOMAIN: the time in seconds for which clients cache the answer: 0 to 604800.
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    #[schemars(range(max = 604_800))]
    pub block_ttl: u32,
    /// Which names of a chain of CNAME and DNAME records the rule inspects.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redirection_action: RedirectionAction,
    /// Whether a match is only counted and logged. The evaluation then goes on as if the rule did not exist.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

words! {
    /// The actions of a rule. ALLOW answers the query, ALERT answers it and reports it, BLOCK replaces the answer.
    pub enum FirewallAction {
        Allow = "ALLOW",
        Alert = "ALERT",
        Block = "BLOCK",
    }
}

words! {
    /// The detectors. `DGA` finds clients that look for names of a domain generation algorithm, `DNS_TUNNELING` finds domains
    /// that clients send data to in the names of queries. zonal cannot detect `DICTIONARY_DGA`: `check` refuses it.
    pub enum DnsThreatProtection {
        Dga = "DGA",
        DictionaryDga = "DICTIONARY_DGA",
        DnsTunneling = "DNS_TUNNELING",
    }
}

words! {
    /// The confidence that a rule with a detector requires. LOW has the most findings and the most errors.
    pub enum ConfidenceThreshold {
        Low = "LOW",
        Medium = "MEDIUM",
        High = "HIGH",
    }
}

words! {
    /// The responses to a blocked query.
    pub enum BlockResponse {
        NoData = "NODATA",
        NxDomain = "NXDOMAIN",
        Override = "OVERRIDE",
    }
}

words! {
    /// The names of a chain that a rule inspects: `INSPECT` means all names. `TRUST` means the first name only; a match with
    /// ALLOW or ALERT then exempts the rest of the chain from all rules.
    #[derive(Default)]
    pub enum RedirectionAction {
        #[default]
        Inspect = "INSPECT",
        Trust = "TRUST",
    }
}

/// The type of a query, by its mnemonic, or `TYPE` and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryType(pub u16);

impl Serialize for QueryType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&type_to_text(self.0))
    }
}

impl<'de> Deserialize<'de> for QueryType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        match type_from_text(&text) {
            Some(number) => Ok(QueryType(number)),
            None => Err(de::Error::custom(format_args!("`{text}` is not a record type, such as AAAA or TYPE65"))),
        }
    }
}

impl JsonSchema for QueryType {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "QueryType".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RecordType::json_schema(generator)
    }
}

fn ten() -> u32 {
    10
}

fn is_ten(ttl: &u32) -> bool {
    *ttl == ten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_names_of_lists() {
        for (text, written, below_only) in [
            ("bad.example", "bad.example.", false),
            ("*.worse.example.", "*.worse.example.", true),
            ("*", "*", true),
            ("_dmarc.odd.example", "_dmarc.odd.example.", false),
            ("*.münchen.example", "*.xn--mnchen-3ya.example.", true),
        ] {
            let read = DomainSpecification::parse(text).unwrap();
            assert_eq!((read.to_string().as_str(), read.below_only), (written, below_only), "{text}");
            assert_eq!(DomainSpecification::parse(written).unwrap(), read);
        }
        for (text, reason) in [
            ("*example.com", "a dot must follow `*`"),
            ("a.*.example", "can only be the first label"),
            ("*.", "a dot must follow `*`"),
            ("", "empty"),
            ("a..b", "empty label"),
        ] {
            let error = DomainSpecification::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest::proptest! {
        /// Any text is a name or an error, and a name is written as it is read.
        #[test]
        fn reads_any_text(text in "(\\*\\.?)?[a-z*_.\\\\0-9é-]{0,30}") {
            if let Ok(read) = DomainSpecification::parse(&text) {
                proptest::prop_assert_eq!(DomainSpecification::parse(&read.to_string()), Ok(read));
            }
        }
    }

    #[test]
    fn contains_the_names_that_the_specification_means() {
        let name = |text: &str| Name::absolute(text).unwrap();
        for (specification, inside, outside) in [
            ("bad.example", &["bad.example", "BAD.example"][..], &["x.bad.example", "example"][..]),
            ("*.bad.example", &["x.bad.example", "y.x.bad.example"], &["bad.example", "xbad.example"]),
            ("*", &["bad.example", "."], &[]),
        ] {
            let specification = DomainSpecification::parse(specification).unwrap();
            assert!(inside.iter().all(|inside| specification.contains(&name(inside))), "{specification}");
            assert!(!outside.iter().any(|outside| specification.contains(&name(outside))), "{specification}");
        }
    }
}

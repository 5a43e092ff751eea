//! Checks of Regions and Availability Zones: unknown Regions, and AZ names in the place of AZ IDs.

use super::{Checker, is_label};
use crate::manifest::{Manifest, Vpc, decode::nearest};
use std::collections::HashMap;

/// The Regions of AWS, for suggestions. Other names of Regions are valid too.
const REGIONS: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-iso-east-1",
    "us-iso-west-1",
    "us-isob-east-1",
    "us-isob-west-1",
    "us-isof-east-1",
    "us-isof-south-1",
    "eu-isoe-west-1",
    "us-west-1",
    "us-west-2",
];

/// Whether a Region is one of AWS.
pub(super) fn is_known(region: &str) -> bool {
    REGIONS.contains(&region)
}

/// The AZ names and AZ IDs of all VPCs.
pub(super) struct AzNames<'a> {
    /// For each AZ name, its AZ ID in the first VPC that has the name, and that VPC.
    ids: HashMap<&'a str, (&'a str, &'a str)>,
    /// The AZ IDs, by the AZ ID in lower case.
    known: HashMap<String, &'a str>,
}

impl<'a> AzNames<'a> {
    fn new(manifest: &'a Manifest) -> AzNames<'a> {
        let mut all = AzNames { ids: HashMap::new(), known: HashMap::new() };
        for (vpc_id, vpc) in &manifest.vpcs {
            for (name, id) in &vpc.availability_zones {
                all.ids.entry(name).or_insert((id, vpc_id));
                all.known.entry(id.to_ascii_lowercase()).or_insert(id);
            }
        }
        all
    }
}

/// Whether both Regions are given and differ.
pub(super) fn is_other_region(one: &str, other: &str) -> bool {
    !one.is_empty() && !other.is_empty() && !one.eq_ignore_ascii_case(other)
}

/// The text without the digits at its end. None if it does not end in a digit.
fn without_digits(text: &str) -> Option<&str> {
    let rest = text.trim_end_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// Whether a text has the form of an AZ name, such as `us-east-1a`, or of a Local Zone, such as
/// `us-west-2-lax-1a`.
fn is_az_name(text: &str) -> bool {
    let Some(region) = text.strip_suffix(|c: char| c.is_ascii_lowercase()) else { return false };
    is_region(region)
        || region
            .rsplit_once('-')
            .is_some_and(|(zone, _)| is_region(zone.trim_end_matches(char::is_alphabetic).trim_end_matches('-')))
}

/// Whether a text has the form of a Region: words of letters, and a number.
fn is_region(text: &str) -> bool {
    let Some(words) = without_digits(text).and_then(|words| words.strip_suffix('-')) else { return false };
    words.split('-').count() >= 2
        && words.split('-').all(|word| word.len() >= 2 && word.bytes().all(|b| b.is_ascii_lowercase()))
}

/// Whether a text has the form of an AZ ID, such as `use1-az1` or `usw2-lax1-az1`.
fn is_az_id(text: &str) -> bool {
    let Some((front, last)) = text.rsplit_once('-') else { return false };
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    last.strip_prefix("az").is_some_and(is_number) && without_digits(front).is_some() && is_label(front)
}

impl<'a> Checker<'a> {
    /// The AZ names of all VPCs. They are computed once.
    fn az_names_of_all(&mut self) -> &AzNames<'a> {
        let manifest = self.manifest;
        self.az_names.get_or_insert_with(|| AzNames::new(manifest))
    }

    /// Warns about a Region that is similar to a Region of AWS.
    pub(super) fn region(&mut self, kind: &'static str, id: &str, region: &str) {
        if region.is_empty() || REGIONS.contains(&region) {
            return;
        }
        // A new Region of AWS has the words of a known one and another number.
        let stem = |region: &str| without_digits(region).map(str::to_string);
        if is_region(region) && REGIONS.iter().any(|known| stem(known) == stem(region)) {
            return;
        }
        let spelling = region.trim().replace([' ', '_'], "-");
        let spelling = match is_az_name(&spelling) {
            true => &spelling[..spelling.len() - 1],
            false => &spelling,
        };
        let found = REGIONS.iter().find(|known| known.eq_ignore_ascii_case(spelling)).copied();
        if region.len() > 3
            && let Some(nearest) = found.or_else(|| nearest(spelling, REGIONS.iter().copied()))
        {
            self.warning(kind, id, "region", format!("`{region}` is not a known Region"));
            self.help(format!("did you mean `{nearest}`?"));
        }
    }

    /// Checks the AZ names and AZ IDs of a VPC: they are not swapped, and the names are in the
    /// VPC's Region.
    pub(super) fn az_names(&mut self, id: &str, vpc: &'a Vpc) {
        const KIND: &str = "vpcs";
        for (name, az) in &vpc.availability_zones {
            let field = format!("availability_zones.{name}");
            let swapped = is_az_id(name) || vpc.availability_zones.get(az).is_some_and(|_| az != name);
            if is_az_id(name) && !is_az_id(az) || is_az_name(az) && !is_az_name(name) {
                self.error(KIND, id, field, format!("`{name}` and `{az}` are swapped: the key is the AZ name"));
                self.help(format!("write `{az}: {name}`"));
            } else if swapped || is_az_name(az) && az != name {
                let message = match is_az_id(name) {
                    true => format!("`{name}` is an AZ ID; the key must be an AZ name"),
                    false => format!("`{az}` is an AZ name; the value must be an AZ ID"),
                };
                self.error(KIND, id, field, message);
                self.help("write `availability_zones: {us-east-1a: use1-az1}`");
            } else if is_az_name(az) {
                self.warning(KIND, id, field, format!("`{az}` has the form of an AZ name; the value must be an AZ ID"));
                self.help("an AZ ID, such as use1-az1, stands for the same AZ in every account");
            } else if is_az_name(name) && is_region(&vpc.region) && !name.starts_with(&*vpc.region) {
                self.warning(KIND, id, field, format!("`{name}` is not an AZ of {}, the VPC's Region", vpc.region));
            }
        }
    }

    /// Checks that the VPCs of an account have the same AZ ID for each AZ name.
    pub(super) fn az_maps(&mut self) {
        let manifest = self.manifest;
        let mut first: HashMap<(&str, &str), (&str, &str)> = HashMap::new();
        for (id, vpc) in &manifest.vpcs {
            if vpc.owner_id.is_empty() {
                continue;
            }
            for (name, az) in &vpc.availability_zones {
                let (other_az, other) = *first.entry((&vpc.owner_id, name)).or_insert((az, id));
                if other_az != az {
                    let message = format!(
                        "`{name}` is `{az}` here, but `{other_az}` in `{other}` of the same account {}",
                        vpc.owner_id
                    );
                    self.warning("vpcs", id, format!("availability_zones.{name}"), message);
                    self.help(
                        "an account has one AZ ID for each AZ name; `aws ec2 describe-availability-zones` shows it",
                    );
                }
            }
        }
    }

    /// Checks an AZ ID. Returns whether a problem was found: an error if it is an AZ name of a VPC.
    /// `vpcs` are the VPCs whose names have precedence.
    pub(super) fn az_id(&mut self, (kind, id): (&'static str, &str), field: String, az: &str, vpcs: &[&str]) -> bool {
        let manifest = self.manifest;
        let all = self.az_names_of_all();
        let spelling = all.known.get(&az.to_ascii_lowercase()).copied();
        if spelling == Some(az) {
            return false;
        }
        let near = vpcs.iter().filter_map(|vpc| manifest.vpcs.get_key_value(vpc));
        let mut of_near = near.filter_map(|(id, vpc)| Some((vpc.availability_zones.get(az)?.as_str(), id.as_str())));
        let named = of_near.next().or_else(|| all.ids.get(az).copied());
        match (named, spelling) {
            (Some((known, vpc)), _) => {
                self.error(kind, id, field, format!("`{az}` is an AZ name; expected an AZ ID"));
                self.help(format!("write `{known}`, which has this name in `{vpc}`"));
                return true;
            }
            (None, Some(known)) => {
                self.warning(kind, id, field, format!("`{az}` is not the AZ ID `{known}`: the case of AZ IDs matters"));
                self.help(format!("write `{known}`"));
            }
            (None, None) if is_az_name(az) => {
                self.warning(kind, id, field, format!("`{az}` has the form of an AZ name; expected an AZ ID"));
                self.help("an AZ ID, such as use1-az1, stands for the same AZ in every account; add the name to `availability_zones` of the VPC");
            }
            (None, None) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_names_from_identifiers() {
        for name in ["us-east-1a", "eu-west-1b", "us-gov-west-1a", "us-west-2-lax-1a", "eusc-de-east-1c"] {
            assert!(is_az_name(name) && !is_az_id(name) && !is_region(name), "{name}");
        }
        for id in ["use1-az1", "euw1-az3", "usw2-lax1-az1", "usgw1-az2"] {
            assert!(is_az_id(id) && !is_az_name(id), "{id}");
        }
        for region in REGIONS {
            assert!(is_region(region) && !is_az_name(region) && !is_az_id(region), "{region}");
        }
        for other in ["", "a", "az1", "r-a", "rack-7", "zone-b", "dc1", "fra-1-a", "us-east-1"] {
            assert!(!is_az_name(other) && !is_az_id(other), "{other}");
        }
    }
}

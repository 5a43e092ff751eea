//! The filters of lists: names with values, of which one has to match.

use super::{Parameters, refusal_code};
use crate::aws::{codec::server::ServiceError, model::Service};
use serde_json::Value;

/// The filters that a list knows: the name of a filter, and the path of the member that it compares.
pub(super) type Known = &'static [(&'static str, &'static str)];

/// The maximum number of values of a filter, as in AWS.
const MAX_VALUES: usize = 200;
/// The longest value of a filter. A comparison takes the time of its length times that of the compared text.
const MAX_VALUE_OCTETS: usize = 1024;

/// The filters of a request.
pub(super) struct Filters<'a> {
    has_wildcards: bool,
    filters: Vec<(Kind<'a>, Vec<&'a str>)>,
}

enum Kind<'a> {
    /// The member at a path.
    Member(&'static str),
    /// The value of a tag.
    Tag(&'a str),
    /// The key of a tag.
    TagKey,
    /// The value of any tag.
    TagValue,
}

impl<'a> Filters<'a> {
    /// The filters of a request. In EC2, values can have wildcards and tags can be compared.
    ///
    /// # Errors
    ///
    /// A filter is unknown.
    pub fn of(service: Service, parameters: Parameters<'a>, known: Known) -> Result<Filters<'a>, ServiceError> {
        let mut filters = Vec::new();
        for filter in parameters.items("Filters") {
            let filter = Parameters(filter);
            let name = filter.text("Name");
            let member = known.iter().find(|(known, _)| *known == name).map(|(_, path)| Kind::Member(path));
            let kind = member.or_else(|| match (service, name.strip_prefix("tag:")) {
                (Service::Ec2, Some(key)) => Some(Kind::Tag(key)),
                (Service::Ec2, None) if name == "tag-key" => Some(Kind::TagKey),
                (Service::Ec2, None) if name == "tag-value" => Some(Kind::TagValue),
                _ => None,
            });
            let kind = kind.ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
                let message = format!("The filter '{name}' is invalid: zonal knows {}", names.join(", "));
                ServiceError::new(service, refusal_code(service, ""), message)
            })?;
            let values = filter.texts("Values");
            if values.len() > MAX_VALUES || values.iter().any(|value| value.len() > MAX_VALUE_OCTETS) {
                let message = format!(
                    "The filter '{name}' is invalid: a filter has at most {MAX_VALUES} values of at most {MAX_VALUE_OCTETS} octets"
                );
                return Err(ServiceError::new(service, refusal_code(service, ""), message));
            }
            filters.push((kind, values));
        }
        Ok(Filters { has_wildcards: service == Service::Ec2, filters })
    }

    /// Whether an item matches all filters.
    pub fn matches(&self, item: &Value) -> bool {
        self.filters.iter().all(|(kind, values)| {
            let is_match = |text: &str| {
                values
                    .iter()
                    .any(|value| if self.has_wildcards { matches_wildcard(value, text) } else { *value == text })
            };
            let tags = || item.get("Tags").and_then(Value::as_array).into_iter().flatten().map(Parameters);
            match kind {
                Kind::Member(path) => any(item, path, &is_match),
                Kind::Tag(key) => tags().any(|tag| tag.text("Key") == *key && is_match(tag.text("Value"))),
                Kind::TagKey => tags().any(|tag| is_match(tag.text("Key"))),
                Kind::TagValue => tags().any(|tag| is_match(tag.text("Value"))),
            }
        })
    }
}

/// Whether a member at a path matches. A path goes through the members of lists.
fn any(value: &Value, path: &str, is_match: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| any(item, path, is_match)),
        Value::Object(members) => {
            let (name, rest) = path.split_once('.').unwrap_or((path, ""));
            members.get(name).is_some_and(|value| any(value, rest, is_match))
        }
        Value::String(text) => path.is_empty() && is_match(text),
        Value::Bool(flag) => path.is_empty() && is_match(if *flag { "true" } else { "false" }),
        Value::Number(number) => path.is_empty() && is_match(&number.to_string()),
        Value::Null => false,
    }
}

/// Whether a text matches a pattern with `*` for any characters, `?` for one, and `\` for a literal next one.
fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // The last `*`: where it is, and where the text after it begins.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some('\\') if pattern.get(at + 1) == text.get(from) => (at, from) = (at + 2, from + 1),
            Some('?') => (at, from) = (at + 1, from + 1),
            Some(letter) if *letter != '\\' && text.get(from) == Some(letter) => (at, from) = (at + 1, from + 1),
            _ => match star {
                Some((after, begin)) => {
                    (at, from) = (after, begin + 1);
                    star = Some((after, begin + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::matches_wildcard;

    #[test]
    fn matches_wildcards() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*b*b*", "abab", true),
            ("a?c", "abc", true),
            ("a?", "a", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ] {
            assert_eq!(matches_wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }
}

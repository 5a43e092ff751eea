//! Registered domains: the name that an owner has registered below a public suffix, such as `example.co.uk`.

use crate::wire::query::LookupName;
use psl::{Psl, Type};

/// Which part of a name is its registered domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The number of labels in front of the registered domain.
    pub below: usize,
    /// A registry hands out the names below the public suffix. False for suffixes that companies and private networks use.
    pub is_public: bool,
}

/// The registered domain of a name, by the public suffix list. `None` for a public suffix itself, and for a single label.
pub fn registered(name: &LookupName) -> Option<Registered> {
    let count = name.labels();
    let info = psl::List.find((0..count).rev().map(|index| name.label(index)));
    // The suffix as text: its labels with a dot between each two of them.
    let (mut octets, mut labels) = (0, 0);
    while octets < info.len && labels < count {
        labels += 1;
        octets += name.label(count - labels).len() + usize::from(labels > 1);
    }
    let below = count.checked_sub(labels + 1).filter(|_| labels > 0)?;
    Some(Registered { below, is_public: info.typ == Some(Type::Icann) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, name::name_text};

    #[test]
    fn finds_the_registered_domain_below_each_kind_of_suffix() {
        for (name, expected, is_public) in [
            ("www.example.com", Some("example.com."), true),
            ("example.com", Some("example.com."), true),
            ("a.b.example.co.uk", Some("example.co.uk."), true),
            ("d111111abcdef8.cloudfront.net", Some("d111111abcdef8.cloudfront.net."), false),
            ("x.bucket.s3.amazonaws.com", Some("bucket.s3.amazonaws.com."), false),
            ("db.corp.internal", Some("corp.internal."), false),
            ("com", None, false),
            ("co.uk", None, false),
            ("localhost", None, false),
            (".", None, false),
        ] {
            let name = LookupName::new(Name::absolute(name).unwrap().as_wire()).unwrap();
            let found = registered(&name);
            assert_eq!(found.map(|found| name_text(name.suffix(found.below))).as_deref(), expected);
            assert_eq!(found.is_some_and(|found| found.is_public), is_public, "{expected:?}");
        }
    }
}

//! Enumerations of words, and the text forms of [`Name`] and [`PrivateDnsScope`].

use super::{
    record_lints::octal_escape,
    schema_patterns::words_schema,
    types::{Id, PrivateDnsScope},
};
use crate::wire::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt};

/// Whether a member has the default value of its type, so that it is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Defines an enumeration whose variants are words. They are read in any case, and written as
/// given.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// All words, in the spelling in which they are written.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the variant.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                $(if text.eq_ignore_ascii_case($word) { return Ok($name::$variant); })+
                Err(serde::de::Error::unknown_variant(&text, $name::WORDS))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::manifest::schema_patterns::words_schema($name::WORDS)
            }
        }
    };
}
pub(crate) use words;

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        let name = Name::absolute(&text).map_err(de::Error::custom)?;
        match octal_escape(text.as_bytes()) {
            Some((message, help)) => Err(de::Error::custom(format_args!("{message}; {help}"))),
            None => Ok(name),
        }
    }
}

impl Serialize for PrivateDnsScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PrivateDnsScope::Vpc => serializer.serialize_str("vpc"),
            PrivateDnsScope::Connected => serializer.serialize_str("connected"),
            PrivateDnsScope::Vpcs(ids) => ids.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PrivateDnsScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PrivateDnsScope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`vpc`, `connected` or a list of VPC IDs")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PrivateDnsScope, E> {
                match text.to_ascii_lowercase().as_str() {
                    "vpc" => Ok(PrivateDnsScope::Vpc),
                    "connected" => Ok(PrivateDnsScope::Connected),
                    _ => Err(E::unknown_variant(text, &["vpc", "connected"])),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<PrivateDnsScope, A::Error> {
                let mut ids: Vec<Id> = Vec::new();
                while let Some(id) = list.next_element()? {
                    ids.push(id);
                }
                Ok(PrivateDnsScope::Vpcs(ids))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PrivateDnsScope {
    fn schema_name() -> Cow<'static, str> {
        "PrivateDnsScope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            words_schema(&["vpc", "connected"]),
            {"type": "array", "items": {"type": "string"}},
        ]})
    }
}

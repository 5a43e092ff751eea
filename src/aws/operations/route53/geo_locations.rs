//! The places that geolocation record sets can name: continents, countries, and states of the United States.

use super::hosted_zones::error;
use crate::aws::{
    model::Service::Route53,
    operations::{Context, Entry, Parameters, ReadResult, object, table::read},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The operations of places.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53, "GetGeoLocation", get, "ContinentCode CountryCode SubdivisionCode"),
    read(Route53, "ListGeoLocations", list_all, "StartContinentCode StartCountryCode StartSubdivisionCode MaxItems"),
];

/// The number of places on a page: by default, and at most.
const MAX_ITEMS: usize = 100;

const CONTINENTS: [(&str, &str); 7] = [
    ("AF", "Africa"),
    ("AN", "Antarctica"),
    ("AS", "Asia"),
    ("EU", "Europe"),
    ("NA", "North America"),
    ("OC", "Oceania"),
    ("SA", "South America"),
];

/// A code or a pair of codes `US-NY`, and a name, on each line.
const PLACES: &str = include_str!("places.txt");

/// The codes of a place: continent, country and subdivision. Continents come first in lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Codes<'c> {
    Continent(&'c str),
    Country(&'c str, &'c str),
}

/// All places, with their names.
fn places() -> BTreeMap<Codes<'static>, &'static str> {
    let continents = CONTINENTS.iter().map(|(code, name)| (Codes::Continent(code), *name));
    let lines = PLACES.lines().filter(|line| !line.starts_with('#'));
    let others = lines.filter_map(|line| {
        let (codes, name) = line.split_once(' ')?;
        let (country, subdivision) = codes.split_once('-').unwrap_or((codes, ""));
        Some((Codes::Country(country, subdivision), name))
    });
    continents.chain(others).chain([(Codes::Country("*", ""), "Default")]).collect()
}

/// A place in the form of Route 53.
fn value(places: &BTreeMap<Codes<'static>, &'static str>, codes: Codes, name: &str) -> Value {
    match codes {
        Codes::Continent(code) => json!({"ContinentCode": code, "ContinentName": name}),
        Codes::Country(code, "") => json!({"CountryCode": code, "CountryName": name}),
        Codes::Country(code, subdivision) => object(json!({
            "CountryCode": code, "CountryName": places.get(&Codes::Country(code, "")),
            "SubdivisionCode": subdivision, "SubdivisionName": name,
        })),
    }
}

/// The codes that a request names. None if it names none.
fn codes<'p>(parameters: Parameters<'p>, prefix: &str) -> Option<Codes<'p>> {
    let given = |member: &str| parameters.given_text(&format!("{prefix}{member}"));
    match (given("ContinentCode"), given("CountryCode")) {
        (_, Some(country)) => Some(Codes::Country(country, given("SubdivisionCode").unwrap_or_default())),
        (Some(continent), None) => Some(Codes::Continent(continent)),
        (None, None) => None,
    }
}

fn get(_: &Context, parameters: Parameters) -> ReadResult {
    let codes = codes(parameters, "").unwrap_or(Codes::Country("*", ""));
    let places = places();
    let name = places.get(&codes).ok_or_else(|| error("NoSuchGeoLocation", "The geographic location is not supported"));
    Ok(json!({"GeoLocationDetails": value(&places, codes, name?)}))
}

fn list_all(_: &Context, parameters: Parameters) -> ReadResult {
    let limit = parameters.limit("MaxItems", MAX_ITEMS, MAX_ITEMS);
    let limit = limit.ok_or_else(|| error("InvalidInput", "MaxItems: expected a number above 0"))?;
    let places = places();
    let start = codes(parameters, "Start").unwrap_or(Codes::Continent(""));
    let mut rest = places.iter().filter(|(codes, _)| **codes >= start);
    let shown: Vec<Value> = rest.by_ref().take(limit).map(|(codes, name)| value(&places, *codes, name)).collect();
    let mut result = json!({"GeoLocationDetailsList": shown, "IsTruncated": false, "MaxItems": limit.to_string()});
    if let Some((next, _)) = rest.next() {
        result["IsTruncated"] = true.into();
        match *next {
            Codes::Continent(code) => result["NextContinentCode"] = code.into(),
            Codes::Country(code, subdivision) => {
                result["NextCountryCode"] = code.into();
                if !subdivision.is_empty() {
                    result["NextSubdivisionCode"] = subdivision.into();
                }
            }
        }
    }
    Ok(result)
}

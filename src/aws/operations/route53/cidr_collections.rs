//! The reads of CIDR collections.

use super::hosted_zones::error;
use crate::{
    aws::{
        model::Service,
        operations::{Context, Parameters, ReadResult, filters::Known, list, start},
    },
    manifest::CidrCollection,
};
use serde_json::json;

/// The error code for a token of another list, and the maximum number of items on a page.
const LIST: (Service, &str, usize) = (Service::Route53, "InvalidInput", 100);
/// The lists have no filters.
const NO_FILTERS: Known = &[];

fn sees(context: &Context, collection: &CidrCollection) -> bool {
    context.sees(collection.aws.text("owner_id").unwrap_or_default())
}

pub(super) fn list_cidr_collections(context: &Context, parameters: Parameters) -> ReadResult {
    list(LIST, parameters, "CidrCollections", NO_FILTERS, |after| {
        let collections = context.manifest().cidr_collections.range_from(start(after));
        collections.filter(|(_, collection)| sees(context, collection)).map(|(id, collection)| {
            let name = collection.name.as_deref().unwrap_or(id);
            // zonal keeps no versions.
            let value =
                json!({"Arn": format!("arn:aws:route53:::cidrcollection/{id}"), "Id": id, "Name": name, "Version": 1});
            (id.to_string(), value)
        })
    })
}

pub(super) fn list_cidr_blocks(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, wanted) = (parameters.text("CollectionId"), parameters.given_text("LocationName"));
    let found = context.manifest().cidr_collections.get(id);
    let Some(collection) = found.filter(|collection| sees(context, collection)) else {
        return Err(error("NoSuchCidrCollectionException", format!("There is no CIDR collection {id}")));
    };
    if let Some(location) = wanted.filter(|location| !collection.locations.contains_key(*location)) {
        return Err(error(
            "NoSuchCidrLocationException",
            format!("The CIDR collection {id} has no location {location}"),
        ));
    }
    let locations = collection.locations.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let blocks = locations.flat_map(|(name, blocks)| blocks.iter().map(move |block| (name, block)));
    let mut all: Vec<_> = blocks
        .map(|(name, block)| {
            (format!("{name}\t{block}"), json!({"CidrBlock": block.to_string(), "LocationName": name}))
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    list(LIST, parameters, "CidrBlocks", NO_FILTERS, |after| {
        let first = after.map_or(0, |after| all.partition_point(|(key, _)| key.as_str() <= after));
        all.into_iter().skip(first)
    })
}

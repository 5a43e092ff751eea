//! The resources of one kind, as a persistent map: a copy shares its content with the original, and
//! the difference of two copies is found in time proportional to the difference.

use super::Id;
use imbl::{
    OrdMap,
    ordmap::{self, DiffItem},
    shared_ptr::DefaultSharedPtr,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    ops::{Bound, Index},
    sync::Arc,
};

/// The resources of one kind, by identifier.
pub struct Resources<T>(OrdMap<Id, Same<T>>);

/// A resource that is equal only to the same allocation. Shared parts of two maps need no
/// comparison, and a resource whose names changed their case is a changed resource.
struct Same<T>(Arc<T>);

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Same<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for Same<T> {
    fn clone(&self) -> Same<T> {
        Same(self.0.clone())
    }
}

/// The change of a resource between two maps.
pub struct Change<'a, T> {
    /// The identifier of the resource.
    pub id: &'a Id,
    /// The old resource; none if it is new.
    pub old: Option<&'a Arc<T>>,
    /// The new resource; none if it is deleted.
    pub new: Option<&'a Arc<T>>,
}

/// The resources that are not the same allocation in both maps, in the order of their identifiers.
pub fn changes<'a, T>(old: &'a Resources<T>, new: &'a Resources<T>) -> Vec<Change<'a, T>> {
    let change = |item| match item {
        DiffItem::Add(id, Same(new)) => Change { id, old: None, new: Some(new) },
        DiffItem::Update { old: (_, Same(old)), new: (id, Same(new)) } => Change { id, old: Some(old), new: Some(new) },
        DiffItem::Remove(id, Same(old)) => Change { id, old: Some(old), new: None },
    };
    old.0.diff(&new.0).map(change).collect()
}

/// Whether two maps have the same allocations.
pub fn same_resources<T>(a: &Resources<T>, b: &Resources<T>) -> bool {
    a.0.ptr_eq(&b.0) || (a.len() == b.len() && a.0.diff(&b.0).next().is_none())
}

impl<T> Resources<T> {
    /// The number of resources.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The resource with this identifier.
    pub fn get(&self, id: &str) -> Option<&Arc<T>> {
        self.0.get(id).map(|Same(resource)| resource)
    }

    /// The resource with this identifier, and the identifier in the map.
    pub fn get_key_value(&self, id: &str) -> Option<(&Id, &Arc<T>)> {
        self.0.get_key_value(id).map(|(id, Same(resource))| (id, resource))
    }

    /// Whether there is a resource with this identifier.
    pub fn contains_key(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Adds a resource. Returns the resource that it replaces.
    pub fn insert(&mut self, id: Id, resource: Arc<T>) -> Option<Arc<T>> {
        self.0.insert(id, Same(resource)).map(|Same(old)| old)
    }

    /// Removes a resource and returns it.
    pub fn remove(&mut self, id: &str) -> Option<Arc<T>> {
        self.0.remove(id).map(|Same(old)| old)
    }

    /// All resources, in the order of their identifiers.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self.0.iter())
    }

    /// The identifiers, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Id> + ExactSizeIterator {
        self.0.keys()
    }

    /// The resources without their identifiers, in the order of those.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Arc<T>> + Clone {
        self.iter().map(|(_, resource)| resource)
    }

    /// The resources from the identifier `start` on, in the order of identifiers.
    pub fn range_from<'a>(&'a self, start: Bound<&str>) -> impl Iterator<Item = (&'a Id, &'a Arc<T>)> + use<'a, T> {
        let range = self.0.range::<_, str>((start, Bound::Unbounded));
        range.map(|(id, Same(resource))| (id, resource))
    }
}

/// An iterator over identifiers and resources, in the order of identifiers.
pub struct Iter<'a, T>(ordmap::Iter<'a, Id, Same<T>, DefaultSharedPtr>);

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (&'a Id, &'a Arc<T>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(id, Same(resource))| (id, resource))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Iter(self.0.clone())
    }
}

impl<T> Index<&str> for Resources<T> {
    type Output = Arc<T>;

    fn index(&self, id: &str) -> &Arc<T> {
        &self.0[id].0
    }
}

impl<'a, T> IntoIterator for &'a Resources<T> {
    type Item = (&'a Id, &'a Arc<T>);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> FromIterator<(Id, Arc<T>)> for Resources<T> {
    fn from_iter<I: IntoIterator<Item = (Id, Arc<T>)>>(all: I) -> Resources<T> {
        Resources(all.into_iter().map(|(id, resource)| (id, Same(resource))).collect())
    }
}

impl<T> Clone for Resources<T> {
    fn clone(&self) -> Resources<T> {
        Resources(self.0.clone())
    }
}

impl<T> Default for Resources<T> {
    fn default() -> Resources<T> {
        Resources(OrdMap::new())
    }
}

impl<T: PartialEq> PartialEq for Resources<T> {
    fn eq(&self, other: &Resources<T>) -> bool {
        self.len() == other.len() && self.iter().eq(other)
    }
}

impl<T: fmt::Debug> fmt::Debug for Resources<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<T: Serialize> Serialize for Resources<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Resources<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Resources<T>, D::Error> {
        Ok(BTreeMap::<Id, Arc<T>>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl<T: JsonSchema> JsonSchema for Resources<T> {
    fn inline_schema() -> bool {
        BTreeMap::<Id, T>::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        BTreeMap::<Id, T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<Id, T>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn finds_the_differences_of_maps_that_share_content(
            start in 0..2000u16, edits in vec((0..2200u16, any::<bool>()), 0..60), more in vec(0..2200u16, 0..20),
        ) {
            let name = |number: u16| format!("vpce-{:04}", number);
            let old: Resources<u16> = (0..start).map(|number| (name(number * 2 % 2200), Arc::new(number))).collect();
            let mut new = old.clone();
            for (number, is_put) in edits {
                match is_put {
                    true => drop(new.insert(name(number), Arc::new(number))),
                    false => drop(new.remove(&name(number))),
                }
            }
            let mut expected: BTreeMap<Id, (Option<*const u16>, Option<*const u16>)> = BTreeMap::new();
            old.iter().for_each(|(id, value)| expected.entry(id.clone()).or_default().0 = Some(Arc::as_ptr(value)));
            new.iter().for_each(|(id, value)| expected.entry(id.clone()).or_default().1 = Some(Arc::as_ptr(value)));
            expected.retain(|_, (old, new)| old != new);
            let found = changes(&old, &new);
            let found: Vec<_> = found.iter().map(|c| (c.id, (c.old.map(Arc::as_ptr), c.new.map(Arc::as_ptr)))).collect();
            prop_assert_eq!(&found, &expected.iter().map(|(id, both)| (id, *both)).collect::<Vec<_>>());
            prop_assert_eq!(same_resources(&old, &new), expected.is_empty());
            let again: Resources<u16> = new.iter().map(|(id, value)| (id.clone(), value.clone())).collect();
            prop_assert!(same_resources(&new, &again) && new == again);
            let mut other = again;
            more.iter().for_each(|number| drop(other.insert(name(*number), Arc::new(*number))));
            prop_assert_eq!(same_resources(&new, &other), more.is_empty());
        }
    }
}

//! Lists that many views share while they are compiled.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

/// A store of lists. Equal lists are one list in memory.
pub(super) struct UniqueLists<T> {
    lists: HashSet<Arc<[T]>>,
    /// The elements that are in two lists, by the addresses of these lists in memory.
    common: HashMap<[*const T; 2], Arc<[T]>>,
}

impl<T> Default for UniqueLists<T> {
    fn default() -> UniqueLists<T> {
        UniqueLists { lists: HashSet::new(), common: HashMap::new() }
    }
}

impl<T: Eq + Hash> UniqueLists<T> {
    /// Returns the list in memory that is equal to this one.
    pub(super) fn unique(&mut self, list: Vec<T>) -> Arc<[T]> {
        if let Some(known) = self.lists.get(&list[..]) {
            return known.clone();
        }
        let list: Arc<[T]> = list.into();
        self.lists.insert(list.clone());
        list
    }
}

impl<T: Copy + Ord + Hash> UniqueLists<T> {
    /// The elements that are in both of two unique lists, which are in order.
    pub(super) fn common(&mut self, one: &Arc<[T]>, other: &Arc<[T]>) -> Arc<[T]> {
        if Arc::ptr_eq(one, other) {
            return one.clone();
        }
        let key = [one.as_ptr(), other.as_ptr()];
        if let Some(known) = self.common.get(&key) {
            return known.clone();
        }
        let (fewer, more) = if one.len() < other.len() { (one, other) } else { (other, one) };
        let both = fewer.iter().copied().filter(|element| more.binary_search(element).is_ok()).collect();
        let both = self.unique(both);
        self.common.insert(key, both.clone());
        both
    }
}

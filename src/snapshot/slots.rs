//! Lists whose copies share unchanged parts. A copy or a change costs one step per 256 slots.

use std::sync::Arc;

/// The number of slots in a part.
const SLOTS_OF_PART: usize = 256;

/// A list of slots, each with a value or empty.
#[derive(Debug)]
pub struct Slots<T> {
    parts: Vec<Arc<[Option<T>; SLOTS_OF_PART]>>,
    len: u32,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Slots<T> {
        Slots { parts: self.parts.clone(), len: self.len }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { parts: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Slots<T> {
    /// The value in a slot.
    #[inline]
    pub fn get(&self, at: u32) -> Option<&T> {
        self.parts.get(at as usize / SLOTS_OF_PART)?[at as usize % SLOTS_OF_PART].as_ref()
    }

    /// Sets the value of a slot, or empties the slot.
    pub fn set(&mut self, at: u32, value: Option<T>) {
        while self.parts.len() <= at as usize / SLOTS_OF_PART {
            self.parts.push(Arc::new([const { None }; SLOTS_OF_PART]));
        }
        self.len = self.len.max(at + 1);
        Arc::make_mut(&mut self.parts[at as usize / SLOTS_OF_PART])[at as usize % SLOTS_OF_PART] = value;
    }

    /// The number behind the last slot that ever had a value.
    pub fn end(&self) -> u32 {
        self.len
    }

    /// All slots with a value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let all = self.parts.iter().flat_map(|part| part.iter());
        (0..).zip(all).filter_map(|(at, value)| Some((at, value.as_ref()?)))
    }
}

/// A number for each identifier. An identifier keeps its number until it is removed.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    numbers: imbl::OrdMap<String, u32>,
    free: imbl::OrdSet<u32>,
    end: u32,
}

impl Numbers {
    /// The number of an identifier.
    pub fn get(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The number of an identifier. A new identifier gets a free number.
    pub fn number(&mut self, id: &str) -> u32 {
        if let Some(number) = self.get(id) {
            return number;
        }
        let number = self.free.remove_min().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        });
        self.numbers.insert(id.into(), number);
        number
    }

    /// Removes an identifier, and frees its number.
    pub fn remove(&mut self, id: &str) -> Option<u32> {
        let number = self.numbers.remove(id)?;
        self.free.insert(number);
        Some(number)
    }

    /// All numbers, in the order of their identifiers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        self.numbers.values().copied()
    }
}

/// A set of numbers for each identifier.
#[derive(Clone, Debug, Default)]
pub struct Index(imbl::OrdMap<String, imbl::OrdSet<u32>>);

impl Index {
    /// The numbers of an identifier.
    pub fn of(&self, id: &str) -> impl Iterator<Item = u32> {
        self.0.get(id).into_iter().flatten().copied()
    }

    /// All identifiers that have numbers, in order.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Adds a number.
    pub fn add(&mut self, id: &str, number: u32) {
        match self.0.get_mut(id) {
            Some(numbers) => drop(numbers.insert(number)),
            None => drop(self.0.insert(id.into(), imbl::OrdSet::unit(number))),
        }
    }

    /// Removes a number.
    pub fn remove(&mut self, id: &str, number: u32) {
        if let Some(numbers) = self.0.get_mut(id) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.0.remove(id);
            }
        }
    }
}

//! Lists of which a copy shares what did not change: a copy costs a look at each 256th place, and so does a change.

use std::sync::Arc;

/// How many places a part has.
const PART: usize = 256;

/// Values by small numbers.
#[derive(Debug)]
pub struct Slots<T> {
    parts: Vec<Arc<[Option<T>; PART]>>,
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
    /// The value in a place.
    #[inline]
    pub fn get(&self, at: u32) -> Option<&T> {
        self.parts.get(at as usize / PART)?[at as usize % PART].as_ref()
    }

    /// Puts a value in a place, or takes it out.
    pub fn set(&mut self, at: u32, value: Option<T>) {
        while self.parts.len() <= at as usize / PART {
            self.parts.push(Arc::new([const { None }; PART]));
        }
        self.len = self.len.max(at + 1);
        Arc::make_mut(&mut self.parts[at as usize / PART])[at as usize % PART] = value;
    }

    /// Behind all places that have had a value.
    pub fn end(&self) -> u32 {
        self.len
    }

    /// All places that have a value, with that.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let all = self.parts.iter().flat_map(|part| part.iter());
        (0..).zip(all).filter_map(|(at, value)| Some((at, value.as_ref()?)))
    }
}

/// Identifiers with a number each, which they keep as long as they are there.
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

    /// The number of an identifier, which is given out now if it has none.
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

    /// Takes an identifier out. Its number is free for another one.
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

/// Numbers that belong to identifiers, any number of them to each.
#[derive(Clone, Debug, Default)]
pub struct Index(imbl::OrdMap<String, imbl::OrdSet<u32>>);

impl Index {
    /// The numbers that belong to an identifier.
    pub fn of(&self, id: &str) -> impl Iterator<Item = u32> {
        self.0.get(id).into_iter().flatten().copied()
    }

    /// All identifiers that have any, in order.
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

    /// Takes a number out.
    pub fn remove(&mut self, id: &str, number: u32) {
        if let Some(numbers) = self.0.get_mut(id) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.0.remove(id);
            }
        }
    }
}

//! Counts the work of changing zones, so that tests can compare it with the change.

#[cfg(test)]
thread_local!(static DONE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// Counts names or records that are looked at.
#[inline]
pub fn count(_items: usize) {
    #[cfg(test)]
    DONE.with(|done| done.set(done.get() + _items));
}

/// The result of `something`, and how much work this thread has counted meanwhile.
#[cfg(test)]
pub fn of<T>(something: impl FnOnce() -> T) -> (T, usize) {
    let before = DONE.with(std::cell::Cell::get);
    let result = something();
    (result, DONE.with(std::cell::Cell::get) - before)
}

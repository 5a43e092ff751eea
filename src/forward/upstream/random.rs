//! Random octets that nobody can predict, without a system call for each.

use std::cell::RefCell;

const AT_ONCE: usize = 1024;

thread_local! {
    /// Random octets from the kernel, and the number of them that were used.
    static STORE: RefCell<([u8; AT_ONCE], usize)> = const { RefCell::new(([0; AT_ONCE], AT_ONCE)) };
}

/// Random octets. None if the kernel has none.
pub fn octets<const N: usize>() -> Option<[u8; N]> {
    STORE.with_borrow_mut(|(store, used)| {
        if *used + N > AT_ONCE {
            getrandom::fill(store).ok()?;
            *used = 0;
        }
        let taken = store.get_mut(*used..*used + N)?;
        let octets = (&*taken).try_into().ok()?;
        taken.fill(0);
        *used += N;
        Some(octets)
    })
}

/// A random number of 16 bits. None if the kernel has no random octets.
pub fn number() -> Option<u16> {
    octets().map(u16::from_ne_bytes)
}

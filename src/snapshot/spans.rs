//! Ranges of addresses with a value each: they tell how large a prefix around an address has the same value.

use ipnet::IpNet;
use std::net::IpAddr;

/// A value for each address.
#[derive(Debug)]
pub struct Spans<T> {
    /// The first address of each range, with its bits from the left, and the value up to the next range. The first range begins
    /// at 0.
    v4: Box<[(u128, T)]>,
    v6: Box<[(u128, T)]>,
}

/// The bits of an address, from the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => address.into(),
    }
}

/// The bits of the last address of a block. The bits behind an IPv4 address are all set.
fn last(block: &IpNet) -> u128 {
    bits(block.network()) | u128::MAX.checked_shr(block.prefix_len().into()).unwrap_or(0)
}

impl<T: Copy + PartialEq> Spans<T> {
    /// Makes ranges from blocks. The smallest block that contains an address gives its value; of equal blocks, the last one.
    /// Addresses in no block have the value `outside`.
    pub fn new(blocks: impl IntoIterator<Item = (IpNet, T)>, outside: T) -> Spans<T> {
        let (v4, v6): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(block, _)| matches!(block, IpNet::V4(_)));
        Spans { v4: cut(v4, outside), v6: cut(v6, outside) }
    }

    fn of(&self, address: IpAddr) -> &[(u128, T)] {
        match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        }
    }

    /// The value of an address.
    pub fn at(&self, address: IpAddr) -> T {
        let (spans, address) = (self.of(address), bits(address));
        // The first range begins at 0, so there is a range with each address.
        spans[spans.partition_point(|(start, _)| *start <= address).max(1) - 1].1
    }

    /// The length of the shortest prefix around an address in which all addresses have the same value.
    pub fn uniform_len(&self, address: IpAddr) -> u8 {
        let (spans, address) = (self.of(address), bits(address));
        let next = spans.partition_point(|(start, _)| *start <= address);
        let start = spans.get(next - 1).map_or(0, |(start, _)| *start);
        // A prefix does not contain a neighbour if it is longer than their common bits.
        let beyond = |neighbour: u128| (address ^ neighbour).leading_zeros() as u8 + 1;
        let before = if start == 0 { 0 } else { beyond(start - 1) };
        let after = spans.get(next).map_or(0, |(end, _)| beyond(*end));
        before.max(after)
    }

    /// The values in a block, from its first address to its last.
    pub fn within(&self, block: &IpNet) -> impl Iterator<Item = T> {
        let (spans, end) = (self.of(block.addr()), last(block));
        let first = spans.partition_point(|(start, _)| *start <= bits(block.network())) - 1;
        spans[first..].iter().take_while(move |(start, _)| *start <= end).map(|(_, what)| *what)
    }
}

fn cut<T: Copy + PartialEq>(mut blocks: Vec<(IpNet, T)>, outside: T) -> Box<[(u128, T)]> {
    blocks.sort_by_key(|(block, _)| (bits(block.network()), block.prefix_len()));
    let mut spans: Vec<(u128, T)> = vec![(0, outside)];
    let mut add = |start: u128, what: T| {
        spans.pop_if(|(other, _)| *other == start);
        if spans.last().is_none_or(|(_, before)| *before != what) {
            spans.push((start, what));
        }
    };
    // The blocks that contain the current address, the smallest one last.
    let mut open: Vec<(u128, T)> = Vec::new();
    let close = |open: &mut Vec<(u128, T)>, add: &mut dyn FnMut(u128, T), until: u128| {
        while let Some((end, _)) = open.pop_if(|(end, _)| *end < until) {
            if let Some(start) = end.checked_add(1) {
                add(start, open.last().map_or(outside, |(_, what)| *what));
            }
        }
    };
    for (block, what) in blocks {
        let start = bits(block.network());
        close(&mut open, &mut add, start);
        add(start, what);
        open.push((last(&block), what));
    }
    close(&mut open, &mut add, u128::MAX);
    spans.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with a search over every address of a small network.
    #[test]
    fn finds_the_largest_prefix_with_one_value() {
        let mut random = 7u32;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        for v6 in [false, true] {
            let address = |last: u32| -> IpAddr {
                if v6 { format!("fd00::{last:x}").parse().unwrap() } else { [10, 0, 0, last as u8].into() }
            };
            let full = if v6 { 128 } else { 32 };
            for _ in 0..200 {
                let blocks: Vec<(IpNet, u32)> = (0..draw(6))
                    .map(|_| (IpNet::new(address(draw(256)), full - draw(9) as u8).unwrap().trunc(), draw(3)))
                    .collect();
                let spans = Spans::new(blocks.iter().copied(), 0);
                let look_up = |at: u32| {
                    let address = address(at);
                    let holding = blocks.iter().enumerate().filter(|(_, (block, _))| block.contains(&address));
                    holding.max_by_key(|(at, (block, _))| (block.prefix_len(), *at)).map_or(0, |(_, (_, what))| *what)
                };
                let all: Vec<u32> = (0..256).map(look_up).collect();
                let what = |at: u32| all[at as usize];
                for at in 0..256 {
                    let around = |len: u8| {
                        let block = IpNet::new(address(at), len).unwrap().trunc();
                        (0..256).filter(move |other| block.contains(&address(*other)))
                    };
                    let is_uniform = |len: u8| around(len).all(|other| what(other) == what(at));
                    // Addresses beyond the 256 have the value `outside`.
                    let shortest = (full - 8..=full).find(|len| is_uniform(*len)).unwrap();
                    let found = spans.uniform_len(address(at));
                    if shortest > full - 8 || what(at) != 0 {
                        assert_eq!(found, shortest, "{blocks:?} {}", address(at));
                    } else {
                        assert!(found <= shortest, "{blocks:?} {}", address(at));
                    }
                    let len = full - draw(9) as u8;
                    let block = IpNet::new(address(at), len).unwrap().trunc();
                    let mut expected: Vec<u32> = around(len).map(what).collect();
                    expected.dedup();
                    assert_eq!(spans.within(&block).collect::<Vec<_>>(), expected, "{blocks:?} {block}");
                }
            }
        }
    }
}

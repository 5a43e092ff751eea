//! stub
#![allow(missing_docs)]
use super::Name;
use std::{borrow::Cow, ops::Range};
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}
pub fn type_from_text(t: &str) -> Option<u16> {
    Some(match t {
        "A" => 1,
        "CNAME" => 5,
        "AAAA" => 28,
        _ => return None,
    })
}
pub fn type_to_text(t: u16) -> Cow<'static, str> {
    format!("TYPE{t}").into()
}
pub fn parse_text(_t: u16, _s: &str, _o: &Name) -> Result<Box<[u8]>, String> {
    Err("no".into())
}
pub fn names(_t: u16, _r: &[u8]) -> impl Iterator<Item = (Range<usize>, bool)> {
    std::iter::empty()
}
pub fn write(f: &mut impl std::fmt::Write, _t: u16, r: &[u8]) -> std::fmt::Result {
    write!(f, "{r:?}")
}

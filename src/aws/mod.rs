//! The APIs of AWS: what is on the wire, and what it means for the manifest.
//!
//! [`sigv4`] verifies signatures. [`model`] has the service models of AWS, cut down to the operations that zonal knows. [`codec`] translates between the wire
//! and JSON values with AWS's member names, in both directions, by walking the model. There are no types for single
//! operations.
//!
//! [`operations`] has what they mean for the manifest.
//!
//! ```text
//! request -> codec::server::read_request  the operation, and its parameters as a JSON value; checked against the model
//!         -> operations::admit            the handler, if zonal serves the operation and all given parameters
//!         -> Handler::Read                parameters and manifest -> result, as a JSON value
//!            Handler::Write               parameters and manifest -> edits and result, when the change is made
//!         -> codec::server::write_result  the response in the service's protocol
//! ```

use crate::clock::random_seed;

pub mod codec;
pub mod model;
pub mod operations;
pub mod sigv4;

/// A random identifier in the form of a UUID (RFC 9562, 5.4).
pub fn random_uuid() -> String {
    let (one, two) = random_seed();
    let (first, second, third) = (one >> 32, (one >> 16) & 0xffff, one & 0xfff);
    format!("{first:08x}-{second:04x}-4{third:03x}-8{:03x}-{:012x}", two >> 52, two & 0xffff_ffff_ffff)
}

/// Whether a text has the form of an account: 12 digits.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|octet| octet.is_ascii_digit())
}

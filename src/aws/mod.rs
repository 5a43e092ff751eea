//! The APIs of AWS: what is on the wire, and what it means for the manifest.
//!
//! [`model`] has the service models of AWS, cut down to the operations that zonal knows. [`codec`] translates between the wire
//! and JSON values with AWS's member names, in both directions, by walking the model. There are no types for single
//! operations.
//!
//! ```text
//! request -> codec::server::read_request  the operation, and its parameters as a JSON value; checked against the model
//!         -> (handler)                    parameters and manifest -> result, as a JSON value
//!         -> codec::server::write_result  the response in the service's protocol
//! ```

pub mod codec;
pub mod model;

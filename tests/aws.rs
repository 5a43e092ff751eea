//! The APIs of AWS, by AWS's own tools.

mod codec;
mod ec2;
mod etcd;
mod sigv4;
mod sync;
mod tools;
mod writes;

use crate::harness::PYTHON;

//! The APIs of AWS, by AWS's own tools.

mod clients;
mod codec;
mod ec2;
mod etcd;
mod firewall;
mod guide;
mod health_checks;
mod import;
mod moto;
mod profiles;
mod resolver;
mod sigv4;
mod sync;
mod tenants;
mod terraform;
mod tools;
mod writes;
mod zonal_shifts;

use crate::harness::PYTHON;

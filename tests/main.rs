//! The tests that need the whole program: transcripts, topologies of real servers, reloads under load, the documentation; and
//! what checks it with generated worlds: a naive model, other servers, mutated input.

mod allocations;
mod anchors;
mod apply;
mod changes;
mod clock;
mod commands;
mod dashboards;
mod deploy;
mod dhcp;
mod docs;
mod etcd;
mod etcd_access;
mod explain;
mod forwarders;
mod forwarding;
mod fuzz;
mod harness;
mod https;
mod isolation;
mod model;
mod pulses;
mod push;
mod query_log;
mod recursion;
mod reload;
mod restart;
mod scenarios;
mod state;
mod tidy;
mod topologies;
mod transfer_in;
mod transfer_out;
mod transports;
mod unread;
mod watch;

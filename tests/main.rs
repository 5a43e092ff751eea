//! The integration tests, which run the whole program: transcripts, topologies of real servers,
//! reloads under load and the documentation. Generated tests compare it with a naive model and with
//! other servers, and send it mutated input.

mod allocations;
mod anchors;
mod apply;
mod aws;
mod changes;
mod check;
mod clock;
mod commands;
mod dashboards;
mod deploy;
mod dhcp;
mod dnstap;
mod docs;
mod etcd;
mod etcd_access;
mod explain;
mod firewall;
mod firewall_lists;
mod forwarders;
mod forwarding;
mod fuzz;
mod harness;
mod health;
mod https;
mod isolation;
mod journal;
mod metadata;
mod model;
mod profiles;
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

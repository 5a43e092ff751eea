//! zonal: a private DNS resolver for VPCs. It turns a service's name into the address of the endpoint in the client's
//! own Availability Zone. This page is the architecture: how data flows, where things are, and what always holds.
//!
//! # Five nouns, two verbs
//!
//! - **Manifest**: the description of networks, endpoints, zones and rules, as plain serde types with the words of the AWS
//!   API ([`manifest::types`]).
//! - **Snapshot**: the immutable structure that zonal answers from. [`snapshot::compile`] makes it from a manifest. It is
//!   behind the only `ArcSwap` of the program ([`snapshot::published::Published`]).
//! - **View**: the names that the clients of one network see by one path. A view is a few maps. Views share the maps that
//!   are equal, and no name is copied into a view ([`snapshot::views`]).
//! - **Query**: one parsed question, borrowed from the packet ([`wire::query`]).
//! - **Outcome**: the decision about a query: a reply, no reply, or a question to other servers ([`answer::Outcome`]).
//!
//! The first verb is [`answer::answer`]. It is pure and synchronous: no allocation, lock, clock, randomness or log. The
//! caller passes time and rotation as a [`answer::Moment`], and the answers of other servers as
//! [`answer::known::KnownAnswers`], which is usually the cache. All transports, `zonal explain` and the tests call it.
//!
//! The second verb is [`forward::respond`]. It calls `answer`, asks other servers the question that this returns, and calls
//! `answer` again with what they answered, until there is a reply. So no half-made answer lives across an `await`, and
//! every target of a CNAME chain is decided like a first name.
//!
//! # Rooms
//!
//! A room is a top-level module. A room imports only rooms above it in this table, so rooms form no circle. A test compares
//! the third column with the imports.
//!
//! | room | what is in it | imports |
//! | --- | --- | --- |
//! | [`wire`] | `codes` of the protocol; names, record data, queries, replies, responses; PROXY headers; prefixes of `dns64` | |
//! | [`clock`] | the time, and random seeds | |
//! | [`state_file`] | a JSON file in the state directory, which is replaced as a whole | |
//! | [`instruments`] | makers of counters and gauges | |
//! | [`manifest`] | the types; reading (`document`, `decode`, `load`, `collection`, `master`); `record_sets`, whose versions share equal chunks; `record_file`, the records of a large list in a file; `check` and `record_lints`; `connectivity`; `presets` of AWS services | `wire` |
//! | [`snapshot`] | the compiled manifest: `networks`, `forwarders`, `zones`, `endpoints`, `aliases`, `routes`, `views`, `autodefined`, `query_logs`, `firewall` rules and lists; consecutive snapshots share unchanged parts by `slots` and `names` | `manifest`, `wire` |
//! | [`answer`] | `identify`: the client; `resolve`: the resolution algorithm, with the search for the `cut`; `firewall`: which names, addresses and `name_servers` are blocked; answers from a `zone`, an `endpoint`, `autodefined` names or the `cache`; `dns64`; `trace` and `explanation`: the steps for `zonal explain` | `manifest`, `snapshot`, `wire` |
//! | [`aws`] | the APIs of AWS: their `model`, the `codec` between the wire and JSON values, what their `operations` mean for the manifest, and the `networks` that an account may use | `answer`, `clock`, `manifest`, `snapshot`, `wire` |
//! | [`config`] | `zonal.yaml` | `manifest`, `snapshot`, `wire` |
//! | [`log`] | log lines on standard error; no thread waits for the reader | `config` |
//! | [`query_log`] | an `EntrySender` passes entries to the `writer`, which formats them as `json` or `dnstap` for a `sink` | `answer`, `config`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`detect`] | the detectors of DNS Firewall, which look at the names that miss the cache: `tunnels` by a `sketch` of the names below each domain, and clients that look for `generated` names | `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`forward`] | asks other servers for a client's `request`: equal questions once (`single_flight`), `admission` of queries, `upstream` servers, `recursion` from the root; `read` accepts records; `cache`; `lookup` of a name for health checks | `answer`, `clock`, `config`, `detect`, `instruments`, `manifest`, `query_log`, `snapshot`, `state_file`, `wire` |
//! | [`health`] | health checks: a `schedule` of attempts (`probe`), the verdicts that follow (`history`, `isolation`), the verdicts of the `fleet`, and their `store` | `answer`, `clock`, `forward`, `instruments`, `manifest`, `snapshot`, `state_file`, `wire` |
//! | [`explain`] | an answer with its steps, as data | `answer`, `manifest`, `snapshot`, `wire` |
//! | [`difference`] | the answers that two snapshots give differently | `explain`, `manifest`, `snapshot`, `wire` |
//! | [`control_plane`] | sources: a `directory`, `etcd`, or a `change` by HTTP; `prepare` checks and compiles a change, the `guard` holds mass deletions, the `publisher` publishes the snapshot, the `state_store` writes it to disk; `updates` are dynamic updates in journals, `freeze` hands over to another process, `internet` follows `resolv.conf`, `health_keys` follows the keys of health in etcd, `status` reports | `clock`, `config`, `difference`, `health`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`firewall_lists`] | DNS Firewall lists that have a source: `tasks` read files and `fetch` URLs, the `store` keeps copies, `transfers` become entries, and `load` compiles texts into the table of all lists, on a `worker` thread with the policy SCHED_IDLE; `import` downloads a list once for AWS's API | `clock`, `control_plane`, `forward`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`firewall_events`] | sends DNS Firewall events to an HTTP server | `firewall_lists`, `query_log` |
//! | [`transfer`] | zones out: `access`, `tsig`, `outgoing` transfers with the `history` of a zone, `notify`, `update`; zones in: `incoming` follows a `schedule`, asks a `primary`, reads its `answer` and stores `copies`; `notified` takes NOTIFY | `answer`, `clock`, `config`, `control_plane`, `firewall_lists`, `forward`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`listen`] | the transports: `udp`, `stream`, `tls`, `https`, `quic`, `proxy` headers; `dispatch` has the steps of every query around `answer`; `connections`, `limit`, `bodies` and `unread` bound the clients | `answer`, `clock`, `forward`, `instruments`, `manifest`, `query_log`, `snapshot`, `transfer`, `wire` |
//! | [`metrics`] | the metrics page; each room has its own counters and registers them | `clock`, `instruments`, `log` |
//! | [`admin`] | HTTP: probes, metrics, status, cache; `push` takes changes, `journal` shows and drops those of dynamic updates, `access` checks permissions, `aws` is the entrance of AWS's APIs, `admission` and `stall` bound connections, `pages` bounds large responses, `events` streams generations, `explain` explains answers of this server, `openapi` describes the API, `status` is the type that `zonal status` reads | `aws`, `clock`, `config`, `control_plane`, `explain`, `firewall_lists`, `forward`, `health`, `instruments`, `listen`, `manifest`, `metrics`, `snapshot`, `transfer`, `wire` |
//! | [`run`] | builds a server from its parts: sockets, certificates, takeover, systemd | `admin`, `answer`, `clock`, `config`, `control_plane`, `firewall_events`, `firewall_lists`, `forward`, `health`, `instruments`, `listen`, `log`, `manifest`, `metrics`, `query_log`, `snapshot`, `transfer` |
//! | [`cli`] | the commands | `admin`, `aws`, `clock`, `config`, `control_plane`, `difference`, `explain`, `firewall_lists`, `instruments`, `log`, `manifest`, `run`, `snapshot`, `wire` |
//!
//! # The path of a packet
//!
//! ```text
//! packet -> listen::{udp, stream, https, quic}   octets, and Client { source, local, transport }
//!        -> identify::read_sender   takes the PROXY header away, if the sender is a forwarder that has to send one
//!        -> Packet::read            header, question, EDNS; else FORMERR, NOTIMP or no reply
//!        -> Sender::identify        the client: entry point, longest prefix -> view and AZ. An unknown client gets REFUSED.
//!                                   A forwarder's PROXY header or client subnet names its client
//!        -> Resolver::blocks_name   DNS Firewall: the rules of the view, for each name of the chain
//!        -> Resolver::resolve       the cuts: longest match first, then rule, zone, endpoint name, autodefined name
//!             zone         -> node, wildcard, zone cut or DNAME -> record set -> copied from the zone's memory
//!             endpoint     -> its usable interfaces; those in the client's AZ, if there are any
//!             rule         -> the cache's answer, else Outcome::Forward
//!             CNAME target -> resolved like a first name
//!        -> Reply::finish           counts, flags, OPT with cookie, NSID and extended error
//!        -> counters                a plain store in the worker's own memory
//!        -> query_log::EntrySender  if the view is logged: the answer and its QueryLogTrace, into the worker's own ring
//! ```
//!
//! A UDP thread answers from zonal's own names and from the cache. No router fragments its answers
//! (RFC 9715). A task does the rest:
//!
//! ```text
//! Forward -> forward::request       detects loops, joins equal questions, returns a stale answer if no server answers in time
//!         -> forward::upstream      the fastest server that answers, another one if it is slow; UDP, TCP, DoT, DoH, DoQ
//!         -> forward::read          the records of the chain within the route's domain, one entry per name; or a referral
//!         -> detect                 the query's own name, for the detectors of DNS Firewall
//!         -> forward::cache         keyed by route, name, type, DO and CD; limited in octets; keeps failures too
//!         -> answer                 again, from the start
//! ```
//!
//! `answer` refuses queries about whole zones, and signed queries. A task takes such a query from there:
//!
//! ```text
//! AXFR, IXFR -> transfer::access      checks address and key; finds the zone, if several have the name
//!            -> transfer::outgoing    makes each message while the one before is sent
//! UPDATE     -> transfer::update      on the control plane's thread: prerequisites, then record sets
//!            -> control_plane::updates  stores the update in a journal or where the zone's records come from; then serves it
//! ```
//!
//! # The path of a change
//!
//! ```text
//! files -> control_plane::directory   watches; a complete change goes on at once, an incomplete one waits for its other files
//!       -> manifest::load             reads only changed files; problems with file, line and column
//!       -> control_plane::publisher   the only writer
//! etcd  -> control_plane::etcd        a list, then events; one transaction is one change
//! HTTP  -> admin::push                checks who may and what it is; waits for the result
//!       -> manifest::collection       the resources as they were put; invalid ones are set aside, or refuse the change. A zone
//!                                     shares the equal chunks of its record sets with its last version
//!       -> control_plane::publisher
//!
//! publisher: manifest::check            checks the part that the change concerns
//!         -> snapshot::compile          networks, zones, endpoints, views; shares unchanged parts with the old snapshot
//!         -> control_plane::state_store on disk, for a start without the control plane: before ArcSwap if a client waits for
//!                                       the result, else after it
//!         -> ArcSwap                    served from now on
//!         -> status, metrics, events    generation, digest, the source's revision
//! ```
//!
//! Zones that zonal copies from other servers take a path of their own. Their copies complete each manifest, and so do the
//! zones of catalogs ([`manifest::catalog`]):
//!
//! ```text
//! primaries -> transfer::incoming        one task per zone: refresh, NOTIFY, expiry
//!           -> control_plane::publisher  one transfer is one generation; an invalid one is refused by itself
//!           -> transfer::copies          written to disk once the zone is served
//! ```
//!
//! With `on_error: refuse`, zonal refuses a manifest with an error as a whole, and serves the last valid one. With
//! `on_error: set_aside`, it serves the last valid version of the resource with the error.
//!
//! # The path of a restart
//!
//! ```text
//! new process -> run::takeover          finds the old process at a path; without one, it starts as usual
//! old         -> control_plane::freeze  all acknowledged changes are on disk, and nothing changes any more
//!             -> run::inherited         passes its sockets and the lock of the state directory to the new process
//! new         -> load, compile, bind    while the old process answers; if this fails, the old process goes on
//!             -> ready                  the old process stops reading; the new process answers and makes changes
//! old         -> listen::connections    serves its open connections until they end
//! ```
//!
//! Under systemd, [`run`] also gives each socket to systemd, which passes it to the next process that it starts.
//!
//! # Invariants
//!
//! 1. One `ArcSwap`, one writer. A query is answered from one snapshot from start to end.
//! 2. `wire`, `snapshot` and `answer` know nothing of sockets, tokio or files.
//! 3. No input of a client can allocate without limit, block another client, or panic.
//! 4. A client sees its own view or REFUSED. The cache keeps answers of other servers under the
//!    [route](snapshot::routes::RouteId) that they came by: two tenants share an answer only if the same rule asks the same
//!    servers.
//! 5. A forwarder's word for its client counts only from a forwarder of the manifest, and only by the snapshot that answers:
//!    by every transport, the PROXY header of each query goes to `answer`.
//! 6. No part of a query is a label of a metric. Labels are zonal's own words, and names from the manifest and the
//!    configuration.
//! 7. Queries are logged only where the manifest says so for their view, or the node's configuration for all. A full log
//!    loses entries; no query waits for it.
//! 8. `unsafe` is in `listen::udp` alone.

pub mod admin;
pub mod answer;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control_plane;
pub mod detect;
pub mod difference;
pub mod explain;
pub mod firewall_events;
pub mod firewall_lists;
pub mod forward;
pub mod health;
pub mod instruments;
pub mod listen;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod query_log;
pub mod run;
pub mod snapshot;
pub mod state_file;
pub mod transfer;
pub mod wire;

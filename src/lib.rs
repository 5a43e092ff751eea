//! zonal: a private DNS resolver for VPCs. It turns a service's name into the address of the endpoint in the asking
//! client's own Availability Zone. This page is the architecture: how data flows, where things are, what must hold.
//!
//! # Five nouns, two verbs
//!
//! - **Manifest**: what is wanted. Plain serde types in the words of the AWS API ([`manifest::types`]).
//! - **Snapshot**: what is served. Immutable, compiled from a manifest ([`snapshot::compile`]), behind the program's only
//!   `ArcSwap` ([`snapshot::published::Published`]).
//! - **View**: how the clients of one network, by one path, see the world: a few maps that are shared with other views
//!   wherever they are equal ([`snapshot::views`]). Names are never copied into views.
//! - **Query**: one parsed question, borrowed from the packet ([`wire::query`]).
//! - **Outcome**: what was decided: a reply, nothing, or whom to ask for which name ([`answer::Outcome`]).
//!
//! [`answer::answer`] is pure and synchronous: no allocation, lock, clock, randomness or log. Time and chance come in as a
//! [`answer::Moment`], and what others have answered as something that is [`answer::known::Known`]: the cache, most often.
//! All transports call it, and `zonal explain` and the tests too. The second verb, [`forward::respond`], calls it again and
//! again: each time that it says whom to ask, they are asked, and what they said is known the next time. So nothing of a
//! half-made answer is carried over an await, and every target of a chain is decided anew.
//!
//! # Rooms
//!
//! A room is a top-level module. A room imports only rooms above it in this table, so that rooms form no circle. A test compares
//! the third column with the imports.
//!
//! | room | what is in it | imports |
//! | --- | --- | --- |
//! | [`wire`] | `codes` of the protocol; names, record data, queries, replies, responses; PROXY headers | |
//! | [`clock`] | the time, and random seeds | |
//! | [`instruments`] | makers of counters and gauges | |
//! | [`manifest`] | types; reading (`document`, `decode`, `load`, `collection`, `master`); `check` and `record_lints`; `connectivity`; `presets` of AWS services | `wire` |
//! | [`snapshot`] | what is compiled: `networks`, `forwarders`, `zones`, `endpoints`, `aliases`, `routes`, `views`, `autodefined`, `query_logs`; `slots` and `names` share what does not change | `manifest`, `wire` |
//! | [`answer`] | the client (`who`), the search for what is responsible (`resolve`, `cut`), the answer (`zone`, `endpoint`, `autodefined`, `known`), `dns64`, the steps for `explain` (`trace`, `why`) | `manifest`, `snapshot`, `wire` |
//! | [`config`] | `zonal.yaml` | `manifest`, `snapshot`, `wire` |
//! | [`log`] | log lines on standard error; no thread waits for the reader | `config` |
//! | [`query_log`] | entries go through a `Tap` to the `writer`, which makes `json` or `dnstap` and passes them to a `sink` | `answer`, `config`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`forward`] | asks other servers (`ask`): equal questions once (`flights`), `admission`, `upstream` servers, `recursion` from the root; `read`s answers; `cache` | `answer`, `clock`, `config`, `instruments`, `manifest`, `query_log`, `snapshot`, `wire` |
//! | [`explain`] | the steps of an answer, as data | `answer`, `clock`, `forward`, `manifest`, `snapshot`, `wire` |
//! | [`difference`] | the answers that differ between two snapshots | `explain`, `manifest`, `snapshot`, `wire` |
//! | [`control_plane`] | sources: a `directory`, `etcd`, or `change`s by HTTP; the `keeper` publishes what `decide` makes of a change, the `guard` holds mass deletions, the `store` keeps, `edits` are dynamic updates, kept in a `journal`, `freeze` hands over, `internet` follows `resolv.conf`, `status` reports | `clock`, `config`, `difference`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`transfer`] | zones out: `access`, `tsig`, `outgoing` transfers from the `history`, `notify`, `update`; zones in: `inward` follows a `schedule`, asks a `primary`, reads its `answer`, keeps `copies`; `notified` takes NOTIFY | `answer`, `clock`, `config`, `control_plane`, `forward`, `instruments`, `manifest`, `snapshot`, `wire` |
//! | [`listen`] | the transports: `udp`, `stream`, `tls`, `https`, `quic`, `proxy` headers; `dispatch` is what happens to every query around `answer`; `connections`, `limit` and `unread` bound what clients take | `answer`, `clock`, `forward`, `instruments`, `manifest`, `query_log`, `snapshot`, `transfer`, `wire` |
//! | [`metrics`] | the page of metrics; each room owns its counters and registers them | `clock`, `instruments`, `log` |
//! | [`admin`] | HTTP: probes, metrics, status, cache; `push` takes changes, `journal` shows and drops those of dynamic updates, `access` checks who may, `places` and `patient` bound requests, `events` streams generations, `openapi` describes the API | `clock`, `config`, `control_plane`, `explain`, `forward`, `instruments`, `listen`, `manifest`, `metrics`, `snapshot`, `wire` |
//! | [`run`] | wires a server together: sockets, certificates, takeover, systemd | `admin`, `answer`, `clock`, `config`, `control_plane`, `forward`, `instruments`, `listen`, `log`, `manifest`, `metrics`, `query_log`, `snapshot`, `transfer` |
//! | [`cli`] | the commands | `admin`, `clock`, `config`, `control_plane`, `difference`, `explain`, `log`, `manifest`, `run`, `snapshot`, `wire` |
//!
//! # The way of a packet
//!
//! ```text
//! packet -> listen::{udp, stream, https, quic}   bytes, and Client { source, local, transport }
//!        -> who::read               from a forwarder that speaks by PROXY protocol: the header is taken away
//!        -> Packet::read            header, question, EDNS; else FORMERR, NOTIMP, or silence
//!        -> Who::identify           who asks: entry point, longest prefix -> view and AZ; nobody we know -> REFUSED; a forwarder's
//!                                   PROXY header or client subnet stands for its client
//!        -> cut::next_cut           longest suffix, then rank: rule, zone, endpoint name, autodefined
//!             zone         -> node, wildcard, cut, DNAME -> record set -> copied out of the zone's block
//!             endpoint     -> the interfaces that are usable, in the client's AZ if it has some there
//!             route        -> what is known of the name, else Outcome::Forward
//!             CNAME target -> decided anew
//!        -> Reply::finish           counts, flags, OPT with cookie, NSID, extended error
//!        -> counters                a plain store in the worker's own block
//!        -> query_log::Tap          where the view is logged: what was noted, and the answer, into the worker's own ring
//! ```
//! A UDP thread answers by itself what is ours or in the cache. The rest goes on in a task:
//!
//! ```text
//! Forward -> forward::ask           a loop? on its way already? something that has ended, if nobody answers in time?
//!         -> forward::upstream      the fastest server that is up, another one when it takes too long; UDP, TCP, DoT, DoH, DoQ
//!         -> forward::read          the links of the chain that are within the route's domain, one entry each; or a referral
//!         -> forward::cache         keyed by route, name, type, DO and CD; a budget in octets; failures beside answers
//!         -> answer                 once more, from the start
//! ```
//!
//! What `answer` refuses may be about a zone as a whole: then a task goes on with it. So may what is signed:
//!
//! ```text
//! AXFR, IXFR -> transfer::access      who may: address and key; which zone, of several with one name
//!            -> transfer::outgoing    message by message, each made when the one before is on its way
//! UPDATE     -> transfer::update      what it comes to, on the control plane's thread: prerequisites, then record sets
//!            -> control_plane::edits  kept, in a journal or where the zone's records come from; then served
//! ```
//!
//! # The way of a change
//!
//! ```text
//! files -> control_plane::directory   watched; what is whole by itself goes on at once, what is not waits for what belongs to it
//!       -> manifest::load             only what changed is looked at and read again; problems with file, line and column
//!       -> control_plane::keeper      the only writer
//! etcd  -> control_plane::etcd        a list, then what happens after it: one transaction, one change
//! HTTP  -> admin::push                who may, and what it is; waits for the keeper's word
//!       -> manifest::collection       resources as they were put; those that cannot be served are set aside, or refuse the change
//!       -> control_plane::keeper
//!
//! keeper: manifest::check             what has to do with the change is checked again
//!      -> snapshot::compile           networks, zones, endpoints, views: what did not change is shared
//!      -> control_plane::store        kept for a start without the control plane; after ArcSwap, if nobody waits for a word
//!      -> ArcSwap                     served from now on
//!      -> status, metrics, events     generation, digest, the source's revision
//! ```
//! Zones that others have come on a way of their own. What is kept of them completes each manifest, and so do the zones that
//! catalogs list ([`manifest::catalog`]):
//!
//! ```text
//! primaries -> transfer::inward          a task for each zone: refresh, NOTIFY, expiry
//!           -> control_plane::keeper     one transfer, one generation; errors in it refuse it alone
//!           -> transfer::copies          kept when it is served
//! ```
//! A manifest with an error in it is refused whole, and the last good one goes on being served.
//!
//! # The way of a restart
//!
//! ```text
//! new process -> run::takeover          finds the old one at a path: or none, then it starts as usual
//! old         -> control_plane::freeze  all that was acknowledged is on disk, and nothing changes
//!             -> run::inherited         its sockets, and the lock of the state directory, for the new one
//! new         -> load, compile, bind    while the old one answers; if this fails, the old one goes on
//!             -> ready                  the old one reads no more, the new one answers and makes changes
//! old         -> listen::connections    goes on with those that it has, until they end
//! ```
//! Under systemd sockets are also left to it ([`run`] tells it of each), which passes them to whatever it starts next.
//!
//! # Invariants
//!
//! 1. One `ArcSwap`, one writer. A query is answered from one snapshot from start to end.
//! 2. `wire`, `snapshot` and `answer` know nothing of sockets, tokio or files.
//! 3. Nothing that a client sends can allocate without bound, block another client, or panic.
//! 4. A client sees its own view or REFUSED. What others answered is kept under the [route](snapshot::routes::RouteId) that
//!    it came by: two tenants share it only where the same rule asks the same servers.
//! 5. Whom a forwarder names counts only from a forwarder of the manifest, and by the snapshot that answers: a PROXY header
//!    goes to `answer` in front of each query, by every transport.
//! 6. Nothing that comes with a query is a label of a metric: labels are words of ours, and what the manifest and the
//!    configuration name.
//!    Queries are logged only where the manifest says so of their view, or the node's configuration of all; entries are
//!    dropped before a query waits.
//! 7. `unsafe` is in `listen::udp` alone.

pub mod admin;
pub mod answer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control_plane;
pub mod difference;
pub mod explain;
pub mod forward;
pub mod instruments;
pub mod listen;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod query_log;
pub mod run;
pub mod snapshot;
pub mod transfer;
pub mod wire;

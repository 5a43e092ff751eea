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
//! | room | what is in it | it knows of |
//! | --- | --- | --- |
//! | [`wire`] | names, record data, queries, replies | nothing |
//! | [`manifest`] | types, reading (`document`, `decode`, `load`, `master`), `check`, `connectivity`, `presets` of AWS services | `wire` |
//! | [`snapshot`] | what is compiled: `networks`, `forwarders`, `zones`, `endpoints`, `aliases`, `routes` to others, `views`, `autodefined`, `query_logs`; in `slots` and `names`, which share what does not change | `manifest`, `wire` |
//! | [`answer`] | who asks (`who`), which rule (`resolve`, by the `cut` that is responsible), what answers (`zone`, `endpoint`, `autodefined`, `known`), `dns64`, `trace`, `why` and `noted` | `snapshot`, `manifest`, `wire` |
//! | [`forward`] | asks others (`ask`): equal questions once (`flights`), `upstream` servers by rules, `recursion` from the root on; `read`s what they say; `cache` | `answer`, `snapshot`, `config` |
//! | [`listen`] | Do53: `udp`, `stream`, `limit`; encrypted: `stream` with `tls`, `https`, `quic`; `proxy` headers; all but UDP answer by a `responder`, and count among the `connections`; `dispatch` is what happens to each query around `answer`; `limit` bounds what goes to forged addresses, `unread` what clients do not read | `answer`, `forward`, `transfer`, `query_log`, `metrics` |
//! | [`control_plane`] | sources: `directory` watches, `etcd` follows, `change`s come by HTTP; `keeper` publishes what it has decided (`decide`), unless the `guard` holds deletions, `store` keeps, `edits` are what updates change, `freeze` hands over, `internet` follows `resolv.conf`, `status` tells | `manifest`, `snapshot`, `listen`, `config` |
//! | [`transfer`] | zones as a whole, out: `access` by address and key (`tsig`), `outgoing` transfers from the `history` of versions, `notify`, `update`; in: `inward` follows zones by a `schedule`, asks a `primary`, reads its `answer`, keeps `copies`; who has `notified` us | `answer`, `snapshot`, `forward`, `control_plane` |
//! | [`query_log`] | entries: from a `Tap` of who answers to the `writer`, which makes `json` or `dnstap` of them, and on to `sink`s | `answer`, `snapshot`, `config` |
//! | [`log`] | lines for standard error, which nobody waits for | `config` |
//! | [`metrics`] | counters of `workers`, and what is `watched` | what is served |
//! | [`admin`] | HTTP, in `places` that nobody keeps from others: probes, metrics, status, the cache; `push` takes changes, from those whom `access` knows; `places` are few, and `patient` is so for a while only; `events` tells of generations, `openapi` of itself | `control_plane`, `metrics`, `forward` |
//! | [`difference`] | which answers change from one snapshot to another | `explain` |
//! | [`explain`] | how an answer comes about, as data | `answer`, `forward` |
//! | [`config`], [`run`], [`cli`] | `zonal.yaml`; the wiring of a server; the commands | all |
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

//! lead-intake takes the leads of website forms and never loses one.
//!
//! # The life of a lead
//! A **submission** is what a client sent ([`lead::submission`]). It is validated into a new lead, all
//! field errors at once ([`lead::validate`]). The [`intake`] plans which destinations it goes to and
//! whether consent withholds it from some ([`delivery::plan`]), stores the lead and its **deliveries** in
//! one transaction ([`store`]), starts the first **attempts**, and waits for the inline ones until the
//! deadline. From then on each destination's **lane** ([`dispatch`]) claims what is due, makes one
//! attempt ([`destination`]) and settles it: delivered, again later, or a **dead letter**
//! ([`delivery::retry`]). A lease is a due date in the future, so a crash needs no recovery. What becomes of
//! leads is told where people read it ([`dispatch::story`]), and operators hear of a destination that has
//! stopped ([`dispatch::alerts`]); both only follow what the store says.
//!
//! # Many processes
//! Processes that share a store know nothing of each other. What they share is kept in it: claims, how a
//! destination stands ([`delivery::standing`]), turns and paces ([`destination::commons`]). While it cannot be asked
//! each goes on alone with what cannot wait.
//!
//! # A whole store
//! [`store::moving`] brings one to another engine and compares both. It knows the tables from
//! [`store::archive::tables`] alone: whoever adds one says there what becomes of it.
//!
//! # A new destination
//! A folder in [`destination`] with its settings, the trait [`destination::Destination`] and the judgement of its
//! answers; a line in each table of [`destination::registry`] and in `config/destinations.rs`; its defaults in
//! `config/default.toml`; a stand-in that keeps to the vendor's contract, a file of black-box tests, and its faults in
//! `tests/it/conformance`, which writes `docs/faults.md`. It never meets the store: what a repeat must know it writes
//! into its notebook ([`destination::Notebook`]), what it shares with other processes it asks of the [`destination::Commons`], and
//! [`destination::api`] calls JSON APIs at the pace that they ask for.
//!
//! # Decided, and why
//! - Due dates travel as durations, and the store adds them to its own clock: processes whose clocks differ agree.
//! - With an idempotency key the lead's id is a hash of form and key, so that the uniqueness of ids *is* the
//!   idempotency, in the store and in the sheet.
//! - A lease is the attempt's timeout, the time for which the vendor may still apply what was sent
//!   ([`destination::Destination::quiet_period`]) and some slack: a lost attempt is not repeated while it may land.
//! - A [`delivery::DeliveryError`] shows its code alone and so can be logged; its detail is for the store and for people.
//! - What a rule of ours forbids to send is `cancelled`: it is neither delivered nor dead. Who has not consented to what asks
//!   for it by now is a dead letter all the same: once consent is given it can be replayed.
//! - A mail whose vendor may have forgotten its key is repeated once more: twice is better than never.
//! - A commit is waited for `store.timeout` where no second home can take the lead, not up to the intake's deadline: while a
//!   store is away every visitor would wait as long. A form without a key may then come twice.
//! - While the store is away a key that has a row in the sheet, and no mark of the same submission, is answered 503: whose row that
//!   is only the store knows.
//! - A lead is taken for poison only by a success of another that began after its own refusal, and never while its destination
//!   is parked: a broken destination may refuse each lead twice, and must not kill one.
//! - Webhooks may go to private addresses. Whoever configures a URL runs the service, and an n8n or a CRM in the same network
//!   is a common receiver; no visitor gives a URL that is called.
//! - The sheet is written by whoever brings the first row, until none waits: nothing has to be started or stopped. Rows
//!   are appended where the answer says where they went; `crm_synced` and the failing deliveries are told from two small
//!   tables that the settling transaction fills, so that no event can be lost.
//! - A delivery is a row from the moment of its lead's accept. A plan packed into the lead's row would spare SQLite half of
//!   its work before the answer and add to it afterwards, for each plan is unpacked when the first attempt is settled, and
//!   claims, counts and lists would have to read both.
//! - A transaction of SQLite that finds four or more waiting waits for those on their way, a millisecond at most
//!   (PostgreSQL calls this `commit_delay` and `commit_siblings`): fewer never wait, so a quiet service answers at once.
//! - Confirmations are kept from the addresses that our own mails come from and go to, not from their domains: a sender
//!   at a public mail provider would otherwise confirm to nobody there.
//! - A process that cannot open its store when it starts ends with exit code 1 and leaves the next try to its supervisor. It
//!   could not take leads for the sheet alone: the key of address hashes, the marks of what is parked and the schema itself are in
//!   the store; and one that waits by itself would look alive under a URL that is wrong. In compose and Kubernetes that
//!   is what restarts are for. While the store of a running process is away, the sheet takes its leads.
//! - A service's log lines are written by a thread of ours ([`telemetry`]): standard error may be a pipe that nobody reads,
//!   and whoever writes to it then waits for ever. `tracing-appender` would do half of it: its bound is a number of lines,
//!   for all of which it takes memory at once, the log never says what it dropped, and at the end it gives a full queue a
//!   tenth of a second. A panic is a line of that log, without words that may quote a lead.
//! - One TLS and crypto provider, ring, installed first thing in `main`; the roots are the platform's.
//!
//! # Who may know whom
//! Imports point down only: `main` → [`cli`] → [`app`] → [`config`] → [`http`], the engines in [`store`] and the
//! folders of [`destination`] → `intake · dispatch` → the traits in [`store`] and [`destination`] →
//! [`delivery`] → [`lead`] → [`clock`], [`id`], [`secret`], [`report`], [`units`]. [`net`] is the one outbound HTTP client,
//! [`telemetry`] the one place that sets up the log.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
#[cfg(feature = "demo")]
pub mod demo;
pub mod destination;
pub mod dispatch;
pub mod http;
pub mod id;
pub mod intake;
pub mod lead;
pub mod net;
pub mod report;
pub mod secret;
pub mod store;
pub mod telemetry;
pub mod units;

/// Hundreds of submits wait for one commit, each with a hundred small pieces of memory that other threads give
/// back: the system's allocator spends more time on that than SQLite does on the leads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

//! What will be done in a round, drawn from the seed and the round's number alone. Pure.

use std::time::Duration;

use fastrand::Rng;

use crate::wire::{Ask, When};

/// Where the service is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// How it is called in what is printed.
    pub(crate) name: &'static str,
    /// What is waited for.
    pub(crate) at: At,
    /// Whether it is met only while the store is away.
    without_store: bool,
}

/// What is waited for before the kill.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// A line that the service logs begins so.
    Log(&'static str),
    /// A request on one of the service's wires.
    Wire(Line, Ask, When),
    /// Some moment.
    Random,
    /// Some moment of its start: it is killed twice, under load and while it comes back.
    Start,
    /// Some moment of its orderly stop.
    Stop,
}

/// Which wire of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Line {
    /// From the visitors to the service.
    Front,
    /// To Google.
    Sheet,
    /// To the mail server.
    Mail,
    /// To the webhook.
    Hook,
    /// To HubSpot.
    HubSpot,
    /// To Pipedrive.
    Pipedrive,
    /// To PostgreSQL.
    Database,
}

impl Line {
    /// Those that lead to vendors.
    pub(crate) const VENDORS: [Self; 5] =
        [Self::Sheet, Self::Mail, Self::Hook, Self::HubSpot, Self::Pipedrive];
}

/// The stages of a request that everything is tried at.
macro_rules! wire {
    ($name:literal, $line:ident, $ask:expr) => {
        [
            point(concat!($name, "/before"), At::Wire(Line::$line, $ask, When::Before)),
            point(concat!($name, "/late"), At::Wire(Line::$line, $ask, When::Late)),
            point(concat!($name, "/after"), At::Wire(Line::$line, $ask, When::After)),
        ]
    };
}

const fn point(name: &'static str, at: At) -> Point {
    Point { name, at, without_store: false }
}

const fn without_store(name: &'static str, at: At) -> Point {
    Point { name, at, without_store: true }
}

/// What the service says of itself.
const SAID: [Point; 11] = [
    point("log/listening", At::Log("listening")),
    point("log/accepted", At::Log("accepted")),
    point("log/repeat", At::Log("repeat")),
    point("log/appended", At::Log("appended to the sheet")),
    point("log/made-the-tab", At::Log("made the tab that leads go to")),
    point("log/delivered", At::Log("delivered")),
    point("log/attempt-failed", At::Log("attempt failed; it will be tried again")),
    without_store("log/not-accepted", At::Log("not accepted")),
    without_store("log/kept-in-the-sheet", At::Log("kept in the second home")),
    without_store("log/entered-from-the-sheet", At::Log("entered the store from the second home")),
    without_store("log/cannot-settle", At::Log("cannot settle yet")),
];

/// What it asks for, and whether it has been done.
const ASKED: [[Point; 3]; 18] = [
    wire!("submit", Front, Ask::Line("POST ", "/api/submit")),
    wire!("sheet/token", Sheet, Ask::Line("POST ", "/token")),
    wire!("sheet/read", Sheet, Ask::Line("GET ", "/v4/")),
    wire!("sheet/append", Sheet, Ask::Line("POST ", ":append")),
    wire!("sheet/mark-or-header", Sheet, Ask::Line("POST ", ":batchUpdate")),
    wire!("mail/sender", Mail, Ask::Line("MAIL", "")),
    wire!("mail/recipient", Mail, Ask::Line("RCPT", "")),
    wire!("mail/data", Mail, Ask::Line("DATA", "")),
    wire!("mail/dot", Mail, Ask::End("\r\n.\r\n")),
    wire!("hook", Hook, Ask::Line("POST ", "")),
    wire!("hubspot/create", HubSpot, Ask::Line("POST ", "/contacts")),
    wire!("hubspot/update", HubSpot, Ask::Line("PATCH ", "/contacts")),
    wire!("pipedrive/search", Pipedrive, Ask::Line("GET ", "/persons/search")),
    wire!("pipedrive/person", Pipedrive, Ask::Line("POST ", "/v2/persons")),
    wire!("pipedrive/lead", Pipedrive, Ask::Line("POST ", "/v1/leads")),
    wire!("pipedrive/deal", Pipedrive, Ask::Line("POST ", "/v2/deals")),
    wire!("pipedrive/note", Pipedrive, Ask::Line("POST ", "/v1/notes")),
    wire!("database", Database, Ask::Any),
];

/// When nothing in particular happens.
const WHENEVER: [Point; 3] =
    [point("random", At::Random), point("start", At::Start), point("stop", At::Stop)];

/// Every named point.
pub(crate) fn points() -> impl Iterator<Item = &'static Point> {
    SAID.iter().chain(ASKED.iter().flatten()).chain(&WHENEVER)
}

/// The store that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// What else goes wrong in a round, for a bounded time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// Connections to vendors are reset.
    Cut,
    /// What is sent to vendors vanishes.
    Swallowed,
    /// The database is gone and comes back: SQLite's file is locked, PostgreSQL is stopped.
    StoreAway,
    /// PostgreSQL cannot be reached: connections are reset or vanish.
    StoreCut,
    /// SQLite's disk is full.
    DiskFull,
    /// The wall clock jumps by hours and days.
    Clock,
}

/// One kill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    /// Where.
    pub(crate) point: &'static Point,
    /// At which time that it comes to that.
    pub(crate) nth: u32,
    /// Which replica.
    pub(crate) victim: usize,
    /// How long to let it be before, in milliseconds: in a long round after the kill before was due, otherwise after it
    /// was made good.
    pub(crate) calm: u64,
    /// How long it stays dead, in milliseconds.
    pub(crate) dead: u64,
}

/// A round.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The round's number.
    pub(crate) number: u64,
    /// What goes wrong beside the kills.
    pub(crate) trouble: Trouble,
    /// For how long at a stretch, in a long round; otherwise for seconds, again and again.
    pub(crate) lasts: Option<Duration>,
    /// Whether vendors answer wrongly now and then.
    pub(crate) faults: bool,
    /// Whether Pipedrive gets deals in the place of leads.
    pub(crate) deals: bool,
    /// Whether its search index lags.
    pub(crate) lags: bool,
    /// The kills.
    pub(crate) kills: Vec<Kill>,
    /// Everything else that is drawn.
    pub(crate) rng: Rng,
}

/// What can be had on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) engine: Engine,
    pub(crate) replicas: usize,
    pub(crate) clock: bool,
    pub(crate) disk: bool,
    /// Whether rounds are long.
    pub(crate) long: bool,
}

impl Plan {
    /// Draws a round of so many kills.
    pub(crate) fn draw(seed: u64, number: u64, kills: usize, means: Means) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number));
        let trouble = if means.long { long_trouble(number, means) } else { trouble(&mut rng, means) };
        let faults = rng.u8(..3) == 0;
        let (deals, lags) = (rng.bool(), rng.bool());
        let no_store = matches!(trouble, Trouble::StoreAway | Trouble::StoreCut | Trouble::DiskFull);
        let fits = |point: &&Point| match point.at {
            At::Wire(Line::Database, ..) => means.engine == Engine::Postgres,
            At::Wire(Line::Pipedrive, Ask::Line(_, "/v1/leads"), _) => !deals,
            At::Wire(Line::Pipedrive, Ask::Line(_, "/v2/deals"), _) => deals,
            _ => no_store || !point.without_store,
        };
        let all: Vec<_> = points().filter(fits).collect();
        let mut kills: Vec<_> = (0..kills)
            .map(|_| {
                // A third at random, and while the store is away often where that matters.
                let point = match rng.u8(..12) {
                    0..3 => &WHENEVER[0],
                    3 => &WHENEVER[1],
                    4 => &WHENEVER[2],
                    5..8 if no_store => &SAID[rng.usize(7..SAID.len())],
                    _ => all[rng.usize(..all.len())],
                };
                Kill {
                    point,
                    nth: 1 + rng.u32(..4),
                    victim: rng.usize(..means.replicas),
                    calm: rng.u64(..250),
                    dead: rng.u64(..150),
                }
            })
            .collect();
        let lasts = means.long.then(|| stretch(&mut rng, &mut kills));
        Self { number, trouble, lasts, faults, deals, lags, kills, rng }
    }
}

/// The shortest and the longest trouble of a long round, in milliseconds.
const MINUTES: std::ops::Range<u64> = 120_000..300_000;

/// How long a trouble lasts that lasts for minutes. The kills come meanwhile, all or only the later ones, and may go on when
/// it has just ended; some stay dead for longer than whatever they held.
fn stretch(rng: &mut Rng, kills: &mut [Kill]) -> Duration {
    let lasts = rng.u64(MINUTES);
    let first = rng.u64(..lasts);
    let mut moments: Vec<_> = kills.iter().map(|_| rng.u64(first..lasts + lasts / 10)).collect();
    moments.sort_unstable();
    let mut before = 0;
    for (kill, moment) in kills.iter_mut().zip(moments) {
        kill.calm = moment - before;
        before = moment;
        if rng.u8(..3) == 0 {
            kill.dead = rng.u64(..20_000);
        }
    }
    Duration::from_millis(lasts)
}

fn trouble(rng: &mut Rng, means: Means) -> Trouble {
    let possible: Vec<_> = [
        Trouble::None,
        Trouble::None,
        Trouble::Cut,
        Trouble::Swallowed,
        Trouble::StoreAway,
        Trouble::StoreCut,
        Trouble::DiskFull,
        Trouble::Clock,
    ]
    .into_iter()
    .filter(|trouble| match trouble {
        Trouble::StoreCut => means.engine == Engine::Postgres,
        Trouble::DiskFull => means.engine == Engine::Sqlite,
        _ => true,
    })
    .collect();
    let drawn = possible[rng.usize(..possible.len())];
    // What this machine cannot do changes no other round.
    let is_possible = match drawn {
        Trouble::DiskFull => means.disk,
        Trouble::Clock => means.clock,
        _ => true,
    };
    if is_possible { drawn } else { Trouble::None }
}

/// Long rounds are few: each kind of trouble has its turn.
fn long_trouble(number: u64, means: Means) -> Trouble {
    let of_the_store = match means.engine {
        Engine::Sqlite if means.disk => Trouble::DiskFull,
        Engine::Sqlite => Trouble::StoreAway,
        Engine::Postgres => Trouble::StoreCut,
    };
    match number % 4 {
        0 => Trouble::Cut,
        1 => Trouble::StoreAway,
        2 => Trouble::Swallowed,
        _ => of_the_store,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const MEANS: Means =
        Means { engine: Engine::Postgres, replicas: 3, clock: true, disk: true, long: false };

    #[test]
    fn the_same_seed_is_the_same_round() {
        let draw = |seed, number| format!("{:?}", Plan::draw(seed, number, 5, MEANS));
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(7, 4));
        assert_ne!(draw(7, 3), draw(8, 3));
    }

    #[test]
    fn every_point_has_a_name_of_its_own_and_is_drawn() {
        let names: BTreeSet<_> = points().map(|point| point.name).collect();
        assert_eq!(names.len(), points().count());
        let drawn: BTreeSet<_> = (0..2_000)
            .flat_map(|number| Plan::draw(1, number, 5, MEANS).kills)
            .map(|kill| kill.point.name)
            .collect();
        assert_eq!(drawn, names);
    }

    #[test]
    fn a_long_trouble_lasts_for_minutes_and_kills_come_meanwhile() {
        let mut troubles = BTreeSet::new();
        for number in 0..400 {
            let plan = Plan::draw(1, number, 5, Means { long: true, ..MEANS });
            let lasts = plan.lasts.unwrap().as_millis() as u64;
            assert!(MINUTES.contains(&lasts));
            let last: u64 = plan.kills.iter().map(|kill| kill.calm).sum();
            assert!(last < lasts + lasts / 10, "they end when it ends, or soon after");
            troubles.insert(format!("{:?}", plan.trouble));
        }
        assert_eq!(troubles, ["Cut", "StoreAway", "StoreCut", "Swallowed"].map(str::to_owned).into());
        assert_eq!(Plan::draw(1, 1, 5, MEANS).lasts, None);
    }

    #[test]
    fn what_cannot_be_had_is_not_drawn() {
        let poor = Means { engine: Engine::Sqlite, replicas: 1, clock: false, disk: false, long: false };
        for number in 0..500 {
            let plan = Plan::draw(1, number, 5, poor);
            assert!(!matches!(plan.trouble, Trouble::StoreCut | Trouble::DiskFull | Trouble::Clock));
            assert!(plan.kills.iter().all(|kill| kill.victim == 0 && kill.point.name != "database/after"));
        }
    }
}

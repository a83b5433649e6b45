//! What can go wrong at Google, and with which calls.

use std::time::Duration;

use super::calls::Kind;

/// What a call meets.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with Google's body for it; nothing is done.
    Status(u16),
    /// This status with this message; nothing is done.
    Refuse(u16, &'static str),
    /// A status with a page of HTML, as a proxy gives it; nothing is done.
    Html(u16),
    /// 429 with Google's quota body; nothing is done.
    Quota,
    /// The same, with a `Retry-After` of so many seconds.
    QuotaFor(u64),
    /// The connection is closed and nothing is done.
    Drop,
    /// Nothing is done and no answer comes.
    Hang,
    /// Done, and then this status.
    ApplyThenStatus(u16),
    /// Done, and the connection closed without an answer.
    ApplyThenDrop,
    /// Done, and no answer comes.
    ApplyThenHang,
    /// Done, and a 200 whose body is cut.
    ApplyThenCut,
    /// Done, and a 200 whose body stops in the middle and never ends.
    ApplyThenStall,
    /// Done, and a 200 with `{}`.
    ApplyThenEmpty,
    /// The connection is closed, and the work is done when [`Google::apply_late`](super::Google::apply_late) says so.
    Late,
    /// 200, but one row fewer was written than was sent, as under a filter.
    LoseRow,
    /// 200, but the rows were put here, as under a filter; what stood there is pushed down.
    PutAt(&'static str),
    /// Another program appends this row at the same moment: both found the same place to be free.
    Race(&'static [&'static str]),
    /// A person turns the rows below the header of every tab upside down, and then it is done.
    TurnFirst,
    /// Answered after this long.
    Slow(Duration),
    /// Waits for [`super::Google::go_on`], and then it is done.
    Wait,
}

/// Which calls a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Reads.
    Reads,
    /// `values.append`.
    Appends,
    /// Every other write.
    Writes,
    /// Any call.
    Any,
}

impl On {
    pub(super) fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Reads => kind == Kind::Read,
            Self::Appends => kind == Kind::Append,
            Self::Writes => kind == Kind::Write,
            Self::Any => true,
        }
    }
}

//! A row of the table: what a scene saw, in words.

/// What a scene saw.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) fault: &'static str,
    /// What the visitor got.
    pub(super) visitor: &'static str,
    pub(super) first: First,
    /// How many attempts there were in the end.
    pub(super) attempts: usize,
    /// What the receipt says beside the vendor's id.
    pub(super) note: Option<String>,
    /// What the vendor had after the first attempt, and in the end.
    pub(super) has: (String, String),
}

/// What the store says after the first attempt.
#[derive(Debug)]
pub(super) struct First {
    pub(super) state: String,
    pub(super) outcome: String,
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) wait: Wait,
    /// Whether everything that goes to the destination waits.
    pub(super) is_held: bool,
}

/// When the next attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// When the schedule says so.
    Schedule,
    /// Not before so many minutes have passed.
    Minutes(i64),
}

/// The head of every table.
pub(super) const HEAD: &str = "| What goes wrong | The visitor gets | The store says, after the first attempt | Mended and due, it is delivered by | The vendor has |\n\
     | --- | --- | --- | --- | --- |\n";

impl Row {
    /// The row as Markdown.
    pub(super) fn markdown(&self) -> String {
        let cells = [
            self.fault.to_owned(),
            self.visitor.to_owned(),
            self.first.markdown(),
            self.end(),
            match &self.has {
                (before, after) if before == after => before.clone(),
                (before, after) => format!("{before}, then {after}"),
            },
        ];
        format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    }

    fn end(&self) -> String {
        let note = self.note.as_ref().map(|note| format!("<br>*{}*", quoted(note))).unwrap_or_default();
        let end = match (self.first.state.as_str(), self.attempts) {
            ("delivered", _) => return "–".to_owned(),
            ("dead", number) => format!("a replay, attempt {number}"),
            (_, number) => format!("attempt {number}"),
        };
        format!("{end}{note}")
    }
}

impl First {
    fn markdown(&self) -> String {
        let wait = match self.wait {
            Wait::Schedule => String::new(),
            Wait::Minutes(minutes) if minutes % 60 == 0 => format!(", not before {} h", minutes / 60),
            Wait::Minutes(minutes) => format!(", not before {minutes} min"),
        };
        let held = if self.is_held { "; everything for this destination waits" } else { "" };
        let code = &self.code;
        let head = match (self.state.as_str(), self.outcome.as_str()) {
            ("delivered", _) => "**delivered**".to_owned(),
            ("dead", "rejected") => format!("**dead letter** · Rejected `{code}`"),
            ("pending", "blocked") => format!("**parked** · Blocked `{code}`"),
            ("pending", "transient") => format!("**again{wait}** · Transient `{code}`{held}"),
            ("pending", "unknown") => format!("**again{wait}** · Unknown `{code}`{held}"),
            other => panic!("nothing in the table's words for {other:?}"),
        };
        if self.detail.is_empty() { head } else { format!("{head}<br>*{}*", quoted(&self.detail)) }
    }
}

/// A text for people as it is, safe in a cell.
fn quoted(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('*', "\\*")
        .replace('\n', " ")
}

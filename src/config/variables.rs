//! The environment variables that have a name of their own, and what each of them sets.

use super::place::Path;

/// A variable and the setting that it is.
pub(super) struct Variable {
    /// Its name; `NAME_FILE` is its twin.
    pub(super) name: &'static str,
    /// The setting; empty where it is none.
    pub(super) path: &'static str,
}

const fn variable(name: &'static str, path: &'static str) -> Variable {
    Variable { name, path }
}

/// The configuration file.
pub(super) const CONFIG: &str = "LEAD_INTAKE_CONFIG";

/// The service account's key: a path, or the key itself.
pub(super) const CREDENTIALS: [(&str, &str); 2] =
    [("GOOGLE_APPLICATION_CREDENTIALS", "credentials"), ("GOOGLE_CREDENTIALS_JSON", "credentials_json")];

/// What sends mail, and to whom on the team: each of these turns both mails on. `SMTP_URL` is not needed
/// where `mail.transport` is an API.
pub(super) const MAIL: [(&str, &str); 3] = [
    ("SMTP_URL", "mail.smtp_url"),
    ("EMAIL_FROM", "mail.from"),
    ("EMAIL_NOTIFY_TO", "destinations.notification.to"),
];

/// All of them.
pub(super) const ALL: [Variable; 21] = [
    variable("GOOGLE_SHEETS_ID", "destinations.sheet.spreadsheet_id"),
    variable(CREDENTIALS[0].0, "destinations.sheet.credentials"),
    variable(CREDENTIALS[1].0, "destinations.sheet.credentials_json"),
    variable("HUBSPOT_ACCESS_TOKEN", "destinations.hubspot.access_token"),
    variable("PIPEDRIVE_API_TOKEN", "destinations.pipedrive.api_token"),
    variable("PIPEDRIVE_DOMAIN", "destinations.pipedrive.domain"),
    variable("ZAPIER_WEBHOOK_URL", "destinations.zapier.url"),
    variable("MAKE_WEBHOOK_URL", "destinations.make.url"),
    variable("CRM_WEBHOOK_URL", "destinations.crm.url"),
    variable("CRM_WEBHOOK_SECRET", "destinations.crm.secret"),
    variable(MAIL[0].0, MAIL[0].1),
    variable(MAIL[1].0, MAIL[1].1),
    variable(MAIL[2].0, MAIL[2].1),
    variable("DATABASE_URL", "store.url"),
    variable("ALLOWED_ORIGINS", "server.allowed_origins"),
    variable("TRUSTED_PROXIES", "server.trusted_proxies"),
    variable("IP_HASH_KEY", "server.ip_hash_key"),
    variable("BIND", "server.bind"),
    variable("OPERATOR_TOKEN", "operator.token"),
    variable("RUST_LOG", "log.filter"),
    variable(CONFIG, ""),
];

/// The variable of its own that sets `path`.
fn named(path: &Path) -> Option<&'static str> {
    let path = path.to_string();
    ALL.iter().find(|variable| variable.path == path).map(|variable| variable.name)
}

/// What to do when `path` is not set.
pub(super) fn how_to_set(path: &Path) -> String {
    let variable = named(path).map_or_else(|| path.variable(), str::to_owned);
    format!("set it in the file, or by {variable}")
}

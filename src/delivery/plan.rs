//! Which destinations a lead goes to. Pure.

use super::lane_settings::LaneSettings;
use crate::id::DestinationName;
use crate::lead::NewLead;

/// What the plan must know of one destination.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Its name.
    pub destination: &'a DestinationName,
    /// How it is fed.
    pub settings: &'a LaneSettings,
}

/// What the plan says of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The lead goes there.
    Goes,
    /// It would go there if the person had consented.
    Withheld,
    /// The form does not feed it.
    Elsewhere,
}

/// Whether a lead goes along a route.
pub fn verdict(lead: &NewLead, route: Route<'_>) -> Verdict {
    let settings = route.settings;
    let fed = settings.forms.as_ref().is_none_or(|forms| forms.contains(&lead.form_name));
    match (fed, settings.requires_consent && !lead.consent_given) {
        (false, _) => Verdict::Elsewhere,
        (true, true) => Verdict::Withheld,
        (true, false) => Verdict::Goes,
    }
}

//! The name that was probably meant.

use super::place::fold;

/// The one of `names` that is nearest to `typed`, if one is near enough to be worth a question.
pub(super) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = fold(typed);
    names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&typed, &fold(name)), name))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A hint for an unknown name: the nearest one, or all there are.
pub(super) fn instead(typed: &str, mut names: Vec<&str>) -> String {
    if let Some(name) = nearest(typed, names.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    names.sort_unstable();
    names.dedup();
    let all: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match all.as_slice() {
        [] => "take it out".to_owned(),
        [one] => format!("the one there is: {one}"),
        [most @ .., last] => format!("there are {} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        assert_eq!(nearest("bnid", ["bind", "body_limit"]), Some("bind"));
        assert_eq!(nearest("Body-Limit", ["bind", "body_limit"]), Some("body_limit"));
        assert_eq!(nearest("colour", ["bind", "body_limit"]), None);
        assert_eq!(instead("colour", vec!["b", "a", "c"]), "there are `a`, `b` and `c`");
    }
}

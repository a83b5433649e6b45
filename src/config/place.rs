//! Where a setting is written, and what it is called: the two things every problem names.

use std::fmt;
use std::sync::Arc;

/// Where a value comes from. The order is the one in which a person walks through problems: the
/// file from top to bottom, then the variables, then the flags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the configuration file.
    File {
        /// The file, as the operator named it.
        path: Arc<str>,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(Arc<str>),
    /// A file that an environment variable names.
    VariableFile {
        /// The variable, with its `_FILE`.
        variable: Arc<str>,
        /// What it names.
        path: Arc<str>,
    },
    /// A flag of the command line.
    Flag(Arc<str>),
    /// `config/default.toml`, embedded in the binary.
    BuiltIn,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::VariableFile { variable, path } => write!(f, "variable {variable} ({path})"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::BuiltIn => f.write_str("not set"),
        }
    }
}

/// The way to a setting: `destinations.crm.timeout`, `log.outputs[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<String>);

impl Path {
    /// The way that a dotted text without quotes gives.
    pub(super) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }

    /// One step further.
    pub(super) fn join(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(key.to_owned());
        Self(steps)
    }

    /// The last step.
    pub(super) fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        let steps = self.0.iter().map(|step| fold(step).to_uppercase());
        format!("LEAD_INTAKE__{}", steps.collect::<Vec<_>>().join("__"))
    }
}

/// A name as an environment variable can hold it: small letters, digits and `_`.
pub(super) fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            if position > 0 && !step.starts_with('[') {
                f.write_str(".")?;
            }
            let plain = step.chars().all(|c| c.is_ascii_alphanumeric() || "_-[]".contains(c));
            if plain && !step.is_empty() { f.write_str(step)? } else { write!(f, "{step:?}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_file_writes_it() {
        assert_eq!(Path::of("destinations.crm.retry").join("[2]").to_string(), "destinations.crm.retry[2]");
        let form = Path::of("forms").join("Contact us").join("region");
        assert_eq!(form.to_string(), "forms.\"Contact us\".region");
        assert_eq!(form.variable(), "LEAD_INTAKE__FORMS__CONTACT_US__REGION");
    }
}

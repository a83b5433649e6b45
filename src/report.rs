//! An error with all its causes on one line, for the one boundary that logs it.

use std::error::Error;
use std::fmt;

/// Shows `error: cause: cause`. An error's own `Display` never repeats its source, so nothing is
/// said twice.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
